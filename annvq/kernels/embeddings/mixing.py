"""A hash of whole numbers that is the same in NumPy, torch and Numba: nothing has to be stored for it."""

from __future__ import annotations

from typing import Any

from annvq.kernels.compile.jit import kernel

START, STEP = 0x3C6EF372, 0x1E3779B9  # odd-spaced: what ids above 2^32 and second numbers add


def mix(x: Any) -> Any:
    """Return 32 well-mixed bits of whole numbers (int64 array or tensor, or an int): a bijection of the low 32.

    Shifts and odd multiplications of Wellons' "lowbias32" family; every product stays below 2^63.
    """
    x = x & 0xFFFFFFFF
    x = x ^ (x >> 16)
    x = (x * 0x21F0AAAD) & 0xFFFFFFFF
    x = x ^ (x >> 15)
    x = (x * 0x735A2D97) & 0xFFFFFFFF
    return x ^ (x >> 15)


def hash_pair(x: Any, y: Any, seed: int) -> Any:
    """Return 32 bits of two whole numbers (int64, broadcast against each other) and a seed."""
    return mix(mix(mix(x) + START * (x >> 32) + seed) + STEP * y)


mix_kernel = kernel(mix)
