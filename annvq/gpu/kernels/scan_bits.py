"""Scan of packed bits by Hamming distance, which is minus the score.

Rows are laid out by words of 32 bits, (words, n), so that neighbouring rows lie side by side (``row * 0 + n`` is n in
the 64 bits of rows).
"""

from __future__ import annotations

import triton
import triton.language as tl

from annvq.gpu.kernels.append import _append
from annvq.gpu.kernels.candidates import _candidates
from annvq.gpu.kernels.order import _packed
from annvq.gpu.kernels.scan_rabitq import _popcount
from annvq.gpu.kernels.tile import _rows_of_program


@triton.jit
def _distances(rows, n, words, row, inside, asked):
    """Return how many bits of some rows differ from a query, int32."""
    distances = tl.zeros([row.shape[0]], tl.int32)
    for word in range(0, words):
        held = tl.load(rows + word * (row * 0 + n) + row, mask=inside, other=0)
        distances += _popcount(held ^ tl.load(asked + word))
    return distances


@triton.jit
def scan_bits(
    rows, n, words, queries, asking, begins, ends, visits, visit_ends, allow, ranks, entries, counts, thresholds,
    capacity, FILTERED: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Compare rows with the queries that visit them, one query after the other; rows then come from the cache.

    Parameters
    ----------
    rows, n, words
        (words, n) int32.
    queries
        (nq, words) int32.
    asking, begins, ends, visits, visit_ends, allow, ranks, entries, counts, thresholds, capacity, FILTERED, ROWS
        The same as for `annvq.gpu.kernels.scan_rows.scan_rows`.

    """
    program = tl.program_id(0)
    first, end = tl.load(visits + program), tl.load(visit_ends + program)
    row, inside = _rows_of_program(begins, ends, ROWS)
    allowed = inside
    if FILTERED:
        allowed = inside & (tl.load(allow + row, mask=inside, other=0) != 0)
    rank = tl.load(ranks + row, mask=inside, other=0)
    for visit in range(first, end):
        query = tl.load(asking + visit).to(tl.int64)
        scores = -_distances(rows, n, words, row, inside, queries + query * words).to(tl.float32)
        candidates = _packed(scores, rank)
        wanted = allowed & (candidates >= tl.load(thresholds + query))
        _append(candidates[None, :], wanted[None, :], query + tl.zeros([1], tl.int64), entries, counts, capacity)


@triton.jit
def rescore_bits(rows, n, words, queries, places, places_of_query, base, scores, ROWS: tl.constexpr):
    """Score the candidates of every query that lie among these rows.

    The parameters are those of `scan_bits` and of `annvq.gpu.kernels.scan_rows.rescore_rows`.
    """
    query, at, row, inside = _candidates(places, places_of_query, n, base, ROWS)
    if tl.max(inside.to(tl.int32), axis=0) > 0:
        distances = _distances(rows, n, words, row, inside, queries + query * words)
        tl.store(scores + at, -distances.to(tl.float32), mask=inside)
