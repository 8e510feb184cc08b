"""Scan of rows of 8-bit scalar codes, most of which are passed over by products of bytes.

The query, times the steps of the codes, is rounded to signed bytes, and 64 of these are multiplied with 64 codes by one
instruction. What the query loses by rounding, and what the sums of `annvq.kernels.vectors.dots` lose by theirs, has a
bound. A row is passed over only if its estimate plus that bound is below the threshold of the pool. All others are
scored in floats, so that the pools receive, in the same order, what `annvq.kernels.scan.scanflat` would put into them.

With c a code, s the step of its dimension, v = c - 127.5, and t the query less the minimum and 127.5 s, a score is

    inner product      q . minimum  +  sum q s c
    minus L2 squared   -t . t  +  sum 2 t s v  -  sum (s v)^2

The sum in the middle is that of products of bytes. The last one depends on the row alone: it is made when the row is
scanned for the first time, and kept.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import empty, local, zeros
from annvq.kernels.registers import simd
from annvq.kernels.scan.lists import part_of
from annvq.kernels.scan.topk import MINUS_INFINITY, thinned
from annvq.kernels.vectors.dots import score4, squared4

LEAST_DIM = 64  # shorter rows do not fill a register of bytes
_CHUNK = 64  # rows whose products are made before any of them is scored
_CENTRE, _MOST = 127.5, 127.0
_ROUNDING = 2.0**-24  # of one operation on floats, relative
_TINY = 2.0**-148  # more than one operation loses below the least normal float
_LARGEST_SUM = 2.0**31 - 1.0  # of products of bytes
_LARGE = 1e30  # sums of numbers up to here do not overflow


class RoundedQueries(NamedTuple):
    """Queries in signed bytes, and how far estimates that are made from them may be off."""

    levels: np.ndarray  # (nq, whole + 64) uint8: for all whole registers of a row, then for its last 64 codes
    units: np.ndarray  # (nq,) float32, what 1 in a sum of products stands for
    bases: np.ndarray  # (nq,) float64, what is added to the estimates of all rows
    slacks: np.ndarray  # (nq,) float64, more than what estimates are off; infinity if that has no bound


@kernel
def rounded(queries, store, l2):
    """Return `RoundedQueries` of queries, (nq, padded d) float32, for a `Store` of codes."""
    _, d, minimum, step = store
    nq, whole = queries.shape[0], d // 64 * 64
    levels, units = empty((nq, whole + 64), np.uint8), empty(nq, np.float32)
    bases, slacks = empty(nq, np.float64), empty(nq, np.float64)
    weights = local(d, np.float64)
    for q in range(nq):
        units[q], bases[q], slacks[q] = _round(queries[q], d, minimum, step, l2, weights, levels[q])
    return RoundedQueries(levels, units, bases, slacks)


@kernel
def _round(query, d, minimum, step, l2, weights, levels):
    """Write one query to ``levels``; return its unit, base and slack. ``weights`` (d,) float64 is scratch."""
    whole = d // 64 * 64
    base, largest = 0.0, 0.0
    magnitude, norm = 0.0, 0.0  # bounds of sums of magnitudes: of the products that make a score, of (s v)^2
    lost, tiny = 0.0, np.float64(d + 16)  # what numbers lose before they are summed; how often below normal floats
    for i in range(d):
        number, low, width = np.float64(query[i]), np.float64(minimum[i]), np.float64(step[i])
        high = low + 255.0 * width
        reach = max(abs(low), abs(high))
        if l2:
            centred = number - low - _CENTRE * width
            weights[i] = 2.0 * centred * width
            base -= centred * centred
            apart = max(abs(number - low), abs(number - high))
            error = 1.01 * _ROUNDING * (reach + apart)
            lost += error * (2.0 * apart + error)
            magnitude += apart * apart
            norm += (_CENTRE * width) ** 2
            tiny += 2.0 * apart
        else:
            weights[i] = number * width
            base += number * low
            magnitude += abs(number) * reach
            tiny += abs(number)
        largest = max(largest, abs(weights[i]))
    unit = np.float32(largest / _MOST)
    scale = _MOST / largest if largest > 0.0 else 0.0
    products, rounding = 0.0, 0.0
    levels[:] = np.uint8(0)
    for i in range(d):
        level = np.rint(weights[i] * scale)
        levels[i if i < whole else whole + 64 - d + i] = np.uint8(np.int64(level) & 255)
        rest = weights[i] - level * np.float64(unit)
        base += _CENTRE * (rest - weights[i] if l2 else rest)
        products += 255.0 * abs(level)
        rounding += abs(rest)
    estimate = np.float64(unit) * products + norm
    if products > _LARGEST_SUM or not magnitude + estimate + abs(base) < _LARGE:
        return unit, base, np.inf
    sums = _ROUNDING * np.float64(d // 16 + 16)
    lost += sums * (magnitude + lost + 2.0 * estimate) + _TINY * (tiny + products)
    return unit, base, 1.0001 * _CENTRE * rounding + 1.01 * lost


@kernel
def _fill_products(rows, begin, end, d, levels, sums):
    """Write the products of rows ``begin`` to ``end`` with a query's ``levels`` to ``sums``.

    Up to three numbers of no meaning are written behind these.
    """
    whole = d - d % 64
    last = (end - 1) * d
    for row in range(begin, end, 4):
        a = row * d
        b, c, e = min(a + d, last), min(a + 2 * d, last), min(a + 3 * d, last)
        sum_a, sum_b, sum_c, sum_e = simd.zero_i32x16(), simd.zero_i32x16(), simd.zero_i32x16(), simd.zero_i32x16()
        for i in range(0, whole, 64):
            part = simd.load_u8x64(levels, i)
            sum_a = simd.dot4_u8i8(sum_a, simd.load_u8x64(rows, a + i), part)
            sum_b = simd.dot4_u8i8(sum_b, simd.load_u8x64(rows, b + i), part)
            sum_c = simd.dot4_u8i8(sum_c, simd.load_u8x64(rows, c + i), part)
            sum_e = simd.dot4_u8i8(sum_e, simd.load_u8x64(rows, e + i), part)
        if whole < d:
            i, part = d - 64, simd.load_u8x64(levels, whole)
            sum_a = simd.dot4_u8i8(sum_a, simd.load_u8x64(rows, a + i), part)
            sum_b = simd.dot4_u8i8(sum_b, simd.load_u8x64(rows, b + i), part)
            sum_c = simd.dot4_u8i8(sum_c, simd.load_u8x64(rows, c + i), part)
            sum_e = simd.dot4_u8i8(sum_e, simd.load_u8x64(rows, e + i), part)
        simd.store_sums4(sums, row - begin, sum_a, sum_b, sum_c, sum_e)


@kernel
def _fill_norms(store, scratch, begin, end, norms):
    """Write what the rows ``begin`` to ``end`` alone add to scores under L2 to ``norms`` (n,) where it is not known."""
    rows, d, _, step = store
    for row in range(begin, end):
        if norms[row] == np.float32(0.0):
            a = row * d
            norms[row], _, _, _ = squared4(scratch.centre, rows, a, a, a, a, d, scratch.zeros, step)


class _Scratch(NamedTuple):
    sums: np.ndarray  # (`_CHUNK`,) int32, products of bytes
    near: np.ndarray  # (`_CHUNK`,) int64, rows that are not passed over
    centre: np.ndarray  # (padded d,) float32, 127.5 steps
    zeros: np.ndarray  # (padded d,) float32


@kernel
def _scratch_for(step):
    """Return scratch for a store with these steps, (padded d,) float32."""
    centre = empty(step.size, np.float32)
    for i in range(step.size):
        centre[i] = np.float32(_CENTRE) * step[i]
    return _Scratch(zeros(_CHUNK, np.int32), empty(_CHUNK, np.int64), centre, zeros(step.size, np.float32))


@kernel
def _fill_near(sums, unit, least, norms, l2, start, stop, allow, near):
    """Write those of the rows ``start`` to ``stop`` whose estimates reach ``least`` to ``near``; return how many."""
    with_allow = allow.size > 0
    found = np.int64(0)
    for i in range(0, stop - start, 16):
        estimate = simd.mul(simd.to_f32(simd.load_i32x16(sums, i)), simd.splat_f32(unit))
        if l2:
            left = norms.size - start - i
            if left >= 16:
                estimate = simd.sub(estimate, simd.load_f32x16(norms, start + i))
            else:
                estimate = simd.sub(estimate, simd.load_f32_tail(norms, start + i, left))
        mask = simd.ge_mask(estimate, least)
        while mask != 0:
            row = start + i + simd.trailing_zeros(mask)
            mask &= mask - np.uint32(1)
            if row < stop and not (with_allow and allow[row] == 0):
                near[found] = row
                found += 1
    return found


@kernel
def _fill_allowed(start, stop, allow, near):
    """Write those of the rows ``start`` to ``stop`` to ``near`` that may be returned; return their number."""
    found = np.int64(0)
    for row in range(start, stop):
        near[found] = row
        found += np.int64(allow.size == 0 or allow[row] != 0)
    return found


@kernel
def _scan_rows(query, of_bytes, store, norms, l2, begin, end, allow, row_base, pools, q, keep, keys, scratch):
    """Scan rows ``begin`` to ``end`` of a store for one query into pool ``q``.

    ``of_bytes`` are the `RoundedQueries`, ``scratch`` is `_Scratch`; the other parameters are those of `scan_lists` and
    of `annvq.kernels.scan.scanflat.scan_rows`.
    """
    stored, d, minimum, step = store
    scores, rows = pools.scores[q], pools.rows[q]
    count, threshold = pools.counts[q], pools.thresholds[q]
    levels, unit = of_bytes.levels[q], of_bytes.units[q]
    base, slack = of_bytes.bases[q], of_bytes.slacks[q]
    sums, near = scratch.sums, scratch.near
    for start in range(begin, end, _CHUNK):
        stop = min(np.int64(end), start + _CHUNK)
        if slack < np.inf and threshold > MINUS_INFINITY:
            bar = np.float64(threshold) - base - slack
            least = np.float32(bar - 4.0 * _ROUNDING * abs(bar))
            if l2:
                _fill_norms(store, scratch, start, stop, norms)
            _fill_products(stored, start, stop, d, levels, sums)
            found = _fill_near(sums, unit, least, norms, l2, start, stop, allow, near)
        else:
            found = _fill_allowed(start, stop, allow, near)
        for i in range(0, found, 4):
            a, b = near[i] * d, near[min(i + 1, found - 1)] * d
            c, e = near[min(i + 2, found - 1)] * d, near[min(i + 3, found - 1)] * d
            exact = score4(query, stored, a, b, c, e, d, minimum, step, l2)
            for j in range(min(np.int64(4), found - i)):
                if exact[j] >= threshold:
                    scores[count] = exact[j]
                    rows[count] = row_base + near[i + j]
                    count += 1
                    if count == scores.size:
                        count, threshold = thinned(scores, rows, count, keep, keys)
    pools.counts[q], pools.thresholds[q] = count, threshold


@kernel
def scan_lists(queries, store, norms, l2, offsets, allow, row_base, visits, pools, keep, keys):
    """Scan every query's lists of one segment into its pool.

    ``store`` has 8-bit codes of at least `LEAST_DIM` dimensions. ``norms`` is (n,) float32 under L2 and is not used
    otherwise; it is 0 for rows that were never scanned, and is updated. The other parameters are those of
    `annvq.kernels.scan.scanflat.scan_lists`.
    """
    of_bytes, scratch = rounded(queries, store, l2), _scratch_for(store.step)
    for q in range(visits.counts.size):
        for i in range(visits.counts[q]):
            l = visits.lists[q, i]
            begin, end = part_of(offsets[l + 1] - offsets[l], visits.part, visits.parts)
            begin, end = offsets[l] + begin, offsets[l] + end
            _scan_rows(
                queries[q], of_bytes, store, norms, l2, begin, end, allow, row_base, pools, q, keep, keys, scratch
            )


@kernel
def scan_all(queries, store, norms, l2, begin, end, allow, row_base, pools, keep, keys):
    """Scan rows ``begin`` to ``end`` for every query, in blocks of rows that stay in the cache.

    The parameters are those of `scan_lists` and of `annvq.kernels.scan.scanflat.scan_rows`.
    """
    of_bytes, scratch = rounded(queries, store, l2), _scratch_for(store.step)
    size = max(np.int64(_CHUNK), np.int64(1 << 17) // store.d // _CHUNK * _CHUNK)
    for block in range(begin, end, size):
        stop = min(np.int64(end), block + size)
        for q in range(pools.counts.size):
            _scan_rows(
                queries[q], of_bytes, store, norms, l2, block, stop, allow, row_base, pools, q, keep, keys, scratch
            )
