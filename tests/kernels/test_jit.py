"""Kernels that other kernels call: compiled as a part of those, and again when Python calls them."""

import gc
import subprocess
import sys

import numba
import numpy as np
import pytest
from numba.core.caching import NullCache

from annvq.kernels.compile.jit import _Inner, kernel
from annvq.kernels.compile.scratch import empty, zeros


@kernel
def twice(values):
    total = 0.0
    for value in values:
        total += 2.0 * value
    return total


@kernel
def outer(values):
    return twice(values) + 1.0


for made in (twice, outer):
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


def with_numbas_functions(n):
    made = np.full((n, 2), 1.5)
    made[:, :1] = np.zeros((n, 1))
    return made.sum() + max(n, 2) + np.array([3.0, float(n)]).min()


@pytest.mark.parametrize("first", ["kernel", pytest.param("njit", marks=pytest.mark.slow)])
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


@kernel
def scratched(n):
    sums, flags = zeros((n, 3), np.float64), zeros(n, np.bool_)
    some, codes = empty(2, np.int64), zeros((1, n, 2), np.uint8)
    some[:] = 7
    return sums, flags, some, codes


@pytest.mark.parametrize("n", [0, 1, 33])
def test_arrays_that_a_kernel_makes_are_those_of_numpy(n):
    sums, flags, some, codes = scratched(n)
    expected = np.zeros((n, 3)), np.zeros(n, np.bool_), np.array([7, 7]), np.zeros((1, n, 2), np.uint8)
    for found, wanted in zip((sums, flags, some, codes), expected, strict=True):
        assert found.dtype == wanted.dtype
        assert found.flags.c_contiguous
        assert np.array_equal(found, wanted)


def test_compiling_leaves_the_garbage_collector_as_it_was():
    @kernel
    def once(n):
        return n + 1

    once._cache = NullCache()
    gc.disable()
    try:
        once(1)
        assert not gc.isenabled()
    finally:
        gc.enable()
    once(1.0)
    assert gc.isenabled()


_BESIDE_OTHERS = """
import numba
import numpy as np
from numba.core.caching import NullCache

from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import empty


@kernel
def ours(n):
    made = empty(n, np.float64)
    made[0] = 1.0
    return made[0]


@numba.njit(parallel=True)
def theirs(n):
    found = np.zeros(n)
    for i in numba.prange(n):
        made = np.empty(5)
        made[0] = i
        found[i] = made[0]
    return found


ours._cache = NullCache()
assert ours(3) == 1.0
assert theirs(7).tolist() == list(range(7))
"""


def test_what_is_compiled_for_kernels_does_not_reach_the_functions_of_others():
    """Numba's parallel loops have the error model of kernels, and took functions of Numba's own that were parts."""
    subprocess.run([sys.executable, "-c", _BESIDE_OTHERS], check=True)
