"""Rows in locally adaptive 8-bit numbers: every row has a range of its own, so that nothing is learned or clipped.

What is coded is the difference of a vector from the mean of all. A row is one stretch of bytes: a head of two or three
float32 numbers, and d codes c of 8 bits, which stand for ``low + step * c``. Rows of two levels have d more codes r
behind these, which say where between two such values a number lies: ``low + step * (c + (r - 128) / 256)``. A row of
whole numbers within 255 of each other has the step 1, and loses nothing. In other rows, zero is among the values of the
first codes if the row has numbers on both sides of it: a dimension that is the same in all rows then has no error,
which inner products with queries that are large there would multiply. Source: Aguerrebere et al., "Similarity search
in the blink of an eye with compressed indices" (VLDB 2023), section 3, for ranges per vector and codes of two levels.

The best rows of a pool are found in two steps. `propose` scores all of them with the first level alone, by exact
products of bytes with the query in 16 bits. `rescore` then scores the few that are left with everything stored.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import empty, local_zeros
from annvq.kernels.compile.scratch import local as on_stack
from annvq.kernels.registers import simd
from annvq.kernels.vectors.bytematrix import largest

HEAD = 8  # bytes of a row before its codes: low, step
HEAD_WITH_SQUARE = 12  # and the squared length of what the first codes stand for, which scores under L2 need
_AHEAD = 8  # the row that is so many places ahead in a pool is fetched in advance
_UPPER = np.float32(256.0)
_LEVELS = np.float32(127 * 256)  # of a query in 16 bits
LEAST = np.float32(1e-30)


class LocalRows(NamedTuple):
    """Rows of d numbers in locally adaptive codes."""

    rows: np.ndarray  # flat uint8, ``head + levels * d`` bytes per row
    d: int
    head: int  # bytes, `HEAD` or `HEAD_WITH_SQUARE`
    levels: int  # 1 or 2
    mean: np.ndarray  # (d,) float32, to which rows are differences


@kernel
def finalists(k):
    """Return how many rows `rescore` should be left with for the k best."""
    return k + np.int64(4) + np.int64(k // 16)


@kernel
def _range(vectors, mean, row):
    """Return the least and the largest number of a vector less the mean, and whether all its numbers are whole."""
    d = vectors.shape[1]
    at, whole = row * d, d - d % 16
    low = high = vectors[row, 0] - mean[0]
    parts_low = parts_high = simd.zero_f32x16()
    if whole > 0:
        lowest = highest = simd.sub(simd.load_f32x16(vectors, at), simd.load_f32x16(mean, 0))
        for j in range(0, whole, 16):
            x = simd.sub(simd.load_f32x16(vectors, at + j), simd.load_f32x16(mean, j))
            lowest, highest = simd.minimum(x, lowest), simd.maximum(x, highest)
            part = simd.sub(x, simd.nearest(x))
            parts_low, parts_high = simd.minimum(part, parts_low), simd.maximum(part, parts_high)
        low, high = simd.hmin(lowest), simd.hmax(highest)
    is_whole = simd.hmin(parts_low) == np.float32(0.0) and simd.hmax(parts_high) == np.float32(0.0)
    for j in range(whole, d):
        value = vectors[row, j] - mean[j]
        low, high = min(low, value), max(high, value)
        is_whole &= value == np.float32(np.rint(value))
    return low, high, is_whole


@kernel
def _fill_levels(vectors, mean, row, low, scale, head, rows):
    """Write the codes of a row; the numbers are turned into places among 65,536, or into the upper bytes of these."""
    d, stride = vectors.shape[1], rows.shape[1]
    whole, at, to = d - d % 16, row * d, row * stride + head
    two = stride > head + d
    lows, scales = simd.splat_f32(low), simd.splat_f32(scale)
    half, last = simd.splat_f32(np.float32(128.5)), simd.splat_f32(np.float32(65535.0))
    down, up = simd.splat_f32(np.float32(1.0 / 256.0)), simd.splat_f32(np.float32(-256.0))
    for j in range(0, whole, 16):
        x = simd.sub(simd.sub(simd.load_f32x16(vectors, at + j), simd.load_f32x16(mean, j)), lows)
        place = simd.minimum(simd.add(simd.mul(x, scales), half), last)
        upper = simd.floor(simd.mul(place, down))
        simd.store_levels(rows, to + j, upper)
        if two:
            simd.store_levels(rows, to + d + j, simd.fma(upper, up, place))
    for j in range(whole, d):
        place = min(np.int64(((vectors[row, j] - mean[j]) - low) * scale + np.float32(128.5)), np.int64(65535))
        rows[row, head + j] = np.uint8(place >> 8)
        if two:
            rows[row, head + d + j] = np.uint8(place & 255)


@kernel
def _fill_squares(rows, d):
    """Write the squared lengths of what first codes stand for; four rows at a time, each in the order of dimensions."""
    n, stride = rows.shape
    head = HEAD_WITH_SQUARE
    lows, steps = empty(4, np.float64), empty(4, np.float64)
    for first in range(0, n, 4):
        i, j, k, l = first, min(first + 1, n - 1), min(first + 2, n - 1), min(first + 3, n - 1)
        for r in range(4):
            at = min(first + r, n - 1) * stride
            lows[r], steps[r] = np.float64(simd.load_f32(rows, at)), np.float64(simd.load_f32(rows, at + 4))
        s = t = u = v = np.float64(0.0)
        for at in range(head, head + d):
            x = lows[0] + steps[0] * np.float64(rows[i, at])
            s += x * x
            x = lows[1] + steps[1] * np.float64(rows[j, at])
            t += x * x
            x = lows[2] + steps[2] * np.float64(rows[k, at])
            u += x * x
            x = lows[3] + steps[3] * np.float64(rows[l, at])
            v += x * x
        simd.store_f32(rows, i * stride + 8, np.float32(s))
        simd.store_f32(rows, j * stride + 8, np.float32(t))
        simd.store_f32(rows, k * stride + 8, np.float32(u))
        simd.store_f32(rows, l * stride + 8, np.float32(v))


@kernel
def encode_rows(vectors, mean, rows, head):
    """Encode vectors (n, d) float32, less ``mean`` (d,), to ``rows``, (n, head + levels * d) uint8."""
    n, d = vectors.shape
    stride = rows.shape[1]
    for i in range(n):
        low, high, is_whole = _range(vectors, mean, i)
        step = (high - low) / np.float32(255.0)
        if is_whole and high - low <= np.float32(255.0):
            step = np.float32(1.0)
        elif low < np.float32(0.0) < high and step > LEAST:
            step = (high - low) / np.float32(254.0)  # one less, because the range moves by up to a step
            low = -step * np.float32(np.ceil(-low / step))
        scale = np.float32(256.0) / step if step > LEAST else np.float32(0.0)
        _fill_levels(vectors, mean, i, low, scale, head, rows)
        simd.store_f32(rows, i * stride, low)
        simd.store_f32(rows, i * stride + 4, step)
    if head == HEAD_WITH_SQUARE:
        _fill_squares(rows, d)


@kernel
def decode_rows(local, which, decoded):
    """Decode the rows ``which``, (m,) int64, of `LocalRows` to ``decoded``, (m, d) float32."""
    rows, d, head, levels, mean = local
    for i in range(which.size):
        at = which[i] * (head + levels * d)
        low, step = simd.load_f32(rows, at), simd.load_f32(rows, at + 4)
        fine = step / _UPPER
        lowest = low - np.float32(0.5) * step
        for j in range(d):
            code = np.float32(rows[at + head + j])
            if levels == 2:
                decoded[i, j] = mean[j] + (lowest + fine * (code * _UPPER + np.float32(rows[at + head + d + j])))
            else:
                decoded[i, j] = mean[j] + (low + step * code)


@kernel
def _in_16_bits(query, d, upper, lower):
    """Write a query, (d,) float32, as signed bytes: 256 times ``upper`` plus ``lower``, both uint8; return the step.

    ``query`` is padded with zeros to a multiple of 16.
    """
    step = max(largest(query, d), LEAST) / _LEVELS
    scale = simd.splat_f32(np.float32(1.0) / step)
    small, half, large = simd.splat_f32(np.float32(1 / 256)), simd.splat_f32(np.float32(0.5)), simd.splat_f32(-_UPPER)
    for i in range(0, d, 16):
        value = simd.nearest(simd.mul(simd.load_f32x16(query, i), scale))
        high = simd.floor(simd.fma(value, small, half))
        simd.store_signed(upper, i, high)
        simd.store_signed(lower, i, simd.fma(high, large, value))
    return step


@kernel
def _fetch(rows, begin, end):
    for place in range(begin, end, 64):
        simd.prefetch(rows, place)


@kernel
def _asked(queries, q, mean, l2, query):
    """Write query ``q`` to ``query``, padded with zeros to a multiple of 16 or more: less the mean under L2."""
    d = mean.size
    for i in range(d):
        query[i] = queries[q, i] - mean[i] if l2 else queries[q, i]
    for i in range(d, query.size):
        query[i] = np.float32(0.0)


@kernel
def _total(query):
    """Return the sum of a padded query."""
    total = simd.zero_f32x16()
    for i in range(0, query.size, 16):
        total = simd.add(total, simd.load_f32x16(query, i))
    return simd.hsum(total)


@kernel
def _product(query, mean):
    """Return the inner product of a padded query with the mean: what its scores with all rows have in common."""
    d = mean.size
    whole, total = d - d % 16, simd.zero_f32x16()
    for i in range(0, whole, 16):
        total = simd.fma(simd.load_f32x16(query, i), simd.load_f32x16(mean, i), total)
    if whole < d:
        total = simd.fma(simd.load_f32x16(query, whole), simd.load_f32_tail(mean, whole, d - whole), total)
    return simd.hsum(total)


@kernel
def propose(queries, local, l2, row_base, pools):
    """Replace the scores of the pooled rows that lie among these rows by those of their first codes.

    Parameters
    ----------
    queries
        (nq, d) float32.
    local
        `LocalRows`.
    l2
        Whether scores are minus squared distances, here without what is the same for all rows.
    row_base
        The index-wide number of row 0.
    pools
        `annvq.kernels.scan.topk.Candidates`, which are updated.

    """
    stored, d, head, levels, mean = local
    scores, rows, counts, _ = pools
    stride = head + levels * d
    n = stored.size // stride
    padded = (d + 63) // 64 * 64
    whole = d - d % 64
    query = on_stack(padded, np.float32)
    upper, lower = local_zeros(padded, np.uint8), local_zeros(padded, np.uint8)
    for q in range(counts.size):
        _asked(queries, q, mean, l2, query)
        unit = np.float64(_in_16_bits(query, d, upper, lower))
        total = np.float64(_total(query))
        fetched = np.int64(0)
        for i in range(counts[q]):
            while fetched < min(counts[q], i + _AHEAD):
                row = rows[q, fetched] - row_base
                if 0 <= row < n:
                    _fetch(stored, row * stride, row * stride + head + d)
                fetched += 1
            row = rows[q, i] - row_base
            if not 0 <= row < n:
                continue
            at = row * stride + head
            high, low = simd.zero_i32x16(), simd.zero_i32x16()
            for j in range(0, whole, 64):
                codes = simd.load_u8x64(stored, at + j)
                high = simd.dot4_u8i8(high, codes, simd.load_u8x64(upper, j))
                low = simd.dot4_u8i8(low, codes, simd.load_u8x64(lower, j))
            if whole < d:
                codes = simd.load_u8x64_tail(stored, at + whole, d - whole)
                high = simd.dot4_u8i8(high, codes, simd.load_u8x64(upper, whole))
                low = simd.dot4_u8i8(low, codes, simd.load_u8x64(lower, whole))
            product = np.float64(simd.hsum_i32(high)) * 256.0 + np.float64(simd.hsum_i32(low))
            lowest, step = simd.load_f32(stored, at - head), simd.load_f32(stored, at - head + 4)
            score = lowest * total + step * unit * product
            if l2:
                score = 2.0 * score - simd.load_f32(stored, at - head + 8)
            scores[q, i] = np.float32(score)


@kernel
def rescore(queries, local, l2, row_base, pools):
    """Replace the scores of the pooled rows that lie among these rows by those of all that is stored of them.

    The parameters are those of `propose`. Sums are made in the order of `annvq.kernels.vectors.dots`.
    """
    stored, d, head, levels, mean = local
    scores, rows, counts, _ = pools
    stride = head + levels * d
    n = stored.size // stride
    query = on_stack((d + 15) // 16 * 16, np.float32)
    for q in range(counts.size):
        _asked(queries, q, mean, l2, query)
        common = np.float32(0.0) if l2 else _product(query, mean)
        fetched = np.int64(0)
        for i in range(counts[q]):
            while fetched < min(counts[q], i + _AHEAD):
                row = rows[q, fetched] - row_base
                if 0 <= row < n:
                    _fetch(stored, row * stride, (row + 1) * stride)
                fetched += 1
            row = rows[q, i] - row_base
            if 0 <= row < n:
                score = _score(query, stored, row * stride, d, head, levels, l2)
                scores[q, i] = score + common


@kernel
def _score(query, stored, at, d, head, levels, l2):
    """Return the score of the row that starts at byte ``at``."""
    low, step = simd.load_f32(stored, at), simd.load_f32(stored, at + 4)
    at += head
    if levels == 2:
        low -= np.float32(0.5) * step
        step /= _UPPER
    lowest, scale, upper = simd.splat_f32(low), simd.splat_f32(step), simd.splat_f32(_UPPER)
    total = simd.zero_f32x16()
    whole = d - d % 16
    for i in range(0, whole, 16):
        q, codes = simd.load_f32x16(query, i), simd.load_levels(stored, at + i)
        if levels == 2:
            codes = simd.fma(codes, upper, simd.load_levels(stored, at + d + i))
        value = simd.fma(codes, scale, lowest)
        if l2:
            value = simd.sub(q, value)
            q = value
        total = simd.fma(q, value, total)
    if whole < d:
        q, codes = simd.load_f32x16(query, whole), simd.load_levels_tail(stored, at + whole, d - whole)
        if levels == 2:
            codes = simd.fma(codes, upper, simd.load_levels_tail(stored, at + d + whole, d - whole))
        value = simd.fma(codes, scale, lowest)
        if l2:
            value = simd.first_lanes(simd.sub(q, value), d - whole)
            q = value
        total = simd.fma(q, value, total)
    return -simd.hsum(total) if l2 else simd.hsum(total)
