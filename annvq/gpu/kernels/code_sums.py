"""Sums that go with codes, in float64 and in the order of the dimensions."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def sum_constants(decoded, centroids, n, d, constants, CENTRED: tl.constexpr, ROWS: tl.constexpr):
    """Write -(|r|^2 + 2 <c, r>) of decoded residuals r and their centroids c, as `residual_constants` on the CPU.

    Parameters
    ----------
    decoded, centroids
        (d, n) float32: one in each column. Centroids count as zero unless CENTRED.
    constants
        Output, (n,) float32.

    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    total = tl.zeros([ROWS], tl.float64)
    at = row
    for _ in range(0, d):
        r = tl.load(decoded + at, mask=row < n, other=0.0).to(tl.float64)
        if CENTRED:
            total += r * (r + 2.0 * tl.load(centroids + at, mask=row < n, other=0.0).to(tl.float64))
        else:
            total += r * r
        at += n
    tl.store(constants + row, (0.0 - total).to(tl.float32), mask=row < n)


@triton.jit
def sum_squares(codes, low, step, n, d, squares, ROWS: tl.constexpr):
    """Write the squared lengths of what 8-bit codes stand for, ``low + step * code``.

    Parameters
    ----------
    codes
        (d, n) uint8: those of one row in each column.
    low, step
        (n,) float32.
    squares
        Output, (n,) float32.

    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    lowest = tl.load(low + row, mask=row < n, other=0.0).to(tl.float64)
    width = tl.load(step + row, mask=row < n, other=0.0).to(tl.float64)
    total = tl.zeros([ROWS], tl.float64)
    at = row
    for _ in range(0, d):
        x = lowest + width * tl.load(codes + at, mask=row < n, other=0).to(tl.float64)
        total += x * x
        at += n
    tl.store(squares + row, total.to(tl.float32), mask=row < n)
