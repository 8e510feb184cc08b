"""Scan of packed 8-bit codes with 8-bit look-up tables.

A block of 32 vectors is M runs of 32 bytes; run m holds the codes of sub-quantizer m for vectors 0..31. With AVX-512
VBMI, a table of 256 bytes fits four registers, and 64 codes (of two blocks) are looked up at once. Sums are exact
integers, the same on every instruction set.
"""

from __future__ import annotations

import numpy as np

from annvq.kernels.compile.isa import ACTIVE
from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import empty
from annvq.kernels.registers import lookup, simd
from annvq.kernels.scan.lists import blocks_for, list_of, part_of
from annvq.kernels.scan.lookup_tables import quantize_lookup_tables
from annvq.kernels.scan.topk import thinned


@kernel
def _pack(codes, offsets, block_offsets, packed):
    M = codes.shape[1]
    for l in range(offsets.size - 1):
        for row in range(offsets[l], offsets[l + 1]):
            place = row - offsets[l]
            base = (block_offsets[l] + place // 32) * M * 32 + place % 32
            for m in range(M):
                packed[base + m * 32] = codes[row, m]


@kernel
def _unpack(packed, offsets, block_offsets, rows, codes):
    M = codes.shape[1]
    for i in range(rows.size):
        l = list_of(rows[i], offsets)
        place = rows[i] - offsets[l]
        base = (block_offsets[l] + place // 32) * M * 32 + place % 32
        for m in range(M):
            codes[i, m] = packed[base + m * 32]


def pack(codes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Pack codes (n, M) uint8, rows in list order, into blocks (flat uint8); every list starts at a new block."""
    block_offsets = blocks_for(np.diff(offsets))
    packed = np.zeros(int(block_offsets[-1]) * codes.shape[1] * 32, np.uint8)
    _pack(codes, offsets, block_offsets, packed)
    return packed


def unpack(packed: np.ndarray, offsets: np.ndarray, M: int, rows: np.ndarray) -> np.ndarray:
    """Return the codes (len(rows), M) uint8 of the given rows (int64) from what `pack` returned."""
    codes = np.empty((len(rows), M), np.uint8)
    _unpack(packed, offsets, blocks_for(np.diff(offsets)), rows, codes)
    return codes


if ACTIVE == "avx512":

    @kernel
    def _sum_two_blocks(packed, first, second, M, quantized, sums):
        """Write the sums of the table entries of 64 vectors to ``sums`` (64,) int32.

        These are the vectors of the blocks that start at bytes ``first`` and ``second``; ``quantized`` are the tables,
        flat.
        """
        for i in range(64):
            sums[i] = np.int32(0)
        for start in range(0, M, 256):  # 256 entries, each at most 255, fit 16 bits
            even = simd.zero_i16x32()
            odd = simd.zero_i16x32()
            for m in range(start, min(M, start + 256)):
                codes = lookup.join_u8x32(packed, first + m * 32, second + m * 32)
                values = lookup.lookup256(codes, quantized, m * 256)
                even = lookup.add_even_bytes(even, values)
                odd = lookup.add_odd_bytes(odd, values)
            lookup.add_interleaved(sums, 0, even, odd)

else:

    @kernel
    def _sum_two_blocks(packed, first, second, M, quantized, sums):
        """Write the sums of the table entries of 64 vectors to ``sums`` (64,) int32.

        These are the vectors of the blocks that start at bytes ``first`` and ``second``; ``quantized`` are the tables,
        flat.
        """
        for i in range(64):
            sums[i] = np.int32(0)
        for m in range(M):
            for i in range(32):
                sums[i] += np.int32(quantized[m * 256 + np.int64(packed[first + m * 32 + i])])
                sums[i + 32] += np.int32(quantized[m * 256 + np.int64(packed[second + m * 32 + i])])


@kernel
def scan_list(codes, l, begin, end, quantized, step, base, sums, pools, q, keep, keys):
    """Scan places ``begin`` to ``end`` of list ``l`` into the pool of query ``q``; ``begin`` is a multiple of 32.

    ``quantized`` are the query's tables in 8 bits. A score is ``step`` times the sum of their entries, plus ``base``,
    plus the constant of the row if there is one. ``sums`` (64,) int32 is scratch; the other parameters are those of
    `scan_lists`.
    """
    packed, _, _, constants, allow, _, row_base = codes
    scores, rows = pools.scores[q], pools.rows[q]
    count, threshold = pools.counts[q], pools.thresholds[q]
    first_block, first, M = codes.block_offsets[l], codes.offsets[l], quantized.size // 256
    with_constants = constants.size > 0
    with_allow = allow.size > 0
    for place in range(begin, end, 64):
        start = (first_block + place // 32) * M * 32
        second = start + M * 32 if place + 32 < end else start  # the last block of a list may have no partner
        _sum_two_blocks(packed, start, second, M, quantized, sums)
        for i in range(min(np.int64(64), end - place)):
            score = np.float32(sums[i]) * step + base
            row = first + place + i
            if with_constants:
                score += constants[row]
            if score >= threshold and not (with_allow and allow[row] == 0):
                scores[count] = score
                rows[count] = row_base + row
                count += 1
                if count == scores.size:
                    count, threshold = thinned(scores, rows, count, keep, keys)
    pools.counts[q], pools.thresholds[q] = count, threshold


@kernel
def scan_lists(tables, bases, codes, visits, pools, keep, keys):
    """Scan every query's lists of one segment into its pool.

    The parameters are those of `annvq.kernels.scan.scan4.scan_lists`, but tables are (nq, M, 256), and there is no
    mapping.
    """
    offsets, M = codes.offsets, tables.shape[1]
    quantized = empty(M * 256, np.uint8)
    sums = empty(64, np.int32)
    for q in range(visits.counts.size):
        step, bias = quantize_lookup_tables(tables[q], quantized)
        for i in range(visits.counts[q]):
            l = visits.lists[q, i]
            base = bias + bases[q, l] if bases.shape[1] > 0 else bias
            begin, end = part_of(offsets[l + 1] - offsets[l], visits.part, visits.parts)
            scan_list(codes, l, begin, end, quantized, step, base, sums, pools, q, keep, keys)


@kernel
def rescore(tables, bases, codes, pools):
    """Replace the scores of pooled rows of this segment by sums of entries of the float32 look-up tables.

    The parameters are those of `scan_lists`.
    """
    packed, offsets, block_offsets, constants, _, _, row_base = codes
    scores, rows, counts, _ = pools
    M = tables.shape[1]
    n = offsets[offsets.size - 1]
    for q in range(counts.size):
        for i in range(counts[q]):
            row = rows[q, i] - row_base
            if row < 0 or row >= n:
                continue
            l = list_of(row, offsets)
            place = row - offsets[l]
            at = (block_offsets[l] + place // 32) * M * 32 + place % 32
            total = bases[q, l] if bases.shape[1] > 0 else np.float32(0.0)
            for m in range(M):
                total += tables[q, m, np.int64(packed[at + m * 32])]
            if constants.size > 0:
                total += constants[row]
            scores[q, i] = total
