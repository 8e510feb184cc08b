"""The rows of a graph's vertices, and exact scores of the vectors in them.

The row of a vertex has all that a search reads when it visits the vertex, in this order:

    the vector                float16 or 8-bit numbers, padded to a multiple of 64 bytes
    32 neighbours             uint32, each the number of a vertex
    32 factors                float32
    32 constants              float32
    codes of the neighbours   one block of `annvq.kernels.scan.scan4`

Behind the n vertices are rows of the same form for the entries of the graph, the vertices at which a search begins. The
neighbours of such a row are entries near each other, and its vector is that of one of them. If there are many,
rows above them come first: their vector is a centre, and their neighbours are rows of entries, which are numbered like
vertices, from n + 1 on. A neighbour n stands for none.

With the code of a neighbour, its score for a query is estimated as the score of the row's own vector, plus the
constant, plus the factor times the sum of the look-ups in the query's table (`annvq.kernels.graph.coding`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from annvq.kernels.compile.jit import kernel
from annvq.kernels.registers import simd
from annvq.kernels.scan.topk import thinned
from annvq.kernels.vectors.dots import score4

DEGREE = 32  # neighbours of a vertex: as many as a block of the scan has vectors
_IDS, _NUMBERS = 4 * DEGREE, 8 * DEGREE  # bytes of the neighbours, and of factors and constants
_LINE = 64


class GraphRows(NamedTuple):
    """The rows of a segment's graph, as bytes and as numbers of other types in the same memory."""

    vectors: np.ndarray  # all rows, as float16 (viewed as uint16) or uint8
    neighbors: np.ndarray  # all rows, as uint32
    numbers: np.ndarray  # all rows, as float32
    packed: np.ndarray  # all rows, as uint8
    minimum: np.ndarray  # as in `annvq.kernels.vectors.dots.Store`
    step: np.ndarray
    allow: np.ndarray  # (n,) uint8, not 0 for rows that may be returned; empty if all may
    d: int  # the dimension of the vectors
    n: int  # vertices
    row_bytes: int
    groups: int  # of four codes per neighbour
    passing: int  # how many rows may be returned
    row_base: int  # the index-wide number of row 0


def vector_bytes(d: int, itemsize: int) -> int:
    """Return the bytes that a vector of d numbers takes in a row."""
    return -(-d * itemsize // _LINE) * _LINE


def row_bytes(d: int, itemsize: int, groups: int) -> int:
    """Return the bytes of a row whose neighbours have ``groups`` of four codes."""
    return vector_bytes(d, itemsize) + _IDS + _NUMBERS + _LINE * groups


def views_of(rows: np.ndarray, d: int, itemsize: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the vectors, neighbours, numbers and codes of rows (m, row_bytes) uint8, as views of their bytes.

    These are (m, d * itemsize) uint8, (m, 32) uint32, (m, 64) float32 (factors, then constants), and (m, bytes) uint8.
    """
    ids = vector_bytes(d, itemsize)
    numbers, codes = ids + _IDS, ids + _IDS + _NUMBERS
    return (
        rows[:, : d * itemsize],
        rows[:, ids:numbers].view(np.uint32),
        rows[:, numbers:codes].view(np.float32),
        rows[:, codes:],
    )


@kernel
def ids_at(rows):
    """Return where a row's neighbours begin, in words of 4 bytes from its beginning."""
    return (rows.row_bytes - 64 * rows.groups) // 4 - 96


@kernel
def score_row(query, vectors, start, d, minimum, step, l2):
    """Return the score of one stored vector, to the bit what `annvq.kernels.vectors.dots.score4` returns."""
    total = simd.zero_f32x16()
    whole = d - d % 16
    for i in range(0, whole, 16):
        q, x = simd.load_f32x16(query, i), simd.load_row(vectors, start + i, minimum, step, i)
        if l2:
            q = simd.sub(q, x)
            x = q
        total = simd.fma(q, x, total)
    if whole < d:
        q = simd.load_f32x16(query, whole)
        x = simd.load_row_tail(vectors, start + whole, d - whole, minimum, step, whole)
        if l2:
            q = simd.sub(q, x)
            x = q
        total = simd.fma(q, x, total)
    return -simd.hsum(total) if l2 else simd.hsum(total)


@kernel
def scan_rows(query, rows, l2, pools, q, keep, keys):
    """Score all vertices that may be returned, and add them to pool ``q``.

    ``query`` is padded with zeros to a multiple of 16 dimensions, ``rows`` are `GraphRows`; the other parameters are
    those of `annvq.kernels.scan.scanflat.scan_rows`.
    """
    vectors, allow, n = rows.vectors, rows.allow, rows.n
    width = rows.row_bytes // vectors.itemsize
    scores, places = pools.scores[q], pools.rows[q]
    count, threshold = pools.counts[q], pools.thresholds[q]
    with_allow = allow.size > 0
    last = (n - 1) * width
    for row in range(0, n, 4):
        a = row * width
        found = score4(
            query, vectors, a, min(a + width, last), min(a + 2 * width, last), min(a + 3 * width, last),
            rows.d, rows.minimum, rows.step, l2,
        )  # fmt: skip
        for j in range(min(np.int64(4), n - row)):
            if found[j] >= threshold and not (with_allow and allow[row + j] == 0):
                scores[count] = found[j]
                places[count] = rows.row_base + row + j
                count += 1
                if count == scores.size:
                    count, threshold = thinned(scores, places, count, keep, keys)
    pools.counts[q], pools.thresholds[q] = count, threshold


@kernel
def rescore(queries, rows, l2, pools):
    """Replace the scores of the pooled rows of this segment by exact ones; ``queries`` (nq, d) float32 are padded."""
    width = rows.row_bytes // rows.vectors.itemsize
    scores, places, counts, _ = pools
    for q in range(counts.size):
        for i in range(counts[q]):
            row = places[q, i] - rows.row_base
            if 0 <= row < rows.n:
                scores[q, i] = score_row(queries[q], rows.vectors, row * width, rows.d, rows.minimum, rows.step, l2)
