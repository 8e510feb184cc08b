"""Kernels that other kernels call: compiled as a part of those, and again when Python calls them."""

import numpy as np
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
