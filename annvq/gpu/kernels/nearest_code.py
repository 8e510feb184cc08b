"""The best code of each row without the matrix of all scores, summed as `annvq.kernels.clusters.assign` sums."""

from __future__ import annotations

import triton
import triton.language as tl

from annvq.gpu.kernels.order import _packed


@triton.jit
def nearest_code(
    rows, n, codes, k, d, bias, share, found, ROWS: tl.constexpr, CODES: tl.constexpr
):  # fmt: skip
    """Find the code of the largest bias plus inner product; of equal ones the lowest.

    Parameters
    ----------
    rows, n
        (d, n) float32: one row in each column.
    codes, k, d
        (d, k) float32: one code in each column.
    bias
        (k,) float32, at which the sum of a code begins; products are added in the order of the dimensions.
    share
        How many codes a program compares: the second axis of the grid goes over the shares.
    found
        (n,) int64, at first `annvq.gpu.kernels.order.NOTHING`: raised to the best, packed with its code for a rank.
    ROWS, CODES
        Rows of a program, and codes that it compares at a time.

    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    first = tl.program_id(1) * share
    best = tl.full([ROWS], float("-inf"), tl.float32)
    label = tl.zeros([ROWS], tl.int32)
    for start in range(first, tl.minimum(first + share, k), CODES):
        code = start + tl.arange(0, CODES)
        total = tl.zeros([ROWS, CODES], tl.float32) + tl.load(bias + code, mask=code < k, other=float("-inf"))[None, :]
        at_row, at_code = rows + row, codes + code.to(tl.int64)
        for _ in range(0, d):
            x = tl.load(at_row, mask=row < n, other=0.0)[:, None] + tl.zeros_like(total)
            y = tl.load(at_code, mask=code < k, other=0.0)[None, :] + tl.zeros_like(total)
            total = tl.math.fma(x, y, total)
            at_row += n
            at_code += k
        highest = tl.max(total, axis=1)
        where = tl.min(tl.where(total == highest[:, None], code[None, :], 0x7FFFFFFF), axis=1)
        label = tl.where(highest > best, where, label)
        best = tl.maximum(highest, best)
    tl.atomic_max(found + row, _packed(best, label), mask=row < n, sem="relaxed")
