"""Scores of stored rows against one query, summed in a fixed order.

A store is a flat array of rows of d elements (`Store`): float32, float16 (viewed as uint16), or uint8 codes, each of
which stands for ``minimum + step * code`` of its dimension. Queries, minima and steps are float32 and padded with zeros
to a multiple of 16, so that lanes beyond d add nothing. Every (query, row) pair has one accumulator of 16 lanes, so
that a score does not depend on which rows are scored together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from annvq.kernels.compile.jit import kernel
from annvq.kernels.registers import simd

_LANES = 16


class Store(NamedTuple):
    """Rows that are stored as floats or as 8-bit scalar codes."""

    rows: np.ndarray  # (n * d,) float32, float16 viewed as uint16, or uint8
    d: int
    minimum: np.ndarray  # (d padded to a multiple of 16,) float32 if rows are uint8; otherwise empty
    step: np.ndarray  # as ``minimum``


def padded(rows: np.ndarray) -> np.ndarray:
    """Return float32 rows (..., d), padded with zeros to a multiple of 16 dimensions."""
    missing = -rows.shape[-1] % _LANES
    if not missing:
        return np.ascontiguousarray(rows, np.float32)
    widths = [(0, 0)] * (rows.ndim - 1) + [(0, missing)]
    return np.pad(np.asarray(rows, np.float32), widths)


@kernel
def inner4(query, store, a, b, c, e, d, minimum, step):
    """Return the inner products of a query with the four rows that start at elements a, b, c and e of a store.

    ``query``, ``store`` (its rows), ``d``, ``minimum`` and ``step`` are as the module's text describes them.
    """
    sum_a = simd.zero_f32x16()
    sum_b = simd.zero_f32x16()
    sum_c = simd.zero_f32x16()
    sum_e = simd.zero_f32x16()
    whole = d - d % 16
    for i in range(0, whole, 16):
        q = simd.load_f32x16(query, i)
        sum_a = simd.fma(q, simd.load_row(store, a + i, minimum, step, i), sum_a)
        sum_b = simd.fma(q, simd.load_row(store, b + i, minimum, step, i), sum_b)
        sum_c = simd.fma(q, simd.load_row(store, c + i, minimum, step, i), sum_c)
        sum_e = simd.fma(q, simd.load_row(store, e + i, minimum, step, i), sum_e)
    if whole < d:
        q = simd.load_f32x16(query, whole)
        rest = d - whole
        sum_a = simd.fma(q, simd.load_row_tail(store, a + whole, rest, minimum, step, whole), sum_a)
        sum_b = simd.fma(q, simd.load_row_tail(store, b + whole, rest, minimum, step, whole), sum_b)
        sum_c = simd.fma(q, simd.load_row_tail(store, c + whole, rest, minimum, step, whole), sum_c)
        sum_e = simd.fma(q, simd.load_row_tail(store, e + whole, rest, minimum, step, whole), sum_e)
    return simd.hsum(sum_a), simd.hsum(sum_b), simd.hsum(sum_c), simd.hsum(sum_e)


@kernel
def squared4(query, store, a, b, c, e, d, minimum, step):
    """Return the squared L2 distances of a query to the four rows that start at elements a, b, c and e of a store.

    The parameters are those of `inner4`.
    """
    sum_a = simd.zero_f32x16()
    sum_b = simd.zero_f32x16()
    sum_c = simd.zero_f32x16()
    sum_e = simd.zero_f32x16()
    whole = d - d % 16
    for i in range(0, whole, 16):
        q = simd.load_f32x16(query, i)
        diff = simd.sub(q, simd.load_row(store, a + i, minimum, step, i))
        sum_a = simd.fma(diff, diff, sum_a)
        diff = simd.sub(q, simd.load_row(store, b + i, minimum, step, i))
        sum_b = simd.fma(diff, diff, sum_b)
        diff = simd.sub(q, simd.load_row(store, c + i, minimum, step, i))
        sum_c = simd.fma(diff, diff, sum_c)
        diff = simd.sub(q, simd.load_row(store, e + i, minimum, step, i))
        sum_e = simd.fma(diff, diff, sum_e)
    if whole < d:
        q = simd.load_f32x16(query, whole)
        rest = d - whole
        diff = simd.sub(q, simd.load_row_tail(store, a + whole, rest, minimum, step, whole))
        sum_a = simd.fma(diff, diff, sum_a)
        diff = simd.sub(q, simd.load_row_tail(store, b + whole, rest, minimum, step, whole))
        sum_b = simd.fma(diff, diff, sum_b)
        diff = simd.sub(q, simd.load_row_tail(store, c + whole, rest, minimum, step, whole))
        sum_c = simd.fma(diff, diff, sum_c)
        diff = simd.sub(q, simd.load_row_tail(store, e + whole, rest, minimum, step, whole))
        sum_e = simd.fma(diff, diff, sum_e)
    return simd.hsum(sum_a), simd.hsum(sum_b), simd.hsum(sum_c), simd.hsum(sum_e)


@kernel
def score4(query, store, a, b, c, e, d, minimum, step, l2):
    """Return four scores, where larger is closer: inner products, or minus squared L2 distances if ``l2``.

    The other parameters are those of `inner4`.
    """
    if l2:
        s, t, u, v = squared4(query, store, a, b, c, e, d, minimum, step)
        return -s, -t, -u, -v
    return inner4(query, store, a, b, c, e, d, minimum, step)


@kernel
def score_rows(queries, store, d, minimum, step, l2, scores):
    """Fill ``scores (nq, n)`` float32 with the score of every row of the store for every query.

    ``queries`` is (nq, d padded to a multiple of 16) float32; the other parameters are those of `score4`.
    """
    n = scores.shape[1]
    last = (n - 1) * d
    for block in range(0, n, 64):  # the rows of a block stay in the cache for all queries
        end = min(n, block + 64)
        for q in range(scores.shape[0]):
            query = queries[q]
            for row in range(block, end, 4):
                a = row * d
                s, t, u, v = score4(
                    query, store, a, min(a + d, last), min(a + 2 * d, last), min(a + 3 * d, last),
                    d, minimum, step, l2,
                )  # fmt: skip
                scores[q, row] = s
                if row + 1 < end:
                    scores[q, row + 1] = t
                if row + 2 < end:
                    scores[q, row + 2] = u
                if row + 3 < end:
                    scores[q, row + 3] = v


def squared_norms(rows: np.ndarray) -> np.ndarray:
    """Return |x|^2 of float32 rows (n, d), as (n,) float32, summed in the same order as scores."""
    n, d = rows.shape
    nothing, norms = np.empty(0, np.float32), np.empty((n, 1), np.float32)
    if n:
        score_rows(padded(rows), np.zeros(d, np.float32), d, nothing, nothing, True, norms)
    return -norms[:, 0]
