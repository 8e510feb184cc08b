"""Scan of packed 4-bit codes with 8-bit look-up tables in registers (fast scan).

A block is 32 vectors. For each group g of four sub-quantizers it holds 64 bytes. Each byte has the code of one of
vectors 0..15 in its low nibble, and the code of the vector 16 places further on in its high nibble. The bytes are in
the order in which the instruction set looks codes up; v is the vector, m the sub-quantizer:

    quads    byte 4 v + j     v0 m4g  v0 m4g+1  v0 m4g+2  v0 m4g+3  v1 m4g  v1 m4g+1 ... v15 m4g+3
    lanes    byte 16 j + v    v0 m4g  v1 m4g    v2 m4g  ...  v15 m4g  v0 m4g+1  v1 m4g+1 ... v15 m4g+3

Quads are for AVX-512 VBMI and VNNI, where the four tables of a group fill one register of 64 bytes. Lanes are for all
other instruction sets, where each table fills one register of 16 bytes. Sums are exact integers, so that every
instruction set gives the same result. Sources: André et al., "Cache locality is not enough" (VLDB 2015), for tables in
registers; Faiss's fast scan for the idea of the packing.
"""

from __future__ import annotations

import numpy as np

from annvq.kernels.compile.isa import ACTIVE
from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import local
from annvq.kernels.registers import lookup, simd
from annvq.kernels.scan.lists import blocks_for, list_of, part_of
from annvq.kernels.scan.lookup_tables import quantize_lookup_tables
from annvq.kernels.scan.topk import thinned

_ALL_LANES = np.uint32(0xFFFFFFFF)
_AHEAD = np.int64(4096)  # bytes of codes that are fetched in advance, as CPUs by themselves fetch too few; measured
_SHARED, _WAVES_GROW = np.int64(1), np.int64(4)  # visits per list that make waves pay, and their growth; measured
LAYOUT, OTHER_LAYOUT = ("quads", "lanes") if ACTIVE == "avx512" else ("lanes", "quads")


def groups_for(M: int) -> int:
    """Return the number of groups of four sub-quantizers that hold ``M`` sub-quantizers."""
    return (M + 3) // 4


def relaid(packed: np.ndarray) -> np.ndarray:
    """Return codes in `LAYOUT` that were packed in `OTHER_LAYOUT`; both are flat uint8."""
    rows, columns = (16, 4) if LAYOUT == "lanes" else (4, 16)
    return np.ascontiguousarray(packed.reshape(-1, rows, columns).transpose(0, 2, 1)).reshape(-1)


