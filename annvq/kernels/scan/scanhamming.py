"""Scan of packed bits by Hamming distance: the number of bits in which a row differs from the query.

Scores are minus the distance, which is exact in float32 up to 2^24 bits. The layout of rows and queries is that of
`annvq.kernels.codes.bits.count_flips`.
"""

from __future__ import annotations

import numpy as np

from annvq.kernels.codes.bits import count_flips
from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import empty
from annvq.kernels.scan.lists import part_of
from annvq.kernels.scan.topk import thinned

CHUNK = 64  # rows that are compared before any is looked at
_FARTHEST = np.float32(1 << 30)


@kernel
def scan_rows(query, codes, begin, end, allow, row_base, counts, pools, q, keep, keys):
    """Scan rows ``begin`` to ``end`` for one query into pool ``q``.

    ``query`` is (plane_words(D),) uint64, ``codes`` (n, D / 8) uint8 and ``counts`` (CHUNK,) int32, for scratch. The
    other parameters are as in `annvq.kernels.scan.scanflat.scan_rows`.
    """
    scores, rows = pools.scores[q], pools.rows[q]
    count, threshold = pools.counts[q], pools.thresholds[q]
    with_allow = allow.size > 0
    most = np.int32(min(-threshold, _FARTHEST))  # the largest distance that reaches the threshold
    for chunk in range(begin, end, CHUNK):
        stop = min(np.int64(end), chunk + CHUNK)
        count_flips(codes, chunk, stop, query, counts)
        least = counts[0]
        for i in range(1, stop - chunk):
            least = min(least, counts[i])
        if least > most:
            continue
        for i in range(stop - chunk):
            if counts[i] <= most and not (with_allow and allow[chunk + i] == 0):
                scores[count] = -np.float32(counts[i])
                rows[count] = row_base + chunk + i
                count += 1
                if count == scores.size:
                    count, threshold = thinned(scores, rows, count, keep, keys)
                    most = np.int32(min(-threshold, _FARTHEST))
    pools.counts[q], pools.thresholds[q] = count, threshold


@kernel
def scan_lists(queries, codes, offsets, allow, row_base, visits, pools, keep, keys):
    """Scan every query's lists of one segment into its pool.

    ``queries`` is (nq, plane_words(D)) uint64; the lists of ``codes`` begin at ``offsets (nlist + 1,)`` int64, and
    ``visits`` are the `annvq.kernels.scan.lists.Visits` of the queries. The other parameters are those of `scan_rows`.
    """
    counts = empty(CHUNK, np.int32)
    for q in range(visits.counts.size):
        for i in range(visits.counts[q]):
            l = visits.lists[q, i]
            begin, end = part_of(offsets[l + 1] - offsets[l], visits.part, visits.parts)
            scan_rows(
                queries[q], codes, offsets[l] + begin, offsets[l] + end, allow, row_base, counts, pools, q, keep, keys
            )


@kernel
def scan_all(queries, codes, begin, end, allow, row_base, pools, keep, keys):
    """Scan rows ``begin`` to ``end`` for every query, in blocks of rows that stay in the cache.

    Parameters are those of `scan_lists`.
    """
    counts = empty(CHUNK, np.int32)
    size = max(np.int64(CHUNK), np.int64(1 << 17) // max(np.int64(1), codes.shape[1]) // CHUNK * CHUNK)
    for block in range(begin, end, size):
        stop = min(np.int64(end), block + size)
        for q in range(pools.counts.size):
            scan_rows(queries[q], codes, block, stop, allow, row_base, counts, pools, q, keep, keys)


@kernel
def rescore(queries, codes, row_base, pools):
    """Replace the scores of the pooled rows that lie in this segment; parameters are those of `scan_lists`."""
    scores, rows, filled, _ = pools
    counts = empty(8, np.int32)
    for q in range(filled.size):
        for i in range(filled[q]):
            row = rows[q, i] - row_base
            if 0 <= row < codes.shape[0]:
                count_flips(codes, row, row + 1, queries[q], counts)
                scores[q, i] = -np.float32(counts[0])
