"""Scan of RaBitQ codes, with the integers and the order of operations of `annvq.kernels.scan.scanbits`.

Bit planes are laid out by words of 32 coordinates, (planes * words, n), so that neighbouring rows lie side by side
(``row * 0 + n`` is n in the 64 bits of rows). With c the code less 2^(B - 1), which fits a signed byte, a row's inner
product with a query of 16-bit levels is made of two exact products of bytes, and
2 <levels, code> - (2^B - 1) total = 2 <levels, c> + total.
"""

from __future__ import annotations

import triton
import triton.language as tl

from annvq.gpu.kernels.append import _append
from annvq.gpu.kernels.candidates import _candidates
from annvq.gpu.kernels.order import _packed, _reach
from annvq.gpu.kernels.tile import _rows_of_program, _tile


@triton.jit
def _popcount(words):
    """Return the set bits of 32-bit words; compilers know this form, and make one instruction of it."""
    words = words.to(tl.uint32, bitcast=True)
    words = words - ((words >> 1) & 0x55555555)
    words = (words & 0x33333333) + ((words >> 2) & 0x33333333)
    words = (words + (words >> 4)) & 0x0F0F0F0F
    return ((words * 0x01010101) >> 24).to(tl.int32)


@triton.jit
def _signed_codes(planes, n, row, word, words, inside, BITS: tl.constexpr):
    """Return the codes of 32 coordinates of some rows, less 2^(BITS - 1), as (rows, 32) int8."""
    bits = tl.arange(0, 32)[None, :]
    codes = tl.zeros([row.shape[0], 32], tl.int32)
    for plane in tl.static_range(BITS):
        held = tl.load(planes + (plane * words + word) * (row * 0 + n) + row, mask=inside, other=0)
        codes = 2 * codes + ((held[:, None] >> bits) & 1)
    return (codes - (1 << (BITS - 1))).to(tl.int8)


@triton.jit
def _estimate(factors, n, row, base, high, low, step, total, inside, BITS: tl.constexpr):
    """Return the estimate from all bits, as `annvq.kernels.scan.scanbits.estimate_full`."""
    centered = 2 * (256 * high.to(tl.int64) + low.to(tl.int64)) + total
    LAST: tl.constexpr = 0 if BITS == 1 else 3
    add = tl.load(factors + LAST * (row * 0 + n) + row, mask=inside, other=0.0)
    mul = tl.load(factors + (LAST + 1) * (row * 0 + n) + row, mask=inside, other=0.0)
    return (base + add) + mul * (step * centered.to(tl.float32))


@triton.jit
def _bound(factors, n, row, base, distance, differences, D, scale, noise, inside):
    """Return the first stage's upper bound, as `annvq.kernels.scan.scanbits.estimate1`."""
    mul = tl.load(factors + n + row, mask=inside, other=0.0)
    product = scale * (15 * D - 2 * differences).to(tl.float32)
    estimate = (base + tl.load(factors + row, mask=inside, other=0.0)) + mul * product
    of_code = tl.load(factors + 2 * (row * 0 + n) + row, mask=inside, other=0.0) * distance
    of_query = mul * noise
    return estimate + tl.math.sqrt_rn(of_code * of_code + of_query * of_query)


