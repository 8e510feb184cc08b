"""Scan of RaBitQ codes.

With u = code - (2^B - 1) / 2, the score of a row is

    base + add + mul <q, u>

where base is what the row's list contributes, and add and mul are floats that are kept with the row (see
`annvq.codebooks.rabitq`; the layout of codes is that of `annvq.kernels.codes.bits`). A scan has two stages. The first
uses only the sign plane, u1 = +-1/2, and the query in 4 bits per coordinate, and computes an upper bound of the score.
The second uses all planes, and the query in 16 bits per coordinate, for the rows whose bound reaches the pool's
threshold. The score of a row is the smaller of estimate and bound, so that it does not depend on what was scanned
before.

Inner products are integers, and every float operation is rounded on its own, in one order, so that results are the same
on every instruction set. Source: Gao et al. (arXiv 2409.09913), section 4.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from annvq.kernels.codes.bits import count_differences, inner_product
from annvq.kernels.compile.jit import intrinsic, kernel
from annvq.kernels.compile.scratch import empty, zeros
from annvq.kernels.registers import simd
from annvq.kernels.scan.lists import list_of, part_of
from annvq.kernels.scan.topk import thinned
from annvq.kernels.vectors.dots import score_rows

CHUNK = 64  # rows whose bounds are computed at a time


class BitCodes(NamedTuple):
    """A segment's RaBitQ codes in list order, as `annvq.codebooks.RaBitQCodebook.encode` returns them."""

    codes1: np.ndarray  # (n, D / 8) uint8: the signs
    codes_ex: np.ndarray  # (n, (B - 1) D / 8) uint8: the other planes
    factors: np.ndarray  # (n, 3 or 5) float32
    offsets: np.ndarray  # (nlist + 1,) int64, the first row of every list, and the end
    allow: np.ndarray  # (n,) uint8, not 0 for rows that may be returned; empty if all may
    row_base: int  # the index-wide number of row 0


class Scratch(NamedTuple):
    """What the first stage computes for the rows of a chunk."""

    counts: np.ndarray  # (CHUNK,) int32
    estimates: np.ndarray  # (CHUNK,) float32
    variances: np.ndarray  # (CHUNK,) float32


@kernel
def _scratch():
    return Scratch(empty(CHUNK, np.int32), empty(CHUNK, np.float32), empty(CHUNK, np.float32))


@intrinsic
def _sqrt(typingctx, values):
    """Return the square roots of 16 floats, correctly rounded."""

    def codegen(context, builder, sig, args):
        return simd._call(builder, "llvm.sqrt.v16f32", simd.F32x16.llvm, [args[0]])

    return simd.F32x16(simd.F32x16), codegen


@kernel
def estimate1(factors, begin, end, D, scale, noise, base, distance, scratch):
    """Compute the first stage's estimate of every row's score, and the square of how far the score may be above it.

    Parameters
    ----------
    factors
        (n, 3 or 5) float32 with the columns add1, mul1, err1, ...
    begin, end
        The range of rows, of which there are at most `CHUNK`.
    D
        Number of coordinates.
    scale, noise
        From the query's `annvq.kernels.codes.rabitq.PreparedQueries`: <q, u1> is about ``scale * (15 D - 2 count)``,
        and ``noise`` bounds what the 4-bit form of the query adds to the error.
    base, distance
        What the list adds to its rows' scores; and |q - c|, or 0 if the error of the codes is not to be bounded.
    scratch
        `Scratch`. Its counts are those of `annvq.kernels.codes.bits.count_differences`; estimates and variances are
        outputs. The upper bound of a score is ``estimate + sqrt(variance)``.

    """
    counts, estimates, variances = scratch
    for row in range(begin, end):
        i = row - begin
        mul = factors[row, 1]
        product = scale * np.float32(np.int64(15) * D - np.int64(2) * np.int64(counts[i]))
        estimates[i] = (base + factors[row, 0]) + mul * product
        of_code = factors[row, 2] * distance
        of_query = mul * noise
        variances[i] = of_code * of_code + of_query * of_query


@kernel
def estimate_full(codes1, codes_ex, factors, row, bits, high, low, step, total, base):
    """Return the second stage's estimate of a row's score, from all bits of its code.

    ``high``, ``low``, ``step`` and ``total`` are those of the query: <q, u> is
    ``step * (2 <levels, code> - (2^B - 1) total)``. ``base`` is what the list adds to the scores of its rows.
    """
    product = inner_product(codes1, codes_ex, row, bits, high, low)
    centered = np.int64(2) * product - ((np.int64(1) << np.int64(bits)) - np.int64(1)) * total
    last = np.int64(0) if bits == 1 else np.int64(3)
    return (base + factors[row, last]) + factors[row, last + 1] * (step * np.float32(centered))


@kernel
def margin(bits):
    """Return the factor by which the error bound is multiplied before the first stage drops rows.

    A row whose score is above its bound is lost. These rows are 3 % of all, which would be most of the misses of long
    codes; it costs less to let some more rows into the second stage. With one bit, the second stage knows no more of a
    row than the first, so that only the error of the query remains to be bounded.
    """
    return np.float32(0.0) if bits == 1 else np.float32(1.0 + 0.05 * bits)


