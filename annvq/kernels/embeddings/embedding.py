"""Rows of compressed embedding tables, and sums of rows.

Packed codes are stored row after row, in ``row_bytes`` bytes each; code m of a row is in its bits from ``m * bits`` on,
least significant bit first. All arrays that are read are read-only and C-contiguous; ids (int64) are within the table.
A bag is a run of rows that are summed or otherwise combined.
"""

from __future__ import annotations

import numpy as np

from annvq.kernels.compile.jit import kernel
from annvq.kernels.embeddings.mixing import START, STEP, mix_kernel
from annvq.kernels.registers import simd

SUM, MEAN, MAX = 0, 1, 2
SPARE = 16


@kernel
def pack_codes(codes, bits, packed):
    """Fill ``packed (n, row_bytes)`` uint8 with ``codes (n, M)`` uint8, each in ``bits`` bits.

    ``packed`` must be zero before.
    """
    n, M = codes.shape
    for row in range(n):
        for m in range(M):
            bit = m * bits
            byte, shift = bit >> 3, bit & 7
            word = np.uint32(codes[row, m]) << np.uint32(shift)
            packed[row, byte] |= np.uint8(word & np.uint32(255))
            if shift + bits > 8:
                packed[row, byte + 1] |= np.uint8(word >> np.uint32(8))


# Rows are written 16 floats at a time, one after the other: what goes beyond the end of a row is overwritten by the
# next. Outputs are therefore flat and have `SPARE` floats at the end, and so do the codebooks that are read.


@kernel
def gather_rows(store, d, nothing, places, out):
    """Fill ``out (m * d + SPARE,)`` float32 with rows of a flat store of float32, or of float16 viewed as uint16.

    ``places`` (m,) int64 are the numbers of the rows; ``nothing`` is an empty float32 array.
    """
    whole = d - d % 16
    for i in range(places.size):
        start, target = places[i] * d, i * d
        for j in range(0, whole, 16):
            simd.store_f32x16(out, target + j, simd.load_row(store, start + j, nothing, nothing, j))
        if whole < d:
            tail = simd.load_row_tail(store, start + whole, d - whole, nothing, nothing, whole)
            simd.store_f32x16(out, target + whole, tail)


@kernel
def gather_sums(store, d, nothing, places, offsets, weights, out):
    """Fill ``out (b * d + SPARE,)`` float32 with sums of rows.

    The rows of bag k are ``places[offsets[k]:offsets[k + 1]]``. ``store`` and ``nothing`` are as in `gather_rows`;
    ``weights`` is (m,) float32, or of length 0 if all weights are one.
    """
    whole = d - d % 16
    for bag in range(offsets.size - 1):
        target = bag * d
        for j in range(0, d, 16):
            simd.store_f32x16(out, target + j, simd.zero_f32x16())
        for i in range(offsets[bag], offsets[bag + 1]):
            start = places[i] * d
            weight = simd.splat_f32(weights[i] if weights.size else np.float32(1.0))
            for j in range(0, whole, 16):
                value = simd.load_row(store, start + j, nothing, nothing, j)
                simd.store_f32x16(out, target + j, simd.fma(weight, value, simd.load_f32x16(out, target + j)))
            if whole < d:
                value = simd.load_row_tail(store, start + whole, d - whole, nothing, nothing, whole)
                simd.store_f32x16(out, target + whole, simd.fma(weight, value, simd.load_f32x16(out, target + whole)))


@kernel
def scaled_rows(codes, scales, ids, out):
    """Fill ``out (m, d)`` float32 with the rows ``ids`` of ``codes (n, d)`` (int8 or int16), times their scales.

    ``scales`` is (n,) float32, or (1,) if all rows have the same scale.
    """
    for i in range(ids.size):
        scale = scales[ids[i]] if scales.size > 1 else scales[0]
        row = codes[ids[i]]
        for j in range(out.shape[1]):
            out[i, j] = np.float32(row[j]) * scale


