"""Pools: the best rows that a query has seen so far.

A pool is a row of `scores (nq, capacity) float32` and `rows (nq, capacity) int64`, with the number of filled places and
a threshold. Candidates at or above the threshold are appended. When the pool is full, the threshold rises to one that
at least `keep` candidates reach, and the others are dropped (a reservoir, as in Faiss's `impl/ResultHandler.h`, which
takes O(1) amortized per candidate). The threshold is found by bisection. Its steps count a vector of scores at a time,
and are free of the branches that a CPU mispredicts in a selection by swaps. Scans append candidates in their own code,
because a call per candidate would count references to both arrays.

The order is total, by descending score and then by ascending `keys[row]`, so that what is kept does not depend on the
order of arrival.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from annvq.kernels.compile.isa import ACTIVE
from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import empty, local
from annvq.kernels.registers import simd

MINUS_INFINITY = np.float32(-np.inf)
_NONE = np.float32(np.nan)
_BISECTIONS = 32
_FEW = 64  # at most so many candidates are sorted by insertion


class Candidates(NamedTuple):
    """The pools of several queries."""

    scores: np.ndarray  # (nq, capacity) float32
    rows: np.ndarray  # (nq, capacity) int64, index-wide numbers
    counts: np.ndarray  # (nq,) int64, the number of filled places
    thresholds: np.ndarray  # (nq,) float32, the score that a candidate must reach to be kept


def capacity_for(keep: int) -> int:
    """Return the number of places of a pool that keeps ``keep`` rows."""
    return 2 * keep + 64


@kernel
def empty_pools(nq, capacity):
    """Return ``nq`` empty pools of ``capacity`` places; see `capacity_for`."""
    scores, rows = empty((nq, capacity), np.float32), empty((nq, capacity), np.int64)
    pools = Candidates(scores, rows, empty(nq, np.int64), empty(nq, np.float32))
    clear(pools)
    return pools


@kernel
def clear(pools):
    """Empty all pools, `Candidates`."""
    for q in range(pools.counts.size):
        pools.counts[q], pools.thresholds[q] = 0, MINUS_INFINITY


@kernel
def take(values, rows):
    """Return ``values[rows]`` for ``values`` int64 and ``rows`` (nq, k) int64; -1 if a row is negative."""
    taken = empty(rows.shape, np.int64)
    for q in range(rows.shape[0]):
        for i in range(rows.shape[1]):
            taken[q, i] = values[rows[q, i]] if rows[q, i] >= 0 else np.int64(-1)
    return taken


@kernel
def before(score_a, row_a, score_b, row_b, keys):
    """Return whether candidate a comes before candidate b in the total order."""
    if score_a != score_b:
        return score_a > score_b
    return keys[row_a] < keys[row_b]


@kernel
def _swap(scores, rows, i, j):
    scores[i], scores[j] = scores[j], scores[i]
    rows[i], rows[j] = rows[j], rows[i]


@kernel
def _median_to_front(scores, rows, low, high, keys):
    middle = low + (high - low) // 2
    if before(scores[middle], rows[middle], scores[low], rows[low], keys):
        _swap(scores, rows, low, middle)
    if before(scores[high], rows[high], scores[low], rows[low], keys):
        _swap(scores, rows, low, high)
    if before(scores[high], rows[high], scores[middle], rows[middle], keys):
        _swap(scores, rows, middle, high)
    _swap(scores, rows, low, middle)


@kernel
def _range_of(scores, count):
    """Return the least and the largest of the first ``count`` scores."""
    low = high = simd.splat_f32(scores[0])
    whole = count - count % 16
    for i in range(0, whole, 16):
        values = simd.load_f32x16(scores, i)
        low, high = simd.minimum(values, low), simd.maximum(values, high)
    least, largest = simd.hmin(low), simd.hmax(high)
    for i in range(whole, count):
        least, largest = min(least, scores[i]), max(largest, scores[i])
    return least, largest


@kernel
def _reaching(scores, count, threshold):
    """Return how many of the first ``count`` scores are at or above a threshold."""
    reach = np.int64(0)
    whole = count - count % 16
    for i in range(0, whole, 16):
        reach += simd.ones(simd.ge_mask(simd.load_f32x16(scores, i), threshold))
    for i in range(whole, count):
        reach += np.int64(scores[i] >= threshold)
    return reach


@kernel
def threshold_for(scores, count, least, most):
    """Return a score that at least ``least`` and at most ``most`` of the first ``count`` scores reach.

    The result is NaN if bisection finds no such score, for example if many scores are equal. ``most`` is below
    ``count``.
    """
    low, high = _range_of(scores, count)
    for _ in range(_BISECTIONS):  # more than `most` scores reach `low`, fewer than `least` are above `high`
        middle = low + np.float32(0.5) * (high - low)
        if not low < middle < high:
            break
        reach = _reaching(scores, count, middle)
        if reach > most:
            low = middle
        elif reach < least:
            high = middle
        else:
            return middle
    return _NONE


if ACTIVE == "avx512":

    @kernel
    def _squeeze(scores, rows, count, threshold):
        """Keep the candidates at or above a threshold, in their order; return their number."""
        held = np.int64(0)
        whole = count - count % 16
        for i in range(0, whole, 16):
            values, places = simd.load_f32x16(scores, i), simd.load_i64x16(rows, i)
            mask = simd.ge_mask(values, threshold)
            simd.pack_f32(scores, held, values, mask)
            simd.pack_i64(rows, held, places, mask)
            held += simd.ones(mask)
        return _squeeze_one_by_one(scores, rows, whole, count, threshold, held)

else:

    @kernel
    def _squeeze(scores, rows, count, threshold):
        """Keep the candidates at or above a threshold, in their order; return their number."""
        return _squeeze_one_by_one(scores, rows, np.int64(0), count, threshold, np.int64(0))


@kernel
def _squeeze_one_by_one(scores, rows, begin, end, threshold, held):
    """Move those of the candidates ``begin`` to ``end`` that are kept to place ``held`` and those after it.

    There is no branch on a score, which the CPU could not predict.
    """
    for i in range(begin, end):
        score = scores[i]
        scores[held], rows[held] = score, rows[i]
        held += np.int64(score >= threshold)
    return held


@kernel
def cut(scores, rows, count, keep, keys):
    """Move the best ``keep`` of ``count`` candidates to the front, in any order; ``count`` is larger than ``keep``.

    The others are lost.
    """
    threshold = threshold_for(scores, count, keep, keep)
    if threshold == threshold:
        _squeeze(scores, rows, count, threshold)
    else:
        _quickselect(scores, rows, count, keep, keys)


@kernel
def _quickselect(scores, rows, count, keep, keys):
    """Do what `cut` does, even if scores are equal."""
    low, high = np.int64(0), np.int64(count - 1)
    target = np.int64(keep)
    while high - low > 1:
        _median_to_front(scores, rows, low, high, keys)
        pivot_score, pivot_row = scores[low], rows[low]
        i, j = low + 1, high
        while True:
            while i <= j and before(scores[i], rows[i], pivot_score, pivot_row, keys):
                i += 1
            while i <= j and before(pivot_score, pivot_row, scores[j], rows[j], keys):
                j -= 1
            if i >= j:
                break
            _swap(scores, rows, i, j)
            i += 1
            j -= 1
        _swap(scores, rows, low, j)
        if j == target or j == target - 1:
            return
        if j < target:
            low = j + 1
        else:
            high = j - 1
    if high > low and before(scores[high], rows[high], scores[low], rows[low], keys):
        _swap(scores, rows, low, high)


@kernel
def worst(scores, count):
    """Return the smallest of the first ``count`` scores."""
    lowest = scores[0]
    for i in range(1, count):
        lowest = min(lowest, scores[i])
    return lowest


@kernel
def thinned(scores, rows, count, keep, keys):
    """Drop some of ``count`` candidates, but none of the best ``keep`` < ``count``; return new count and threshold."""
    rise = threshold_for(scores, count, keep, keep + (count - keep) // 4)
    if rise == rise:
        return _squeeze(scores, rows, count, rise), rise
    _quickselect(scores, rows, count, keep, keys)
    count = np.int64(keep)
    return count, worst(scores, count)


@kernel
def _sift_down(scores, rows, start, end, keys):
    root = start
    while True:
        child = 2 * root + 1
        if child >= end:
            return
        if child + 1 < end and before(scores[child], rows[child], scores[child + 1], rows[child + 1], keys):
            child += 1
        if not before(scores[root], rows[root], scores[child], rows[child], keys):
            return
        _swap(scores, rows, root, child)
        root = child


@kernel
def sort(scores, rows, count, keys):
    """Sort the first ``count`` candidates, best first.

    Many candidates are sorted by heap sort, which needs no scratch memory and has no bad worst case.
    """
    if count <= _FEW:
        for i in range(1, count):
            score, row = scores[i], rows[i]
            place = np.int64(i)
            while place > 0 and before(score, row, scores[place - 1], rows[place - 1], keys):
                scores[place], rows[place] = scores[place - 1], rows[place - 1]
                place -= 1
            scores[place], rows[place] = score, row
        return
    for start in range(count // 2 - 1, -1, -1):
        _sift_down(scores, rows, np.int64(start), np.int64(count), keys)
    for end in range(count - 1, 0, -1):
        _swap(scores, rows, 0, end)
        _sift_down(scores, rows, np.int64(0), np.int64(end), keys)


@kernel
def cut_pools(pools, keep, keys):
    """Cut each of the pools, `Candidates`, to its best ``keep`` candidates, in any order."""
    scores, rows, counts, _ = pools
    for q in range(counts.size):
        if counts[q] > keep:
            cut(scores[q], rows[q], counts[q], keep, keys)
            counts[q] = keep


@kernel
def best_of_columns(scores, keys, keep):
    """Return the places (keep, t) int64 of the best ``keep`` <= m scores of every column of scores (m, t) float32.

    The places are in no order. Of equal scores, those with the lowest ``keys`` are taken: (m, t) int64, or (m, 1) for
    the same keys in all columns.
    """
    m, t = scores.shape
    places = empty((keep, t), np.int64)
    capacity = 2 * keep + 64
    kept, of, order = empty(capacity, np.float32), empty(capacity, np.int64), empty(m, np.int64)
    for c in range(t):
        if c < keys.shape[1]:
            for i in range(m):
                order[i] = keys[i, c]
        count, threshold = np.int64(0), MINUS_INFINITY
        for i in range(m):
            if not scores[i, c] < threshold:  # NaN is kept, so that there are always enough
                kept[count], of[count] = scores[i, c], i
                count += 1
                if count == capacity:
                    count, threshold = thinned(kept, of, count, keep, order)
        if count > keep:
            cut(kept, of, count, keep, order)
        for i in range(keep):
            places[i, c] = of[i]
    return places


@kernel
def drop_repeats(pools):
    """Keep, in every pool, only the best of the candidates that have the same row; the order of the pools changes."""
    scores, rows, counts, _ = pools
    most = np.int64(0)
    for q in range(counts.size):
        most = max(most, counts[q])
    size = np.int64(4)
    while size < 2 * most:
        size *= 2
    places = local(size, np.int64)  # a hash table with open addressing: place in the pool, or -1
    for q in range(counts.size):
        places[:] = -1
        kept = np.int64(0)
        for i in range(counts[q]):
            row, score = rows[q, i], scores[q, i]
            at = (row * np.int64(2654435761) >> np.int64(8)) & (size - 1)
            while places[at] >= 0 and rows[q, places[at]] != row:
                at = (at + 1) & (size - 1)
            if places[at] >= 0:
                scores[q, places[at]] = max(scores[q, places[at]], score)
                continue
            places[at] = kept
            scores[q, kept], rows[q, kept] = score, row
            kept += 1
        counts[q] = kept


@kernel
def best(pools, k, keys):
    """Return the best ``k`` of every pool, sorted, as scores and rows (nq, k); missing places are -inf and -1."""
    out_scores = empty((pools.counts.size, k), np.float32)
    out_rows = empty((pools.counts.size, k), np.int64)
    take_best(pools, k, keys, out_scores, out_rows)
    return out_scores, out_rows


@kernel
def take_best(pools, k, keys, out_scores, out_rows):
    """Write the best ``k`` of every pool, sorted, to ``out_scores`` and ``out_rows`` (nq, k) float32 and int64.

    Missing places get the score -inf and the row -1.
    """
    scores, rows, counts, _ = pools
    for q in range(counts.size):
        count = counts[q]
        if count > k:
            cut(scores[q], rows[q], count, k, keys)
            count = np.int64(k)
        sort(scores[q], rows[q], count, keys)
        for i in range(count):
            out_scores[q, i] = scores[q, i]
            out_rows[q, i] = rows[q, i]
        for i in range(count, k):
            out_scores[q, i] = MINUS_INFINITY
            out_rows[q, i] = -1
