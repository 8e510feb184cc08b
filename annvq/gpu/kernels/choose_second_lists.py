"""Second lists of vectors, as `annvq.kernels.clusters.spill` chooses them."""

from __future__ import annotations

import triton
import triton.language as tl

from annvq.gpu.kernels.label_rows import _byte_scores
from annvq.gpu.kernels.order import _hsum


@triton.jit
def choose_second_lists(
    rows, levels, steps, n, d, width, matrix, units, adds, k, centroids, shift, between, stride, labels, weight, lists,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DIMS: tl.constexpr,
):  # fmt: skip
    """Choose for every vector, besides its own list, the list with the least loss.

    Parameters
    ----------
    rows, levels, steps
        (n, d) float32, and the same less ``shift`` in bytes, (n, width) int8, with their steps, (n,) float32.
    matrix, units, adds, k
        The centroids in bytes, as in `annvq.gpu.kernels.label_rows.propose_labels`.
    centroids, shift
        (k, d) and (d,) float32.
    between, stride
        (k, stride) float32, see `annvq.kernels.clusters.spill.second_lists`.
    labels
        (n,) int64: the vectors' own lists.
    weight
        -1/2 of the weight of the second term of the loss.
    lists
        Output, (n,) int32; the vector's own list if there is no other.

    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    held = row < n
    own = tl.load(labels + row, mask=held, other=0)
    lanes = tl.arange(0, 16)
    square = tl.zeros([ROWS, 16], tl.float32)
    inner = tl.zeros([ROWS, 16], tl.float32)
    for i in range(0, d, 16):
        inside = held[:, None] & (i + lanes < d)[None, :]
        middle = tl.load(shift + i + lanes, mask=i + lanes < d, other=0.0)[None, :]
        moved = tl.load(rows + row[:, None] * d + (i + lanes)[None, :], mask=inside, other=0.0) - middle
        r = moved - (tl.load(centroids + own[:, None] * d + (i + lanes)[None, :], mask=inside, other=0.0) - middle)
        moved = tl.where(inside, moved, 0.0)
        r = tl.where(inside, r, 0.0)
        square = tl.math.fma(r, r, square)
        inner = tl.math.fma(r, moved, inner)
    squared = _hsum(square, ROWS)
    product = _hsum(inner, ROWS)
    has_length = squared > 0.0
    share = tl.math.div_rn(weight + tl.zeros_like(squared), tl.where(has_length, squared, 1.0))
    share = tl.where(has_length, share, 0.0)
    best = tl.full([ROWS], float("-inf"), tl.float32)
    found = own.to(tl.int32)
    for first in range(0, k, COLUMNS):
        column = first + tl.arange(0, COLUMNS)
        inside = (column < k)[None, :] & (column[None, :] != own[:, None]) & held[:, None]
        score = _byte_scores(levels, steps, n, width, matrix, units, adds, k, row, first, ROWS, COLUMNS, DIMS)
        score = tl.where(inside, score, 0.0)
        other = tl.load(between + own[:, None] * stride + column[None, :], mask=inside, other=0.0)
        along = (other + product[:, None]) - score
        score = tl.math.fma(along * share[:, None], along, score)
        score = tl.where(inside, score, float("-inf"))
        highest = tl.max(score, axis=1)
        where = tl.min(tl.where(score == highest[:, None], column[None, :], 0x7FFFFFFF), axis=1)
        found = tl.where(highest > best, where, found)
        best = tl.maximum(highest, best)
    tl.store(lists + row, found, mask=held)
