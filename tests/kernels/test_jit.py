"""Kernels that other kernels call: compiled as a part of those, and again when Python calls them."""

import numba
import numpy as np
import pytest
from numba.core.caching import NullCache

from annvq.kernels.jit import _Inner, kernel


@kernel
def twice(values):
    total = 0.0
    for value in values:
        total += 2.0 * value
    return total


@kernel
def outer(values):
    return twice(values) + 1.0


@kernel(inline="always")
def thrice(values):
    return 3.0 * values.sum()


@kernel
def around(values):
    return thrice(values)


for made in (twice, outer, thrice, around):
    made._cache = NullCache()  # what a run before compiled would be loaded whole


def test_an_inner_kernel_is_compiled_for_python_when_python_calls_it():
    values = np.arange(4, dtype=np.float64)
    assert outer(values) == 13.0
    assert [type(found.entry_point) for found in twice.overloads.values()] == [_Inner]
    assert twice(values) == 12.0  # the same types: nothing that can be called was there
    assert _Inner not in [type(found.entry_point) for found in twice.overloads.values()]
    assert outer(values) == 13.0
    assert outer(values.astype(np.float32)) == 13.0  # other types compile both anew
    assert twice(values.astype(np.float32)) == 12.0


def test_an_inlined_kernel_can_be_called_by_itself():
    values = np.arange(4, dtype=np.float64)
    assert around(values) == thrice(values) == 18.0


def with_numbas_functions(n):
    made = np.full((n, 2), 1.5)
    made[:, :1] = np.zeros((n, 1))
    return made.sum() + max(n, 2) + np.array([3.0, float(n)]).min()


@pytest.mark.parametrize("first", ["kernel", "njit"])
def test_numbas_own_functions_serve_kernels_and_others(first):
    # What a kernel takes of Numba has no machine code of its own; whoever else asks for it gets a working one.
    ours = kernel(with_numbas_functions)
    ours._cache = NullCache()
    theirs = numba.njit(with_numbas_functions)
    functions = (ours, theirs) if first == "kernel" else (theirs, ours)
    for n in (np.int16(5), np.int32(5)) if first == "kernel" else (np.uint16(5), np.uint32(5)):
        assert [function(n) for function in functions] == [15.5, 15.5]


def test_an_error_inside_of_a_part_reaches_python():
    @kernel
    def part(values, n):
        return values.reshape((n, 3)).sum()

    @kernel
    def whole(values, n):
        return part(values, n) + 1.0

    whole._cache = NullCache()
    assert whole(np.ones(6), 2) == 7.0
    with pytest.raises(ValueError, match="size of new array"):
        whole(np.ones(6), 4)