@kernel
def scan_rows(codes, begin, end, queries, q, base, distance, scratch, pools, keep, keys):
    """Scan rows ``begin`` to ``end`` of one list for query ``q`` into its pool.

    ``base`` and ``distance`` are float32: what the list adds to the scores of its rows, and |q - c|. ``scratch`` is a
    `Scratch`; the other parameters are those of `scan_lists`.
    """
    codes1, codes_ex, factors, _, allow, row_base = codes
    planes, high, low = queries.planes[q], queries.high[q], queries.low[q]
    query_factors, total = queries.factors[q], queries.totals[q]
    counts, estimates, variances = scratch
    scores, rows = pools.scores[q], pools.rows[q]
    count, threshold = pools.counts[q], pools.thresholds[q]
    D = np.int64(8) * codes1.shape[1]
    bits = np.int64(1) + codes_ex.shape[1] // codes1.shape[1]
    with_allow = allow.size > 0
    distance *= margin(bits)
    for chunk in range(begin, end, CHUNK):
        stop = min(np.int64(end), chunk + CHUNK)
        count_differences(codes1, chunk, stop, planes, counts)
        estimate1(factors, chunk, stop, D, query_factors[0], query_factors[1], base, distance, scratch)
        for first in range(0, stop - chunk, 16):
            bounds = simd.add(simd.load_f32x16(estimates, first), _sqrt(simd.load_f32x16(variances, first)))
            mask = simd.ge_mask(bounds, threshold)
            if chunk + first + 16 > stop:
                mask &= (np.uint32(1) << np.uint32(stop - chunk - first)) - np.uint32(1)
            while mask != 0:
                i = first + simd.trailing_zeros(mask)
                mask &= mask - np.uint32(1)
                row = chunk + i
                if with_allow and allow[row] == 0:
                    continue
                bound = estimates[i] + np.sqrt(variances[i])
                if bound < threshold:
                    continue
                score = estimate_full(codes1, codes_ex, factors, row, bits, high, low, query_factors[2], total, base)
                score = min(score, bound)
                if score >= threshold:
                    scores[count] = score
                    rows[count] = row_base + row
                    count += 1
                    if count == scores.size:
                        count, threshold = thinned(scores, rows, count, keep, keys)
    pools.counts[q], pools.thresholds[q] = count, threshold


@kernel
def fill_distances(queries, bases, squares, visits, distances):
    """Fill ``distances (nq, nlist)`` float32 with |q - c| for the lists that queries (nq, d) float32 visit.

    ``bases (nq, nlist)`` float32 are the scores of the centroids. If these are inner products, ``squares (nlist,)``
    float32 are |c|^2; if they are minus squared distances, ``squares`` is empty. Entries of other lists do not change.
    """
    nq, d = queries.shape
    width = (d + 15) // 16 * 16
    padded, zero, nothing = zeros((1, width), np.float32), zeros(d, np.float32), empty(0, np.float32)
    square = zeros((1, 1), np.float32)
    for q in range(nq):
        if squares.size > 0:
            for i in range(d):
                padded[0, i] = queries[q, i]
            score_rows(padded, zero, d, nothing, nothing, True, square)
        for i in range(visits.counts[q]):
            l = visits.lists[q, i]
            if squares.size > 0:
                distance = (squares[l] - square[0, 0]) - np.float32(2.0) * bases[q, l]
            else:
                distance = -bases[q, l]
            distances[q, l] = np.sqrt(max(distance, np.float32(0.0)))


@kernel
def scan_lists(codes, queries, bases, distances, visits, pools, keep, keys):
    """Scan every query's lists of one segment into its pool.

    Parameters
    ----------
    codes
        The segment's `BitCodes`.
    queries
        `annvq.kernels.codes.rabitq.PreparedQueries`.
    bases, distances
        (nq, nlist) float32: what a list adds to the scores of its rows, <q, c> or -|q - c|^2; and |q - c|.
    visits, pools, keep, keys
        As in `annvq.kernels.scan.scan4.scan_lists`.

    """
    offsets, scratch = codes.offsets, _scratch()
    for q in range(visits.counts.size):
        for i in range(visits.counts[q]):
            l = visits.lists[q, i]
            begin, end = part_of(offsets[l + 1] - offsets[l], visits.part, visits.parts)
            scan_rows(
                codes, offsets[l] + begin, offsets[l] + end, queries, q, bases[q, l], distances[q, l], scratch, pools,
                keep, keys,
            )  # fmt: skip


@kernel
def rescore(codes, queries, bases, distances, pools):
    """Replace the scores of the pooled rows of this segment by those that a scan gives them.

    The parameters are those of `scan_lists`.
    """
    codes1, codes_ex, factors, offsets, _, row_base = codes
    planes, high, low, query_factors, totals = queries
    scores, rows, counts, _ = pools
    D = np.int64(8) * codes1.shape[1]
    bits = np.int64(1) + codes_ex.shape[1] // codes1.shape[1]
    scratch = _scratch()
    n = offsets[offsets.size - 1]
    for q in range(counts.size):
        for i in range(counts[q]):
            row = rows[q, i] - row_base
            if row < 0 or row >= n:
                continue
            l = list_of(row, offsets)
            base = bases[q, l]
            count_differences(codes1, row, row + 1, planes[q], scratch.counts)
            estimate1(factors, row, row + 1, D, query_factors[q, 0], query_factors[q, 1], base,
                      distances[q, l] * margin(bits), scratch)  # fmt: skip
            score = estimate_full(
                codes1, codes_ex, factors, row, bits, high[q], low[q], query_factors[q, 2], totals[q], base
            )
            scores[q, i] = min(score, scratch.estimates[0] + np.sqrt(scratch.variances[0]))
