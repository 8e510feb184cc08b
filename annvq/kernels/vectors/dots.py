"""Scores of stored rows against one query, summed in a fixed order.

A store is a flat array of rows of d elements: float32, float16 (viewed as uint16) or uint8 codes
that stand for ``minimum + step * code`` per dimension (`Store`). Queries, minima and steps are float32 and
padded with zeros to a multiple of 16, so that what lies beyond d adds nothing. Every (query, row) pair
has one 16-lane accumulator, so a score is the same whichever rows are scored with it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from annvq.kernels.compile.jit import kernel
from annvq.kernels.registers import simd

_LANES = 16


class Store(NamedTuple):
    """Rows that are scored as they are, or nearly."""

    rows: np.ndarray  # flat, float32, float16 as uint16, or uint8
    d: int
    minimum: np.ndarray  # per dimension for uint8, padded to a multiple of 16; empty for floats
    step: np.ndarray


def padded(rows: np.ndarray) -> np.ndarray:
    """Return float32 rows (..., d) with zeros appended to a multiple of 16 dimensions."""
    missing = -rows.shape[-1] % _LANES
    if not missing:
        return np.ascontiguousarray(rows, np.float32)
    widths = [(0, 0)] * (rows.ndim - 1) + [(0, missing)]
    return np.pad(np.asarray(rows, np.float32), widths)


@kernel
def inner4(query, store, a, b, c, e, d, minimum, step):
    """Return the inner products with the rows that start at elements a, b, c and e."""
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
    """Return the squared L2 distances to the rows that start at elements a, b, c and e."""
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
    """Return four scores, larger is closer: inner products, or minus squared distances."""
    if l2:
        s, t, u, v = squared4(query, store, a, b, c, e, d, minimum, step)
        return -s, -t, -u, -v
    return inner4(query, store, a, b, c, e, d, minimum, step)


@kernel
def score_rows(queries, store, d, minimum, step, l2, scores):
    """Fill ``scores (nq, n)`` with every query's score of every row of the store."""
    n = scores.shape[1]
    last = (n - 1) * d
    for block in range(0, n, 64):  # rows stay in cache while the queries pass over them
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
    """Return |x|^2 of float32 rows (n, d), (n,) float32, in the order in which scores are summed."""
    n, d = rows.shape
    nothing, norms = np.empty(0, np.float32), np.empty((n, 1), np.float32)
    if n:
        score_rows(padded(rows), np.zeros(d, np.float32), d, nothing, nothing, True, norms)
    return -norms[:, 0]
