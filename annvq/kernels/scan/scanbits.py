"""Scan of RaBitQ codes.

With u = code - (2^B - 1) / 2 the score of a row is

    base + add + mul <q, u>

where base is what its list contributes and add and mul are floats kept with the row (see
`annvq.codebooks.rabitq`; the layout of codes is that of `annvq.kernels.codes.bits`). A scan has two stages.
The first takes the sign plane alone, u1 = +-1/2, and the query in four bits, and makes an upper bound
of the score. The second takes all planes, and the query in 16 bits, for the rows whose bound reaches
the pool's threshold. What counts is the smaller of estimate and bound, so that the score of a row does
not depend on what was scanned before it.

Inner products are integers and every float operation is rounded on its own, in one order: results are
the same on every instruction set. Source: Gao et al. (arXiv 2409.09913), section 4.
"""

from __future__ import annotations

import numpy as np

from annvq.kernels.codes.bits import count_differences, inner_product
from annvq.kernels.compile.jit import intrinsic, kernel
from annvq.kernels.compile.scratch import empty
from annvq.kernels.registers import simd
from annvq.kernels.scan.lists import list_of, part_of
from annvq.kernels.scan.topk import thinned

CHUNK = 64  # rows whose bounds are made at once


@intrinsic
def _sqrt(typingctx, values):
    """Return the square roots of 16 floats, correctly rounded."""

    def codegen(context, builder, sig, args):
        return simd._call(builder, "llvm.sqrt.v16f32", simd.F32x16.llvm, [args[0]])

    return simd.F32x16(simd.F32x16), codegen


@kernel
def estimate1(counts, factors, begin, end, D, scale, noise, base, distance, estimates, variances):
    """Make the first stage's estimate of every row, and the square of how far the score may be above it.

    Parameters
    ----------
    counts
        From `count_differences`.
    factors
        (n, 3 or 5) float32, columns add1, mul1, err1, ...
    scale, noise
        The query's `PreparedQueries.factors`: <q, u1> is about ``scale * (15 D - 2 count)``, and ``noise``
        bounds what the four bits of the query add to the error.
    base, distance
        What the list adds to its rows' scores; |q - c|, or 0 where the data's error is not to be bounded.
    estimates, variances
        Outputs, float32; the upper bound is ``estimate + sqrt(variance)``.

    """
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
    """Return the second stage's estimate of a row's score from all its bits.

    ``step`` and ``total`` are the query's: <q, u> is ``step * (2 <levels, code> - (2^B - 1) total)``.
    """
    product = inner_product(codes1, codes_ex, row, bits, high, low)
    centered = np.int64(2) * product - ((np.int64(1) << np.int64(bits)) - np.int64(1)) * total
    last = np.int64(0) if bits == 1 else np.int64(3)
    return (base + factors[row, last]) + factors[row, last + 1] * (step * np.float32(centered))


@kernel
def margin(bits):
    """Return what the error bound is multiplied with before the first stage drops rows.

    A row whose score is above its bound is lost. The bound's 3 % of such rows would be most of the
    misses of long codes, which a second stage for some more rows costs less than. With one bit the
    second stage knows no more of the row than the first: only the query's error is left to bound.
    """
    return np.float32(0.0) if bits == 1 else np.float32(1.0 + 0.05 * bits)


@kernel
def scan_rows(codes1, codes_ex, factors, begin, end, planes, high, low, query_factors, total, base, distance,
              allow, counts, estimates, variances,
              row_base, scores, rows, count, threshold, keep, keys):  # fmt: skip
    """Scan rows ``begin`` to ``end`` of one list into a pool.

    Parameters
    ----------
    codes1, codes_ex, factors
        The segment's rows, as `annvq.codebooks.rabitq.RaBitQCodebook.encode` made them.
    planes, high, low, query_factors, total
        One query of `annvq.codebooks.rabitq.PreparedQueries`.
    base, distance
        Float32: what the list adds to its rows' scores, and |q - c|.
    allow
        (n,) uint8 by the segment's rows, or empty: everything allowed.
    counts, estimates, variances
        Scratch, (CHUNK,) int32 and float32.
    row_base, scores, rows, count, threshold, keep, keys
        The index-wide number of the segment's row 0, and the pool, as in `annvq.kernels.scan.topk`.

    Returns
    -------
    The pool's count and threshold.

    """
    D = np.int64(8) * codes1.shape[1]
    bits = np.int64(1) + codes_ex.shape[1] // codes1.shape[1]
    with_allow = allow.size > 0
    distance *= margin(bits)
    for chunk in range(begin, end, CHUNK):
        stop = min(np.int64(end), chunk + CHUNK)
        count_differences(codes1, chunk, stop, planes, counts)
        estimate1(counts, factors, chunk, stop, D, query_factors[0], query_factors[1], base, distance,
                  estimates, variances)  # fmt: skip
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
                        count, threshold = thinned(scores, rows, keep, keys)
    return count, threshold


