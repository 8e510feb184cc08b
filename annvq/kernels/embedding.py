"""Rows of compressed embedding tables, and sums of them.

Packed codes are row after row of ``row_bytes`` bytes; code m of a row is its bits ``m * bits`` and on, least
significant first. All tables here are read-only, C-contiguous arrays; ids (int64) are inside the table.
"""

from __future__ import annotations

import numpy as np

from annvq.kernels.jit import kernel
from annvq.kernels.mixing import hash_pair_kernel, mix_kernel

SUM, MEAN, MAX = 0, 1, 2


@kernel
def code_at(packed, row, m, bits):
    """Return code m of a row of ``packed (n, row_bytes) uint8``, 1 to 8 bits."""
    bit = m * bits
    byte, shift = bit >> 3, bit & 7
    word = np.uint32(packed[row, byte])
    if shift + bits > 8:
        word |= np.uint32(packed[row, byte + 1]) << np.uint32(8)
    return np.int64((word >> np.uint32(shift)) & np.uint32((1 << bits) - 1))


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


@kernel
def product_rows(packed, bits, codebooks, ids, out):
    """Fill ``out (m, d)`` with the centroids of ``codebooks (M, ksub, dsub)`` that the codes of rows name."""
    M, _, dsub = codebooks.shape
    d = out.shape[1]
    for i in range(ids.size):
        for m in range(M):
            centroid = codebooks[m, code_at(packed, ids[i], m, bits)]
            start = m * dsub
            for j in range(min(dsub, d - start)):
                out[i, start + j] = centroid[j]


@kernel
def product_sums(packed, bits, codebooks, ids, offsets, weights, out):
    """Fill ``out (b, d)`` with sums of rows: those of bag k are ``ids[offsets[k]:offsets[k + 1]]``.

    ``weights`` (m,) float32, or of length 0 for ones.
    """
    M, _, dsub = codebooks.shape
    d = out.shape[1]
    out[:] = np.float32(0.0)
    for bag in range(out.shape[0]):
        for i in range(offsets[bag], offsets[bag + 1]):
            weight = weights[i] if weights.size else np.float32(1.0)
            for m in range(M):
                centroid = codebooks[m, code_at(packed, ids[i], m, bits)]
                start = m * dsub
                for j in range(min(dsub, d - start)):
                    out[bag, start + j] += weight * centroid[j]


@kernel
def residual_rows(packed, bits, codebooks, ids, out):
    """Fill ``out (m, d)`` with the sums of the centroids of ``codebooks (M, ksub, d)`` that codes name, in order."""
    M, _, d = codebooks.shape
    for i in range(ids.size):
        row = out[i]
        row[:] = np.float32(0.0)
        for m in range(M):
            centroid = codebooks[m, code_at(packed, ids[i], m, bits)]
            for j in range(d):
                row[j] += centroid[j]


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
    for i in range(ids.size):
        for j in range(out.shape[1]):
            place = (hash_pair_kernel(ids[i], j // Z, seed) % size + j % Z) % size
            sign = hash_pair_kernel(ids[i], j, seed + 1) & 1
            value = array[place]
            out[i, j] = value if sign else -value


@kernel
def hashed_numbers(ids, seed, buckets, out):
    """Fill ``out (m, k)`` float32 with hashes of ids, numbered 0 to k - 1, as numbers from -1 to 1."""
    step = 2.0 / (buckets - 1)
    for i in range(ids.size):
        base = mix_kernel(mix_kernel(ids[i]) + 0x3C6EF372 * (ids[i] >> 32) + seed)
        for j in range(out.shape[1]):
            bucket = mix_kernel(base + 0x1E3779B9 * j) % buckets
            out[i, j] = np.float32(bucket * step - 1.0)


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
