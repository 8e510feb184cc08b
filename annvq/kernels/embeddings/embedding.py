"""Rows of compressed embedding tables, and sums of them.

Packed codes are row after row of ``row_bytes`` bytes; code m of a row is its bits ``m * bits`` and on, least
significant first. All arrays that are read are read-only and C-contiguous; ids (int64) are inside the table.
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
    """Fill ``packed (n, row_bytes)``, zeros before, with ``codes (n, M) uint8``."""
    n, M = codes.shape
    for row in range(n):
        for m in range(M):
            bit = m * bits
            byte, shift = bit >> 3, bit & 7
            word = np.uint32(codes[row, m]) << np.uint32(shift)
            packed[row, byte] |= np.uint8(word & np.uint32(255))
            if shift + bits > 8:
                packed[row, byte + 1] |= np.uint8(word >> np.uint32(8))


# Rows are written 16 floats at a time, one after the other: what goes beyond a row's end is overwritten by the next.
# So outputs are flat and have `SPARE` floats more, and so have the codebooks that are read.


@kernel
def gather_rows(store, d, nothing, places, out):
    """Fill ``out (m * d + SPARE,)`` with rows of a flat store of float32, or of float16 seen as uint16.

    ``nothing`` is an empty float32 array.
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
    """Fill ``out (b * d + SPARE,)`` with sums of rows: those of bag k are ``places[offsets[k]:offsets[k + 1]]``.

    ``store`` and ``nothing`` as of `gather_rows`; ``weights (m,) float32``, or of length 0 for ones.
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
    """Fill ``out (m, d)`` with ``codes (n, d)`` (int8 or int16) times ``scales``, (n,) or (1,) float32."""
    for i in range(ids.size):
        scale = scales[ids[i]] if scales.size > 1 else scales[0]
        row = codes[ids[i]]
        for j in range(out.shape[1]):
            out[i, j] = np.float32(row[j]) * scale


@kernel
def robe_rows(array, Z, seed, ids, out):
    """Fill ``out (m, d)`` with runs of Z floats from hashed places of a circular array, with hashed signs."""
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
    """Fill ``out (m, k)`` float32 with hashes of ids, numbered 0 to k - 1, as numbers from -1 to 1."""
    step = 2.0 / (buckets - 1)
    for i in range(ids.size):
        base = mix_kernel(mix_kernel(ids[i]) + START * (ids[i] >> 32) + seed)
        for j in range(out.shape[1]):
            bucket = mix_kernel(base + STEP * j) % buckets
            out[i, j] = np.float32(bucket * step - 1.0)


@kernel
def _ones(byte):
    """Return how many bits of a byte are set."""
    pairs = np.int64(byte) - ((np.int64(byte) >> 1) & 0x55)
    fours = (pairs & 0x33) + ((pairs >> 2) & 0x33)
    return (fours + (fours >> 4)) & 0x0F


@kernel
def find_places(labels, bits, counts, block, ids, groups, places):
    """Find rows of a partition: their group, and their number among the rows of that group.

    Parameters
    ----------
    labels, bits
        (n * bits / 8,) uint8, rounded up: every row's group in 1, 2, 4 or 8 bits, least significant first.
    counts
        (blocks, groups) int32: rows of each group before each block of rows.
    block
        Rows of a block.
    ids
        (m,) int64.
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
        if bits == 1:  # two groups, as most partitions have: whole bytes are counted
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
    """Fill ``out (m, d)`` with sparse rows, zeros before; ``places (m,)`` are rows of the arrays, or -1.

    Row r has ``lengths[r]`` values; those of block b of rows begin at ``starts[b]``.
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
    """Fill ``out (b, d)`` with sums, means or maxima of rows (m, d); empty bags are zeros.

    Parameters
    ----------
    rows
        (m, d) float32; bag k's are ``offsets[k]:offsets[k + 1]``.
    offsets
        (b + 1,) int64.
    weights
        (m,) float32 factors of a sum, or of length 0.
    skip
        (m,) bool: rows that do not count, or of length 0.
    mode
        SUM, MEAN or MAX.
    out
        (b, d) float32.

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