@kernel
def scan_lists(codes1, codes_ex, factors, planes, high, low, query_factors, totals, offsets, lists, list_counts,
               bases, distances, allow,
               part, parts, row_base, scores, rows, counts, thresholds, keep, keys):  # fmt: skip
    """Scan every query's lists of one segment into its pool.

    Parameters
    ----------
    codes1, codes_ex, factors
        The segment's rows in list order, (n, D / 8) uint8, (n, (B - 1) D / 8) uint8, (n, 3 or 5) float32.
    planes, high, low, query_factors, totals
        The arrays of `annvq.codebooks.rabitq.PreparedQueries`.
    offsets
        (nlist + 1,) int64: rows of list l are ``offsets[l]:offsets[l + 1]``.
    lists, list_counts
        (nq, nlist) int64 and (nq,) int64: the lists to search, nearest first.
    bases, distances
        (nq, nlist) float32: <q, c> or -|q - c|^2, and |q - c|.
    allow, row_base
        As in `scan_rows`.
    part, parts
        Scan only this part of every list (work of one query shared among threads).
    scores, rows, counts, thresholds, keep, keys
        The pools, (nq, capacity) float32 and int64, (nq,) int64 and float32; updated.

    """
    differences = empty(CHUNK, np.int32)
    estimates = empty(CHUNK, np.float32)
    variances = empty(CHUNK, np.float32)
    for q in range(counts.size):
        count, threshold = counts[q], thresholds[q]
        for i in range(list_counts[q]):
            l = lists[q, i]
            begin, end = part_of(offsets[l + 1] - offsets[l], part, parts)
            count, threshold = scan_rows(
                codes1, codes_ex, factors, offsets[l] + begin, offsets[l] + end,
                planes[q], high[q], low[q], query_factors[q], totals[q], bases[q, l], distances[q, l],
                allow, differences, estimates, variances,
                row_base, scores[q], rows[q], count, threshold, keep, keys,
            )  # fmt: skip
        counts[q], thresholds[q] = count, threshold


@kernel
def rescore(codes1, codes_ex, factors, planes, high, low, query_factors, totals, offsets, bases, distances,
            row_base, scores, rows, counts):  # fmt: skip
    """Replace the scores of the pooled rows of this segment by those that a scan gives them.

    Parameters as in `scan_lists`; ``scores``, ``rows`` and ``counts`` are the pools.
    """
    D = np.int64(8) * codes1.shape[1]
    bits = np.int64(1) + codes_ex.shape[1] // codes1.shape[1]
    differences = empty(CHUNK, np.int32)
    estimates = empty(CHUNK, np.float32)
    variances = empty(CHUNK, np.float32)
    n = offsets[offsets.size - 1]
    for q in range(counts.size):
        for i in range(counts[q]):
            row = rows[q, i] - row_base
            if row < 0 or row >= n:
                continue
            l = list_of(row, offsets)
            base = bases[q, l]
            count_differences(codes1, row, row + 1, planes[q], differences)
            estimate1(differences, factors, row, row + 1, D, query_factors[q, 0], query_factors[q, 1], base,
                      distances[q, l] * margin(bits), estimates, variances)  # fmt: skip
            score = estimate_full(
                codes1, codes_ex, factors, row, bits, high[q], low[q], query_factors[q, 2], totals[q], base
            )
            scores[q, i] = min(score, estimates[0] + np.sqrt(variances[0]))