@triton.jit
def _score_one(
    planes, factors, n, row, words, inside, query_planes, levels, query, base, distance, query_factors, totals, reach,
    BITS: tl.constexpr,
):  # fmt: skip
    """Return the scores of some rows for one query, -inf where the bound is below ``reach``."""
    ones = tl.zeros([row.shape[0]], tl.int32)  # four sums: a shift of a count would hide it from the compiler
    twos = tl.zeros([row.shape[0]], tl.int32)
    fours = tl.zeros([row.shape[0]], tl.int32)
    eights = tl.zeros([row.shape[0]], tl.int32)
    for word in range(0, words):
        signs = tl.load(planes + word * (row * 0 + n) + row, mask=inside, other=0)
        asked = query_planes + query * 4 * words + word
        ones += _popcount(signs ^ tl.load(asked))
        twos += _popcount(signs ^ tl.load(asked + words))
        fours += _popcount(signs ^ tl.load(asked + 2 * words))
        eights += _popcount(signs ^ tl.load(asked + 3 * words))
    differences = ones + 2 * twos + 4 * fours + 8 * eights
    scale, noise = tl.load(query_factors + 3 * query), tl.load(query_factors + 3 * query + 1)
    D = 32 * words
    bound = _bound(factors, n, row, base, distance, differences, D, scale, noise, inside)
    reaching = inside & (bound >= reach)
    scores = tl.full([row.shape[0]], float("-inf"), tl.float32)
    if tl.max(reaching.to(tl.int32), axis=0) > 0:
        column = tl.arange(0, 16)
        products = tl.zeros([row.shape[0], 16], tl.int32)  # the first two columns: of high and low bytes
        for word in range(0, words):
            dims = 32 * word + tl.arange(0, 32)
            at = levels + query * 2 * D + column[None, :] * D + dims[:, None]
            asked = tl.load(at, mask=(column < 2)[None, :], other=0)
            codes = _signed_codes(planes, n, row, word, words, inside, BITS)
            products = tl.dot(codes, asked, products, out_dtype=tl.int32)
        high = tl.sum(tl.where(column[None, :] == 0, products, 0), axis=1)
        low = tl.sum(tl.where(column[None, :] == 1, products, 0), axis=1)
        step, total = tl.load(query_factors + 3 * query + 2), tl.load(totals + query)
        full = _estimate(factors, n, row, base, high, low, step, total, inside, BITS)
        scores = tl.where(reaching, tl.minimum(full, bound), scores)
    return scores


