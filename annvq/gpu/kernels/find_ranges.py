"""Ranges of vectors less a mean, as `annvq.kernels.vectors.lvq` finds them before it encodes a row.

0.0 and -0.0 are equal, so that the order of comparisons decides which of them is the least number of a row. It is that
of the CPU, and numbers are chosen by comparisons, because a GPU's minimum takes -0.0 for less than 0.0.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _halves(lanes, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Return the lower and the upper half of lanes (ROWS, WIDTH)."""
    return tl.split(tl.permute(tl.reshape(lanes, [ROWS, 2, WIDTH // 2]), [0, 2, 1]))


@triton.jit
def _least(lanes, ROWS: tl.constexpr):
    """Return the least (ROWS,) of 16 lanes (ROWS, 16); of equal ones that of the upper half."""
    low, high = _halves(lanes, ROWS, 16)
    low, high = _halves(tl.where(low < high, low, high), ROWS, 8)
    low, high = _halves(tl.where(low < high, low, high), ROWS, 4)
    low, high = tl.split(tl.where(low < high, low, high))
    return tl.where(low < high, low, high)


@triton.jit
def _is_whole(x):
    """Return which numbers are whole; those from 2^23 on all are."""
    is_small = tl.abs(x) < 8388608.0
    return ~is_small | (tl.where(is_small, x, 0.0).to(tl.int32).to(tl.float32) == x)


@triton.jit
def find_ranges(vectors, mean, n, d, low, high, are_whole, ROWS: tl.constexpr):
    """Write the least and the largest number of each vector less the mean, and whether all its numbers are whole.

    Parameters
    ----------
    vectors, mean
        (n, d) and (d,) float32, d >= 1.
    low, high
        Outputs, (n,) float32.
    are_whole
        Output, (n,) int32: 1 or 0.
    ROWS
        Vectors of a program.

    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    held = row < n
    own = vectors + row * d
    lanes = tl.arange(0, 16)
    whole = d // 16 * 16
    least = tl.load(own, mask=held, other=0.0) - tl.load(mean)
    most = least
    others = tl.zeros([ROWS], tl.int32)  # numbers that are not whole
    if whole > 0:
        of_lanes = (
            tl.load(own[:, None] + lanes[None, :], mask=held[:, None], other=0.0) - tl.load(mean + lanes)[None, :]
        )
        least_of = of_lanes
        most_of = -of_lanes
        counts = tl.zeros([ROWS, 16], tl.int32)
        for i in range(0, whole, 16):
            x = tl.load(own[:, None] + (i + lanes)[None, :], mask=held[:, None], other=0.0)
            x = x - tl.load(mean + i + lanes)[None, :]
            least_of = tl.where(x < least_of, x, least_of)
            most_of = tl.where(-x < most_of, -x, most_of)
            counts += (~_is_whole(x)).to(tl.int32)
        least = _least(least_of, ROWS)
        most = -_least(most_of, ROWS)
        others = tl.sum(counts, axis=1)
    for i in range(whole, d):
        x = tl.load(own + i, mask=held, other=0.0) - tl.load(mean + i)
        least = tl.where(x < least, x, least)
        most = tl.where(x > most, x, most)
        others += (~_is_whole(x)).to(tl.int32)
    tl.store(low + row, least, mask=held)
    tl.store(high + row, most, mask=held)
    tl.store(are_whole + row, (others == 0).to(tl.int32), mask=held)
