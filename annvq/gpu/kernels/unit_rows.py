"""Squared lengths of rows in float64, in the order of `annvq.kernels.vectors.unit`."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def square_rows(rows, d, squares):
    """Write the squared lengths of ``rows (n, d)`` float32 to ``squares (n,)`` float64, in eight lanes and a tail.

    Squares of float32 numbers are exact in float64, so that fusing them with additions changes nothing.
    """
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, 8)
    total = tl.zeros([8], tl.float64)
    whole = d - d % 8
    for i in range(0, whole, 8):
        x = tl.load(rows + row * d + i + lanes).to(tl.float64)
        total += x * x
    one = row + tl.zeros([1], tl.int64)
    tail = tl.zeros([1], tl.float64)
    for i in range(whole, d):
        x = tl.load(rows + one * d + i).to(tl.float64)
        tail += x * x
    low, high = tl.split(tl.permute(tl.reshape(total, [1, 2, 4]), [0, 2, 1]))
    low, high = tl.split(tl.permute(tl.reshape(low + high, [1, 2, 2]), [0, 2, 1]))
    low, high = tl.split(low + high)
    tl.store(squares + one, (low + high) + tail)