@triton.jit
def scan_rabitq(
    planes, factors, n, words, query_planes, levels, query_factors, totals, bases, distances, nlist, asking, lists,
    begins, ends, visits, allow, ranks, entries, counts, thresholds, capacity, BITS: tl.constexpr,
    FILTERED: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Scan rows of a list for one query: bounds by popcounts, then estimates where a row of the tile reaches.

    Parameters
    ----------
    planes, factors, n, words
        (BITS * words, n) int32, the bit planes from the highest on; (3 or 5, n) float32.
    query_planes, levels, query_factors, totals
        (nq, 4, words) int32; (nq, 2, 32 words) int8, the high and low bytes of the 16-bit levels; (nq, 3) float32 and
        (nq,) int64, as in `annvq.kernels.codes.rabitq.PreparedQueries`.
    bases, distances, nlist
        (nq, nlist) float32: what lists add to scores, and |q - c| times `annvq.kernels.scan.scanbits.margin`.
    asking, lists, begins, ends, visits
        `annvq.gpu.plan.Work` of one query per program.
    allow, ranks, entries, counts, thresholds, capacity, FILTERED, ROWS
        The same as for `annvq.gpu.kernels.scan_rows.scan_rows`.

    """
    program = tl.program_id(0)
    query = tl.load(asking + tl.load(visits + program)).to(tl.int64)
    row, inside = _rows_of_program(begins, ends, ROWS)
    at = query * nlist + tl.load(lists + program)
    threshold = tl.load(thresholds + query)
    if FILTERED:
        inside = inside & (tl.load(allow + row, mask=inside, other=0) != 0)
    scores = _score_one(
        planes, factors, n, row, words, inside, query_planes, levels, query, tl.load(bases + at),
        tl.load(distances + at), query_factors, totals, _reach(threshold), BITS,
    )  # fmt: skip
    candidates = _packed(scores, tl.load(ranks + row, mask=inside, other=0))
    wanted = inside & (candidates >= threshold) & (scores > float("-inf"))
    _append(candidates[None, :], wanted[None, :], query + tl.zeros([1], tl.int64), entries, counts, capacity)


@triton.jit
def scan_rabitq_together(
    planes, factors, n, words, flips, four_bit_totals, levels, query_factors, totals, bases, distances, nlist, asking,
    lists, begins, ends, visits, visit_ends, allow, ranks, entries, counts, thresholds, capacity, BITS: tl.constexpr,
    FILTERED: tl.constexpr, QUERIES: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Scan rows of a list for many queries, with products of bytes on tensor cores, which are exact.

    As the differences of `annvq.kernels.codes.bits.count_differences` are the sum of the query's 4-bit levels and,
    where the sign is set, of 15 less twice the level, these are a product as well.

    Parameters
    ----------
    flips, four_bit_totals
        (nq, 32 words) int8: 15 less twice the 4-bit levels; and (nq,) int32: their sums.
    planes, factors, n, words, levels, query_factors, totals, bases, distances, nlist, asking, lists, begins, ends,
    visits, visit_ends, allow, ranks, entries, counts, thresholds, capacity, BITS, FILTERED, QUERIES, ROWS
        The same as for `scan_rabitq`, for QUERIES queries, at least 16.

    """
    query, asked, row, inside = _tile(asking, begins, ends, visits, visit_ends, QUERIES, ROWS)
    at = query * nlist + tl.load(lists + tl.program_id(0))
    D = 32 * words
    high = tl.zeros([ROWS, QUERIES], tl.int32)
    low = tl.zeros([ROWS, QUERIES], tl.int32)
    differences = tl.zeros([ROWS, QUERIES], tl.int32)
    for word in range(0, words):
        dims = 32 * word + tl.arange(0, 32)
        codes = _signed_codes(planes, n, row, word, words, inside, BITS)
        signs = (codes >= 0).to(tl.int8)  # the highest plane
        of_levels = levels + (query * 2 * D)[None, :] + dims[:, None]
        high = tl.dot(codes, tl.load(of_levels), high, out_dtype=tl.int32)
        low = tl.dot(codes, tl.load(of_levels + D), low, out_dtype=tl.int32)
        flipped = tl.load(flips + (query * D)[None, :] + dims[:, None])
        differences = tl.dot(signs, flipped, differences, out_dtype=tl.int32)
    differences += tl.load(four_bit_totals + query)[None, :]
    base, distance = tl.load(bases + at)[None, :], tl.load(distances + at)[None, :]
    scale, noise = tl.load(query_factors + 3 * query)[None, :], tl.load(query_factors + 3 * query + 1)[None, :]
    step, total = tl.load(query_factors + 3 * query + 2)[None, :], tl.load(totals + query)[None, :]
    rows, held = row[:, None] + tl.zeros([1, QUERIES], tl.int64), inside[:, None] & asked[None, :]
    bound = _bound(factors, n, rows, base, distance, differences, D, scale, noise, held)
    scores = tl.minimum(_estimate(factors, n, rows, base, high, low, step, total, held, BITS), bound)
    if FILTERED:
        held = held & (tl.load(allow + row, mask=inside, other=0) != 0)[:, None]
    candidates = _packed(scores, tl.load(ranks + row, mask=inside, other=0)[:, None])
    wanted = held & (candidates >= tl.load(thresholds + query)[None, :])
    _append(tl.trans(candidates), tl.trans(wanted.to(tl.int32)) != 0, query, entries, counts, capacity)


@triton.jit
def rescore_rabitq(
    planes, factors, n, words, query_planes, levels, query_factors, totals, bases, distances, places, places_of_query,
    base_row, scores, BITS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Score the candidates of every query that lie among these rows, as `scan_rabitq` does.

    Parameters
    ----------
    bases, distances
        (nq, places_of_query) float32, of the lists that the candidates lie in.
    places, places_of_query, base_row, scores
        The same as for `annvq.gpu.kernels.scan_rows.rescore_rows`.
    planes, factors, n, words, query_planes, levels, query_factors, totals, BITS, ROWS
        The same as for `scan_rabitq`.

    """
    query, at, row, inside = _candidates(places, places_of_query, n, base_row, ROWS)
    if tl.max(inside.to(tl.int32), axis=0) > 0:
        base, distance = tl.load(bases + at, mask=inside, other=0.0), tl.load(distances + at, mask=inside, other=0.0)
        found = _score_one(
            planes, factors, n, row, words, inside, query_planes, levels, query, base, distance, query_factors, totals,
            float("-inf"), BITS,
        )  # fmt: skip
        tl.store(scores + at, found, mask=inside)