if LAYOUT == "quads":

    @kernel
    def _byte_of(vector, m):
        """Return the place in its block of the byte with the codes of ``vector`` (0..15) and ``vector + 16``."""
        return (m // 4) * 64 + 4 * vector + m % 4

else:

    @kernel
    def _byte_of(vector, m):
        """Return the place in its block of the byte with the codes of ``vector`` (0..15) and ``vector + 16``."""
        return m * 16 + vector


@kernel
def _pack(codes, offsets, block_offsets, groups, packed):
    M = codes.shape[1]
    for l in range(offsets.size - 1):
        for row in range(offsets[l], offsets[l + 1]):
            place = row - offsets[l]
            block = block_offsets[l] + place // 32
            lane = place % 32
            base = block * groups * 64
            shift = np.uint8(4) if lane >= 16 else np.uint8(0)
            for m in range(M):
                packed[base + _byte_of(lane % 16, m)] |= np.uint8((codes[row, m] & np.uint8(15)) << shift)


@kernel
def _unpack(packed, offsets, block_offsets, rows, codes):
    M = codes.shape[1]
    groups = (M + 3) // 4
    for i in range(rows.size):
        l = list_of(rows[i], offsets)
        place = rows[i] - offsets[l]
        base = (block_offsets[l] + place // 32) * groups * 64
        shift = np.uint8(4) if place % 32 >= 16 else np.uint8(0)
        for m in range(M):
            codes[i, m] = (packed[base + _byte_of(place % 16, m)] >> shift) & np.uint8(15)


def pack(codes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Pack codes in list order into blocks.

    Parameters
    ----------
    codes
        (n, M) uint8 with values 0..15, rows in list order.
    offsets
        (nlist + 1,) int64: the rows of list l are ``offsets[l]:offsets[l + 1]``.

    Returns
    -------
    np.ndarray
        (blocks * groups * 64,) uint8; every list starts at a new block.

    """
    block_offsets = blocks_for(np.diff(offsets))
    groups = groups_for(codes.shape[1])
    packed = np.zeros(int(block_offsets[-1]) * groups * 64, np.uint8)
    _pack(codes, offsets, block_offsets, groups, packed)
    return packed


def unpack(packed: np.ndarray, offsets: np.ndarray, M: int, rows: np.ndarray) -> np.ndarray:
    """Return the codes (len(rows), M) uint8 of the given rows (int64) from what `pack` returned."""
    codes = np.empty((len(rows), M), np.uint8)
    _unpack(packed, offsets, blocks_for(np.diff(offsets)), rows, codes)
    return codes


if LAYOUT == "quads":
    _MOST_GROUPS = np.iinfo(np.int64).max  # that `_sum_groups` can sum

    @kernel(borrows=True)
    def _add_group(low, high, packed, at, quantized, table):
        codes, tables = simd.load_u8x64(packed, at), simd.load_u8x64(quantized, table)
        return lookup.lookup_add_low(low, codes, tables), lookup.lookup_add_high(high, codes, tables)

    @kernel(borrows=True)
    def _sum_groups(packed, offset, groups, quantized, table, ahead):
        """Return the sums of the table entries of vectors 0..15 and of vectors 16..31 of a block.

        The block that starts at byte ``ahead`` is fetched if that is not ``offset``.
        """
        low, high = simd.zero_i32x16(), simd.zero_i32x16()
        other_low, other_high = simd.zero_i32x16(), simd.zero_i32x16()  # because an addition waits for the one before
        for at in range(0, groups // 2 * 128, 128):
            if ahead != offset:
                simd.prefetch(packed, ahead + at)
                simd.prefetch(packed, ahead + at + 64)
            low, high = _add_group(low, high, packed, offset + at, quantized, table + at)
            other_low, other_high = _add_group(
                other_low, other_high, packed, offset + at + 64, quantized, table + at + 64
            )
        if groups % 2 == 1:
            at = (groups - 1) * 64
            if ahead != offset:
                simd.prefetch(packed, ahead + at)
            low, high = _add_group(low, high, packed, offset + at, quantized, table + at)
        return simd.add_i32(low, other_low), simd.add_i32(high, other_high)

    @kernel
    def _in_order(sums):
        """Return sums from `_sum_groups` as int32 in the order of the vectors."""
        return sums

    _sum_block = _sum_groups

else:
    _MOST_GROUPS = 64  # that `_sum_groups` can sum, in 16 bits

    @kernel(borrows=True)
    def _add_tables(low_pairs, low_second, high_pairs, high_second, packed, at, quantized, table):
        codes, tables = lookup.load_u8x32(packed, at), lookup.load_u8x32(quantized, table)
        values = lookup.lookup_low(codes, tables)
        low_pairs, low_second = lookup.add_pairs(low_pairs, values), lookup.add_second(low_second, values)
        values = lookup.lookup_high(codes, tables)
        return low_pairs, low_second, lookup.add_pairs(high_pairs, values), lookup.add_second(high_second, values)

    @kernel(borrows=True)
    def _sum_groups(packed, offset, groups, quantized, table, ahead):
        """Return the sums of the table entries of vectors 0..15 and of vectors 16..31 of a block, in 16 bits.

        The block that starts at byte ``ahead`` is fetched if that is not ``offset``.
        """
        low_pairs, low_second = lookup.zero_i16x16(), lookup.zero_i16x16()
        high_pairs, high_second = lookup.zero_i16x16(), lookup.zero_i16x16()
        for g in range(groups):
            at = g * 64
            if ahead != offset:
                simd.prefetch(packed, ahead + at)
            low_pairs, low_second, high_pairs, high_second = _add_tables(
                low_pairs, low_second, high_pairs, high_second, packed, offset + at, quantized, table + at
            )
            low_pairs, low_second, high_pairs, high_second = _add_tables(
                low_pairs, low_second, high_pairs, high_second, packed, offset + at + 32, quantized, table + at + 32
            )
        return lookup.join_pairs(low_pairs, low_second), lookup.join_pairs(high_pairs, high_second)

    _in_order = lookup.in_order

    @kernel(borrows=True)
    def _sum_block(packed, offset, groups, quantized, table, ahead):
        """Do what `_sum_groups` does, for any number of groups, and return int32 in the order of the vectors."""
        low, high = simd.zero_i32x16(), simd.zero_i32x16()
        for first in range(0, groups, _MOST_GROUPS):
            at, some = first * 64, min(_MOST_GROUPS, groups - first)
            some_low, some_high = _sum_groups(packed, offset + at, some, quantized, table + at, ahead + at)
            low, high = simd.add_i32(low, _in_order(some_low)), simd.add_i32(high, _in_order(some_high))
        return low, high


@kernel(borrows=True)
def sum_block(packed, offset, groups, quantized, table):
    """Return the sums of table entries of vectors 0..15 and of vectors 16..31 of a block.

    The block starts at byte ``offset`` of ``packed``, the tables at byte ``table`` of ``quantized``.
    """
    return _sum_block(packed, offset, groups, quantized, table, offset)


@kernel
def _least_sum(threshold, step, base):
    """Return a sum of entries, at most 65535, below which ``sum * step + base`` is below the threshold.

    It may be lower than necessary: rounding to float32 adds less than 2^-23 of the threshold to a score.
    """
    level = np.float64(threshold)
    least = (level - abs(level) * 2.0**-23 - 1e-44 - np.float64(base)) / np.float64(step)
    return np.int64(min(least, 65535.0)) if least > 0.0 else np.int64(0)  # 0 for NaN


@kernel(borrows=True)
def _wanted(allow, row, left):
    """Return a mask of those of the 32 rows from ``row`` on that are scanned.

    These are among the next ``left`` rows and, if ``allow`` is not empty, among the rows that it allows.
    """
    lanes = _ALL_LANES if left >= 32 else (np.uint32(1) << np.uint32(left)) - np.uint32(1)
    if allow.size == 0:
        return lanes
    if row + 32 <= allow.size:
        return lanes & simd.nonzero_mask(simd.load_u8x32(allow, row))
    allowed = np.uint32(0)
    for lane in range(allow.size - row):  # the last block extends beyond the rows
        allowed |= np.uint32(allow[row + lane] != 0) << np.uint32(lane)
    return lanes & allowed


@kernel(borrows=True)
def _append_each(codes, row, low, high, mask, buffer, scores, rows, at):
    """Write those candidates of a block that ``mask`` names and that may be returned; return their number.

    The block's scores are ``low`` and ``high``, and its first row is ``row``. ``scores`` and ``rows`` are flat
    pools, which are written from element ``at`` on; ``buffer`` (32,) float32 is scratch.
    """
    allow, mapping, row_base = codes.allow, codes.mapping, codes.row_base
    mapped, held = mapping.size > 0, np.int64(0)
    by_row = mapped and allow.size > 0
    simd.store_f32x16(buffer, 0, low)
    simd.store_f32x16(buffer, 16, high)
    while mask != 0:
        lane = simd.trailing_zeros(mask)
        mask &= mask - np.uint32(1)
        whose = np.int64(mapping[row + lane]) if mapped else np.int64(row + lane)
        if not (by_row and allow[whose] == 0):
            scores[at + held], rows[at + held] = buffer[lane], row_base + whose
            held += 1
    return held


if ACTIVE == "avx512":

    @kernel(borrows=True)
    def _append_all(codes, row, low, high, mask, buffer, scores, rows, at):
        """Do what `_append_each` does, without a branch on a score, which the CPU could not predict.

        All candidates may be returned, and all 32 places of the block have a row. 32 elements are overwritten.
        """
        mapping, row_base = codes.mapping, codes.row_base
        if mapping.size > 0:
            places_low = simd.places_at(mapping, row, row_base)
            places_high = simd.places_at(mapping, row + 16, row_base)
        else:
            places_low, places_high = simd.places_from(row_base + row), simd.places_from(row_base + row + 16)
        simd.pack_f32(scores, at, low, mask)
        simd.pack_i64(rows, at, places_low, mask)
        held = simd.ones(mask & np.uint32(0xFFFF))
        upper = mask >> np.uint32(16)
        simd.pack_f32(scores, at + held, high, upper)
        simd.pack_i64(rows, at + held, places_high, upper)
        return held + simd.ones(upper)

else:
    _append_all = _append_each  # other instruction sets cannot pack lanes


@kernel
def scan_pieces(codes, pieces, piece_bases, quantized, steps, pools, keep, keys):
    """Scan pieces of lists into the pools of queries, one piece after the other.

    All is done in one function, because a call per list would take as long as the scan of a short list.

    Parameters
    ----------
    codes
        `annvq.kernels.scan.lists.PackedCodes` with codes from `pack`; the offsets of lists are not used.
    pieces, piece_bases
        (pieces, 5) int64: the query, the block and the row at place 0 of the list, the first place that is scanned, a
        multiple of 32, and the end; (pieces,) float32: what is added to the sums.
    quantized, steps
        (nq, groups * 64) uint8 and (nq,) float32: the queries' tables, from `quantize_lookup_tables`.
    pools, keep, keys
        As in `scan_lists`.

    """
    packed, _, _, constants, allow, mapping, _ = codes
    scores, rows, counts, thresholds = pools
    buffer = local(32, np.float32)
    width = quantized.shape[1]
    groups = width // 64
    with_constants = constants.size > 0
    mapped = mapping.size > 0
    by_lane = allow[:0] if mapped else allow
    by_row = mapped and allow.size > 0
    flat_scores, flat_rows = scores.reshape(-1), rows.reshape(-1)
    capacity = scores.shape[1]
    most = capacity - 32  # so that those of a block fit
    for piece in range(pieces.shape[0]):
        q, first_block, first = pieces[piece, 0], pieces[piece, 1], pieces[piece, 2]
        begin, end = pieces[piece, 3], pieces[piece, 4]
        count, threshold = counts[q], thresholds[q]
        step, base = simd.splat_f32(steps[q]), simd.splat_f32(piece_bases[piece])
        least = np.int64(0) if with_constants else _least_sum(threshold, steps[q], piece_bases[piece])
        stop = (first_block + (end + 31) // 32) * width  # where the codes end, and where those of the next piece begin
        follows = (pieces[piece + 1, 1] + pieces[piece + 1, 3] // 32) * width if piece + 1 < pieces.shape[0] else stop
        for place in range(begin, end, 32):
            row = first + place
            lanes = _wanted(by_lane, row, end - place)
            if lanes == 0:
                continue
            start = (first_block + place // 32) * width
            ahead = start + _AHEAD if start + _AHEAD < stop else follows + start + _AHEAD - stop
            if groups <= _MOST_GROUPS:
                low_sums, high_sums = _sum_groups(packed, start, groups, quantized, q * width, ahead)
                if not lookup.any_reaches(low_sums, high_sums, least):
                    continue
                low, high = _in_order(low_sums), _in_order(high_sums)
            else:
                low, high = _sum_block(packed, start, groups, quantized, q * width, ahead)
            score_low = simd.fma(simd.to_f32(low), step, base)
            score_high = simd.fma(simd.to_f32(high), step, base)
            if with_constants:
                if row + 32 <= constants.size:
                    score_low = simd.add(score_low, simd.load_f32x16(constants, row))
                    score_high = simd.add(score_high, simd.load_f32x16(constants, row + 16))
                else:  # the last block extends beyond the constants
                    for lane in range(32):
                        buffer[lane] = constants[row + lane] if row + lane < constants.size else np.float32(0.0)
                    score_low = simd.add(score_low, simd.load_f32x16(buffer, 0))
                    score_high = simd.add(score_high, simd.load_f32x16(buffer, 16))
            mask = simd.ge_mask(score_low, threshold) | (simd.ge_mask(score_high, threshold) << np.uint32(16))
            mask &= lanes
            if mask == 0:
                continue
            at = q * capacity + count
            if by_row or (mapped and row + 32 > mapping.size):
                count += _append_each(codes, row, score_low, score_high, mask, buffer, flat_scores, flat_rows, at)
            else:
                count += _append_all(codes, row, score_low, score_high, mask, buffer, flat_scores, flat_rows, at)
            if count > most:
                count, threshold = thinned(scores[q], rows[q], count, keep, keys)
                least = np.int64(0) if with_constants else _least_sum(threshold, steps[q], piece_bases[piece])
        counts[q], thresholds[q] = count, threshold


@kernel
def _order(lists, list_counts, nlist, queries, ranks):
    """Write the order of all visits: ``queries`` and ``ranks``, the rank of a list among its query's, (total,) int64.

    If lists have few visitors, the order is query by query, nearest list first, because thresholds then rise fast.
    Otherwise it goes in waves, each of which has more lists of every query than the one before, and list by list within
    a wave: a list that is read from memory once serves all queries that visit it.
    """
    nq, total = list_counts.size, queries.size
    done = np.int64(0)
    if total < _SHARED * nlist or nq == 1:
        for q in range(nq):
            for rank in range(list_counts[q]):
                queries[done], ranks[done] = q, rank
                done += 1
        return
    begins = local(nlist + 1, np.int64)
    start, stop = np.int64(0), np.int64(1)
    while done < total:
        begins[:] = 0
        for q in range(nq):
            for rank in range(start, min(stop, list_counts[q])):
                begins[lists[q, rank] + 1] += 1
        for l in range(nlist):
            begins[l + 1] += begins[l]
        for q in range(nq):
            for rank in range(start, min(stop, list_counts[q])):
                l = lists[q, rank]
                queries[done + begins[l]], ranks[done + begins[l]] = q, rank
                begins[l] += 1
        done += begins[nlist]
        start, stop = stop, stop * _WAVES_GROW


@kernel
def scan_lists(tables, bases, codes, visits, pools, keep, keys):
    """Scan every query's lists of one segment into its pool.

    Parameters
    ----------
    tables
        (nq, M, 16) float32: the look-up tables; larger is closer.
    bases
        (nq, nlist) float32: what a list adds to the scores of its rows; (nq, 0) if nothing is added.
    codes
        The segment's `annvq.kernels.scan.lists.PackedCodes`, with codes from `pack`.
    visits
        The `annvq.kernels.scan.lists.Visits` of the queries.
    pools, keep, keys
        The pools of the queries, `annvq.kernels.scan.topk.Candidates`, which are updated; the number of best candidates
        that each pool must not lose; and the keys of all rows, (rows of the index,) int64, which order equal scores.

    """
    lists, list_counts, part, parts = visits
    offsets, block_offsets = codes.offsets, codes.block_offsets
    nq, M = tables.shape[0], tables.shape[1]
    quantized = local((nq, (M + 3) // 4 * 64), np.uint8)
    steps, biases = local(nq, np.float32), local(nq, np.float32)
    total = np.int64(0)
    for q in range(nq):
        steps[q], biases[q] = quantize_lookup_tables(tables[q], quantized[q])
        total += list_counts[q]
    queries, ranks = local(total, np.int64), local(total, np.int64)
    _order(lists, list_counts, offsets.size - 1, queries, ranks)
    pieces, piece_bases = local((total, 5), np.int64), local(total, np.float32)
    for i in range(total):
        q = queries[i]
        l = lists[q, ranks[i]]
        pieces[i, 0], pieces[i, 1], pieces[i, 2] = q, block_offsets[l], offsets[l]
        pieces[i, 3], pieces[i, 4] = part_of(offsets[l + 1] - offsets[l], part, parts)
        piece_bases[i] = biases[q] + bases[q, l] if bases.shape[1] > 0 else biases[q]
    scan_pieces(codes, pieces, piece_bases, quantized, steps, pools, keep, keys)


@kernel
def rescore(tables, bases, codes, pools):
    """Replace the scores of pooled rows of this segment by sums of entries of the float32 look-up tables.

    The parameters are those of `scan_lists`.
    """
    packed, offsets, block_offsets, constants, _, _, row_base = codes
    scores, rows, counts, _ = pools
    M = tables.shape[1]
    groups = (M + 3) // 4
    n = offsets[offsets.size - 1]
    for q in range(counts.size):
        for i in range(counts[q]):
            row = rows[q, i] - row_base
            if row < 0 or row >= n:
                continue
            l = list_of(row, offsets)
            place = row - offsets[l]
            at = (block_offsets[l] + place // 32) * groups * 64
            shift = np.uint8(4) if place % 32 >= 16 else np.uint8(0)
            total = bases[q, l] if bases.shape[1] > 0 else np.float32(0.0)
            for m in range(M):
                code = (packed[at + _byte_of(place % 16, m)] >> shift) & np.uint8(15)
                total += tables[q, m, np.int64(code)]
            if constants.size > 0:
                total += constants[row]
            scores[q, i] = total
