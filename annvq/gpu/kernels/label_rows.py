"""The nearest centroid of each row, as in `annvq.kernels.clusters.propose`: proposed in bytes, decided in floats."""

from __future__ import annotations

import triton
import triton.language as tl

from annvq.gpu.kernels.order import _hsum


@triton.jit
def _byte_scores(
    levels, steps, n, width, matrix, units, adds, k, row, first, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    DIMS: tl.constexpr,
):  # fmt: skip
    """Return the products of rows with the centroids ``first`` to ``first + COLUMNS - 1``, -inf beyond k."""
    column = first + tl.arange(0, COLUMNS)
    is_row, is_column = row < n, column < k
    dims = tl.arange(0, DIMS)
    total = tl.zeros([ROWS, COLUMNS], tl.int32)
    for i in range(0, width, DIMS):
        x = tl.load(levels + row[:, None] * width + (i + dims)[None, :], mask=is_row[:, None], other=0)
        at = column.to(tl.int64)[:, None] * width + (i + dims)[None, :]
        y = tl.load(matrix + at, mask=is_column[:, None], other=0)
        total = tl.dot(x, tl.trans(y), total, out_dtype=tl.int32)
    step = tl.load(steps + row, mask=is_row, other=0.0)
    unit = tl.load(units + column, mask=is_column, other=0.0)[None, :] * step[:, None]
    added = tl.load(adds + column, mask=is_column, other=0.0)[None, :] + tl.zeros_like(unit)
    return tl.where(is_column[None, :], tl.math.fma(total.to(tl.float32), unit, added), float("-inf"))


@triton.jit
def propose_labels(
    levels, steps, lengths, n, width, matrix, units, adds, k, margin, coarsest, longest, proposed, counts,
    PLACES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DIMS: tl.constexpr,
):  # fmt: skip
    """Write the centroids that may be the nearest of each row: all within a margin of the best product of bytes.

    Parameters
    ----------
    levels, steps, lengths
        (n, width) int8, (n,) and (n,) float32: rows in bytes, their steps, and minus the squares of their lengths, as
        `annvq.gpu.kernels.products.quantize_rows` writes them.
    matrix, units, adds
        (k, width) int8, (k,) and (k,) float32: centroids in bytes, their steps, and what is added to their products.
    margin, coarsest, longest
        float32: standard errors that are allowed for, the largest step of a centroid, the length of the longest one.
    proposed, counts
        Outputs, (n, PLACES) int32 in ascending order, and (n,) int32: how many there are, which may be more.
    ROWS, COLUMNS, DIMS
        Rows of a program, and centroids and dimensions that it multiplies at a time; the width is a multiple of DIMS.

    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    best = tl.full([ROWS], float("-inf"), tl.float32)
    for first in range(0, k, COLUMNS):
        scores = _byte_scores(levels, steps, n, width, matrix, units, adds, k, row, first, ROWS, COLUMNS, DIMS)
        best = tl.maximum(best, tl.max(scores, axis=1))
    of_centroid = coarsest * tl.math.sqrt_rn(0.0 - tl.load(lengths + row, mask=row < n, other=0.0))
    of_row = tl.load(steps + row, mask=row < n, other=0.0) * longest
    least = best - margin * tl.math.sqrt_rn(of_centroid * of_centroid + of_row * of_row)
    found = tl.zeros([ROWS], tl.int32)
    for first in range(0, k, COLUMNS):
        scores = _byte_scores(levels, steps, n, width, matrix, units, adds, k, row, first, ROWS, COLUMNS, DIMS)
        column = first + tl.arange(0, COLUMNS)
        reaches = (scores >= least[:, None]) & (column < k)[None, :]
        places = found[:, None] + tl.cumsum(reaches.to(tl.int32), axis=1) - 1
        at = proposed + row[:, None] * PLACES + places
        tl.store(at, column[None, :] + tl.zeros_like(places), mask=reaches & (places < PLACES) & (row < n)[:, None])
        found += tl.sum(reaches.to(tl.int32), axis=1)
    tl.store(counts + row, found, mask=row < n)


@triton.jit
def decide_labels(
    rows, n, d, centroids, penalties, proposed, counts, labels, PLACES: tl.constexpr, ROWS: tl.constexpr
):  # fmt: skip
    """Write the nearest of the proposed centroids, by distances that are summed in 16 lanes; of equal ones the lowest.

    Parameters
    ----------
    rows, centroids, penalties
        (n, d), (k, d) and (k,) float32; a score is minus half the squared distance, less the penalty.
    proposed, counts
        (n, PLACES) int32 and (n,) int32, as `propose_labels` writes them; each row has at least one.
    labels
        Output, (n,) int32.

    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    lanes = tl.arange(0, 16)
    count = tl.load(counts + row, mask=row < n, other=0)
    label = tl.load(proposed + row * PLACES, mask=row < n, other=0)
    most = tl.max(count, axis=0)
    highest = tl.full([ROWS], float("-inf"), tl.float32)
    for place in range(0, tl.where(most > 1, most, 0)):  # a single one needs no sum
        held = (place < count) & (count > 1)
        centroid = tl.load(proposed + row * PLACES + place, mask=held, other=0)
        at_row, at_centroid = row[:, None] * d, centroid.to(tl.int64)[:, None] * d
        total = tl.zeros([ROWS, 16], tl.float32)
        for i in range(0, d, 16):
            inside = held[:, None] & (i + lanes < d)[None, :]
            x = tl.load(rows + at_row + (i + lanes)[None, :], mask=inside, other=0.0)
            x -= tl.load(centroids + at_centroid + (i + lanes)[None, :], mask=inside, other=0.0)
            total = tl.math.fma(x, x, total)
        score = 0.5 * (0.0 - _hsum(total, ROWS)) - tl.load(penalties + centroid, mask=held, other=0.0)
        label = tl.where(held & (score > highest), centroid, label)
        highest = tl.where(held, tl.maximum(score, highest), highest)
    tl.store(labels + row, label, mask=row < n)
