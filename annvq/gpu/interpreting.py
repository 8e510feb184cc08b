"""What Triton's interpreter gets wrong, corrected: then it computes what a GPU does."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np


@cache
def correct_interpreter() -> None:
    """Let the interpreter multiply bfloat16 numbers, and round once in a fused multiplication.

    Triton 3.9 and earlier multiply the integers that have the bits of bfloat16 numbers; 3.7 and earlier round a product
    before they add to it.
    """
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    given = InterpreterBuilder.create_dot

    def create_dot(self: Any, a: Any, b: Any, *others: Any) -> Any:
        a, b = (self.cast_impl(x, tl.float32) if x.dtype.scalar == tl.bfloat16 else x for x in (a, b))
        return given(self, a, b, *others)

    def create_fma(self: Any, x: Any, y: Any, z: Any) -> Any:
        return TensorHandle(fused(x.data, y.data, z.data), z.dtype.scalar)

    InterpreterBuilder.create_dot, InterpreterBuilder.create_fma = create_dot, create_fma


def fused(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return x y + z of float32 numbers, rounded once.

    The product is exact in float64. The sum is rounded to odd there, so that rounding it again, to float32, gives what
    rounding once would (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
    """
    product, added = x.astype(np.float64) * y, z.astype(np.float64)
    total = product + added
    part = total - product
    lost = (product - (total - part)) + (added - part)
    bits = total.view(np.int64)
    is_inexact = np.isfinite(total) & (lost != 0) & (bits & 1 == 0)
    outward = (lost > 0) == (total > 0)
    odd = np.where(is_inexact, bits + np.where(outward, 1, -1), bits)
    return odd.view(np.float64).astype(np.float32)
