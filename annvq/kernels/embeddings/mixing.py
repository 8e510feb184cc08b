"""A hash of whole numbers that is the same in NumPy, torch and Numba, and that nothing has to be stored for."""

from __future__ import annotations

from typing import Any

from annvq.kernels.compile.jit import kernel

START, STEP = 0x3C6EF372, 0x1E3779B9  # factors of the upper 32 bits of ids, and of second numbers


def mix(x: Any) -> Any:
    """Return 32 well-mixed bits of whole numbers (an int64 array or tensor, or an int).

    The result is a bijection of the lower 32 bits. It consists of shifts and multiplications by odd numbers, as in
    Wellons' "lowbias32" family; every product stays below 2^63.
    """
    x = x & 0xFFFFFFFF
    x = x ^ (x >> 16)
    x = (x * 0x21F0AAAD) & 0xFFFFFFFF
    x = x ^ (x >> 15)
    x = (x * 0x735A2D97) & 0xFFFFFFFF
    return x ^ (x >> 15)


def hash_pair(x: Any, y: Any, seed: int) -> Any:
    """Return 32 bits that depend on two whole numbers (int64, broadcast against each other) and on a seed."""
    return mix(mix(mix(x) + START * (x >> 32) + seed) + STEP * y)


mix_kernel = kernel(mix)
