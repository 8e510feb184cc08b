"""Scan of rows that are stored as floats or as 8-bit scalars, and rescoring of pools with such rows."""

from __future__ import annotations

import numpy as np

from annvq.kernels.compile.jit import kernel
from annvq.kernels.registers.simd import prefetch
from annvq.kernels.scan.lists import part_of
from annvq.kernels.scan.topk import thinned
from annvq.kernels.vectors.dots import score4

_AHEAD = 16  # the row that is so many places ahead in the pool is fetched in advance, as rows lie anywhere


@kernel
def scan_rows(query, store, l2, begin, end, allow, row_base, pools, q, keep, keys):
    """Scan rows ``begin`` to ``end`` of a store for one query into pool ``q``.

    ``query`` is padded, and ``store`` an `annvq.kernels.vectors.dots.Store`. ``allow`` (n,) uint8 says which of the
    store's rows may be returned; it is empty if all may. ``row_base`` is the index-wide number of the store's row 0.
    ``pools``, ``keep`` and ``keys`` are as in `annvq.kernels.scan.scan4.scan_lists`.
    """
    stored, d, minimum, step = store
    scores, rows = pools.scores[q], pools.rows[q]
    count, threshold = pools.counts[q], pools.thresholds[q]
    with_allow = allow.size > 0
    last = (end - 1) * d
    for row in range(begin, end, 4):
        a = row * d
        found = score4(
            query,
            stored,
            a,
            min(a + d, last),
            min(a + 2 * d, last),
            min(a + 3 * d, last),
            d,
            minimum,
            step,
            l2,
        )
        for j in range(min(np.int64(4), end - row)):
            if found[j] >= threshold and not (with_allow and allow[row + j] == 0):
                scores[count] = found[j]
                rows[count] = row_base + row + j
                count += 1
                if count == scores.size:
                    count, threshold = thinned(scores, rows, count, keep, keys)
    pools.counts[q], pools.thresholds[q] = count, threshold


@kernel
def scan_lists(queries, store, l2, offsets, allow, row_base, visits, pools, keep, keys):
    """Scan every query's lists of one segment into its pool.

    ``queries`` is (nq, padded d) float32, ``store`` an `annvq.kernels.vectors.dots.Store` whose lists begin at
    ``offsets (nlist + 1,)`` int64, and ``visits`` the `annvq.kernels.scan.lists.Visits` of the queries. The other
    parameters are those of `scan_rows`.
    """
    for q in range(visits.counts.size):
        for i in range(visits.counts[q]):
            l = visits.lists[q, i]
            begin, end = part_of(offsets[l + 1] - offsets[l], visits.part, visits.parts)
            scan_rows(
                queries[q], store, l2, offsets[l] + begin, offsets[l] + end, allow, row_base, pools, q, keep, keys
            )


@kernel
def scan_all(queries, store, l2, begin, end, allow, row_base, pools, keep, keys):
    """Scan rows ``begin`` to ``end`` for every query, in blocks of rows that stay in the cache.

    ``queries`` is (nq, padded d) float32; the other parameters are those of `scan_rows`.
    """
    size = max(np.int64(4), np.int64(1 << 17) // (store.d * store.rows.itemsize) // 4 * 4)
    for block in range(begin, end, size):
        stop = min(np.int64(end), block + size)
        for q in range(pools.counts.size):
            scan_rows(queries[q], store, l2, block, stop, allow, row_base, pools, q, keep, keys)


@kernel
def rescore(queries, store, l2, row_base, pools):
    """Replace the scores of the pooled rows that lie in this store.

    ``row_base`` is the index-wide number of the store's row 0; the other parameters are those of `scan_lists`.
    """
    stored, d, minimum, step = store
    scores, rows, counts, _ = pools
    n = stored.size // d
    line = np.int64(64) // stored.itemsize
    for q in range(counts.size):
        fetched = np.int64(0)
        for i in range(0, counts[q], 4):
            while fetched < min(counts[q], i + _AHEAD):
                row = rows[q, fetched] - row_base
                if 0 <= row < n:
                    for place in range(row * d, row * d + d, line):
                        prefetch(stored, place)
                fetched += 1
            places = (i, min(i + 1, counts[q] - 1), min(i + 2, counts[q] - 1), min(i + 3, counts[q] - 1))
            a = _start(rows[q, places[0]] - row_base, n, d)
            b = _start(rows[q, places[1]] - row_base, n, d)
            c = _start(rows[q, places[2]] - row_base, n, d)
            e = _start(rows[q, places[3]] - row_base, n, d)
            found = score4(queries[q], stored, a, b, c, e, d, minimum, step, l2)
            for j in range(min(np.int64(4), counts[q] - i)):
                row = rows[q, i + j] - row_base
                if 0 <= row < n:
                    scores[q, i + j] = found[j]


@kernel
def _start(row, n, d):
    """Return the first element of a row; of row 0 if the row lies in another store."""
    return row * d if 0 <= row < n else np.int64(0)
