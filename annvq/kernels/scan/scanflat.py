"""Scan of uncoded rows (float32, float16, SQ8), and re-scoring of a pool from such rows."""

from __future__ import annotations

import numpy as np

from annvq.kernels.compile.jit import kernel
from annvq.kernels.registers.simd import prefetch
from annvq.kernels.scan.lists import part_of
from annvq.kernels.scan.topk import thinned
from annvq.kernels.vectors.dots import score4

_AHEAD = 16  # pooled rows whose memory is asked for before it is their turn: they lie anywhere


@kernel
def scan_rows(query, store, d, minimum, step, l2, begin, end, allow,
              row_base, scores, rows, count, threshold, keep, keys):  # fmt: skip
    """Scan rows ``begin`` to ``end`` of a store into a pool.

    ``allow`` (n,) uint8 goes by the store's rows and may be empty (everything allowed); ``row_base`` is
    the index-wide number of its row 0. Returns the pool's count and threshold.
    """
    with_allow = allow.size > 0
    last = (end - 1) * d
    for row in range(begin, end, 4):
        a = row * d
        found = score4(
            query,
            store,
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
                    count, threshold = thinned(scores, rows, keep, keys)
    return count, threshold


@kernel
def scan_lists(queries, store, d, minimum, step, l2, offsets, lists, list_counts, allow,
               part, parts, row_base, scores, rows, counts, thresholds, keep, keys):  # fmt: skip
    """Scan every query's lists of one segment into its pool.

    ``queries`` (nq, padded d) float32, ``store`` flat rows as in `annvq.kernels.vectors.dots`; the other
    parameters as in `annvq.kernels.scan.scan4.scan_lists`.
    """
    for q in range(counts.size):
        count, threshold = counts[q], thresholds[q]
        for i in range(list_counts[q]):
            l = lists[q, i]
            begin, end = part_of(offsets[l + 1] - offsets[l], part, parts)
            count, threshold = scan_rows(
                queries[q], store, d, minimum, step, l2, offsets[l] + begin, offsets[l] + end, allow,
                row_base, scores[q], rows[q], count, threshold, keep, keys,
            )  # fmt: skip
        counts[q], thresholds[q] = count, threshold


@kernel
def scan_all(queries, store, d, minimum, step, l2, begin, end, allow,
             row_base, scores, rows, counts, thresholds, keep, keys):  # fmt: skip
    """Scan rows ``begin`` to ``end`` for every query, a cached block of rows at a time."""
    size = max(np.int64(4), np.int64(1 << 17) // (d * store.itemsize) // 4 * 4)
    for block in range(begin, end, size):
        for q in range(counts.size):
            counts[q], thresholds[q] = scan_rows(
                queries[q], store, d, minimum, step, l2, block, min(np.int64(end), block + size), allow,
                row_base, scores[q], rows[q], counts[q], thresholds[q], keep, keys,
            )  # fmt: skip


@kernel
def rescore(queries, store, d, minimum, step, l2, row_base, scores, rows, counts):
    """Replace the scores of the pooled rows that lie in this store (``row_base`` is its first row)."""
    n = store.size // d
    line = np.int64(64) // store.itemsize
    for q in range(counts.size):
        fetched = np.int64(0)
        for i in range(0, counts[q], 4):
            while fetched < min(counts[q], i + _AHEAD):
                row = rows[q, fetched] - row_base
                if 0 <= row < n:
                    for place in range(row * d, row * d + d, line):
                        prefetch(store, place)
                fetched += 1
            places = (i, min(i + 1, counts[q] - 1), min(i + 2, counts[q] - 1), min(i + 3, counts[q] - 1))
            a = _start(rows[q, places[0]] - row_base, n, d)
            b = _start(rows[q, places[1]] - row_base, n, d)
            c = _start(rows[q, places[2]] - row_base, n, d)
            e = _start(rows[q, places[3]] - row_base, n, d)
            found = score4(queries[q], store, a, b, c, e, d, minimum, step, l2)
            for j in range(min(np.int64(4), counts[q] - i)):
                row = rows[q, i + j] - row_base
                if 0 <= row < n:
                    scores[q, i + j] = found[j]


@kernel
def _start(row, n, d):
    """Return the first element of a row, or of row 0 for a row that lies in another store."""
    return row * d if 0 <= row < n else np.int64(0)
