"""Scan of rows that are stored as floats or as 8-bit scalars, scored in the order of `annvq.kernels.vectors.dots`."""

from __future__ import annotations

import triton
import triton.language as tl

from annvq.gpu.kernels.append import _append
from annvq.gpu.kernels.candidates import _candidates
from annvq.gpu.kernels.order import _hsum, _packed
from annvq.gpu.kernels.tile import _tile


@triton.jit
def _numbers(rows, at, lanes, first, d, minimum, step, CODED: tl.constexpr):
    """Return numbers of rows that begin at elements ``at``, of dimensions ``first + lanes``; zero beyond d."""
    inside = first + lanes < d
    numbers = tl.load(rows + at[:, None] + (first + lanes)[None, :], mask=inside[None, :], other=0).to(tl.float32)
    if CODED:
        lowest = tl.load(minimum + first + lanes, mask=inside, other=0.0)
        steps = tl.load(step + first + lanes, mask=inside, other=0.0)
        numbers = tl.math.fma(
            numbers, steps[None, :] + tl.zeros_like(numbers), lowest[None, :] + tl.zeros_like(numbers)
        )
    return numbers


@triton.jit
def scan_rows(
    queries, width, rows, d, minimum, step, asking, begins, ends, visits, visit_ends, allow, ranks, entries, counts,
    thresholds, capacity, CODED: tl.constexpr, L2: tl.constexpr, FILTERED: tl.constexpr, QUERIES: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """Score rows for the queries that visit them, and append those that reach the thresholds to the pools.

    Parameters
    ----------
    queries, width
        (nq, width) float32, padded with zeros to a multiple of 16.
    rows, d
        (n, d) float32, float16 or uint8.
    minimum, step
        (width,) float32 if rows are codes (CODED): what code 0 stands for, and the step from code to code.
    asking, begins, ends, visits, visit_ends
        `annvq.gpu.plan.Work`, for at most QUERIES and ROWS.
    allow
        (n,) uint8, not 0 for rows that may be returned, if FILTERED.
    ranks
        (n,) int32, of the rows' keys.
    entries, counts, thresholds, capacity
        `annvq.gpu.pool.Pool`.
    L2
        Whether scores are minus squared distances rather than inner products.

    """
    query, asked, row, inside = _tile(asking, begins, ends, visits, visit_ends, QUERIES, ROWS)
    lanes = tl.arange(0, 16)
    total = tl.zeros([QUERIES, ROWS, 16], tl.float32)
    for i in range(0, d, 16):
        x = tl.load(queries + (query * width)[:, None] + (i + lanes)[None, :])[:, None, :] + tl.zeros_like(total)
        y = _numbers(rows, row * d, lanes, i, d, minimum, step, CODED)[None, :, :] + tl.zeros_like(total)
        if L2:
            x = x - y
            y = x
        total = tl.math.fma(x, y, total)
    scores = tl.reshape(_hsum(tl.reshape(total, [QUERIES * ROWS, 16]), QUERIES * ROWS), [QUERIES, ROWS])
    if L2:
        scores = -scores
    if FILTERED:
        inside = inside & (tl.load(allow + row, mask=inside, other=0) != 0)
    candidates = _packed(scores, tl.load(ranks + row, mask=inside, other=0)[None, :])
    threshold = tl.load(thresholds + query, mask=asked, other=0)
    wanted = asked[:, None] & inside[None, :] & (candidates >= threshold[:, None]) & (scores == scores)
    _append(candidates, wanted, query, entries, counts, capacity)


@triton.jit
def rescore_rows(
    queries, width, rows, n, d, minimum, step, places, places_of_query, base, scores, CODED: tl.constexpr,
    L2: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Score the candidates of every query that lie among these rows.

    Parameters
    ----------
    queries, width, rows, d, minimum, step, CODED, L2
        The same as for `scan_rows`.
    places, places_of_query
        (nq, places_of_query) int64, the index-wide rows of candidates, -1 where there is none.
    n, base
        The number of rows, and the index-wide number of row 0.
    scores
        Output, (nq, places_of_query) float32; those of other rows stay as they are.

    """
    query, at, row, inside = _candidates(places, places_of_query, n, base, ROWS)
    if tl.max(inside.to(tl.int32), axis=0) > 0:
        lanes = tl.arange(0, 16)
        total = tl.zeros([ROWS, 16], tl.float32)
        for i in range(0, d, 16):
            x = tl.load(queries + query * width + i + lanes)[None, :] + tl.zeros_like(total)
            y = _numbers(rows, row * d, lanes, i, d, minimum, step, CODED)
            if L2:
                x = x - y
                y = x
            total = tl.math.fma(x, y, total)
        score = _hsum(total, ROWS)
        if L2:
            score = -score
        tl.store(scores + at, score, mask=inside)