@kernel
def robe_rows(array, Z, seed, ids, out):
    """Fill ``out (m, d)`` float32 with rows of ROBE (Desai et al. 2022, "Random offset block embedding (ROBE)").

    A row consists of runs of Z floats, with hashed signs, from hashed places of a circular array.
    """
    size = array.size
    d = out.shape[1]
    for i in range(ids.size):
        base = mix_kernel(mix_kernel(ids[i]) + START * (ids[i] >> 32) + seed)
        for chunk in range(-(-d // Z)):
            hashed = mix_kernel(base + STEP * chunk)
            place = (hashed * size) >> 32
            for j in range(chunk * Z, min(d, (chunk + 1) * Z)):
                within = j - chunk * Z
                value = array[(place + within) % size] if within else array[place]
                out[i, j] = value if (hashed >> (within % 16)) & 1 else -value


@kernel
def hashed_numbers(ids, seed, buckets, out):
    """Fill ``out (m, k)`` float32 with k hashes of every id, of numbers 0 to k - 1, as numbers from -1 to 1.

    They are the inputs of DHE's network (Kang et al. 2021, "Learning to embed categorical features without embedding
    tables for recommendation", section 3).
    """
    step = 2.0 / (buckets - 1)
    for i in range(ids.size):
        base = mix_kernel(mix_kernel(ids[i]) + START * (ids[i] >> 32) + seed)
        for j in range(out.shape[1]):
            bucket = mix_kernel(base + STEP * j) % buckets
            out[i, j] = np.float32(bucket * step - 1.0)


@kernel
def _ones(byte):
    """Return the number of bits of a byte that are set."""
    pairs = np.int64(byte) - ((np.int64(byte) >> 1) & 0x55)
    fours = (pairs & 0x33) + ((pairs >> 2) & 0x33)
    return (fours + (fours >> 4)) & 0x0F


@kernel
def find_places(labels, bits, counts, block, ids, groups, places):
    """Find rows of a partition: the group of each row, and its number among the rows of that group.

    Parameters
    ----------
    labels, bits
        (n * bits / 8,) uint8, rounded up: the group of every row in 1, 2, 4 or 8 bits, least significant bits first.
    counts
        (blocks, groups) int32: the number of rows of each group that come before each block of rows.
    block
        Number of rows per block.
    ids
        (m,) int64: the rows to find.
    groups, places
        Outputs, (m,) int64.

    """
    mask = np.uint8((1 << bits) - 1)
    per_byte = 8 // bits
    for i in range(ids.size):
        row = ids[i]
        own = (labels[row // per_byte] >> np.uint8(row % per_byte * bits)) & mask
        at = row // block
        place = np.int64(counts[at, own])
        if bits == 1:  # with two groups, as in most partitions, whole bytes are counted
            ones = np.int64(0)
            for byte in range(at * block // 8, row // 8):
                ones += _ones(labels[byte])
            ones += _ones(labels[row // 8] & np.uint8((1 << (row % 8)) - 1))
            groups[i], places[i] = own, place + (ones if own else row - at * block - ones)
            continue
        for other in range(at * block, row):
            label = (labels[other // per_byte] >> np.uint8(other % per_byte * bits)) & mask
            place += label == own
        groups[i], places[i] = own, place


@kernel
def sparse_rows(values, columns, lengths, starts, block, places, out):
    """Fill ``out (m, d)`` float32, which must be zero before, with sparse rows.

    ``places (m,)`` int64 are numbers of rows, or -1 for a row of zeros. Row r has ``lengths[r]`` values, in the
    dimensions that ``columns`` names; the values of block b, which has ``block`` rows, begin at ``starts[b]``.
    """
    for i in range(places.size):
        row = places[i]
        if row < 0:
            continue
        at = row // block
        start = starts[at]
        for other in range(at * block, row):
            start += np.int64(lengths[other])
        for k in range(start, start + np.int64(lengths[row])):
            out[i, columns[k]] = values[k]


@kernel
def pool_rows(rows, offsets, weights, skip, mode, out):
    """Fill ``out (b, d)`` with sums, means or maxima of rows (m, d); empty bags become zeros.

    Parameters
    ----------
    rows
        (m, d) float32; those of bag k are ``offsets[k]:offsets[k + 1]``.
    offsets
        (b + 1,) int64.
    weights
        (m,) float32: factors of the rows in a sum; or of length 0.
    skip
        (m,) bool: rows that do not count; or of length 0.
    mode
        `SUM`, `MEAN` or `MAX`.
    out
        Output, (b, d) float32.

    """
    out[:] = np.float32(0.0)
    for bag in range(out.shape[0]):
        count = 0
        for i in range(offsets[bag], offsets[bag + 1]):
            if skip.size and skip[i]:
                continue
            count += 1
            if mode == MAX:
                for j in range(out.shape[1]):
                    if count == 1 or rows[i, j] > out[bag, j]:
                        out[bag, j] = rows[i, j]
            else:
                weight = weights[i] if weights.size else np.float32(1.0)
                for j in range(out.shape[1]):
                    out[bag, j] += weight * rows[i, j]
        if mode == MEAN and count:
            for j in range(out.shape[1]):
                out[bag, j] /= np.float32(count)
