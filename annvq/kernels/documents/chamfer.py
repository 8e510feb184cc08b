"""Chamfer similarity of a query's vectors to documents: for each of them the best of the document's, summed.

A document is a run of rows of a store. Of rows as they are, or nearly (float32, float16, 8-bit scalars), blocks
are decoded into the cache and multiplied as floats; 4-bit product codes become bytes, 32 vectors at a time, which all
of the query's vectors, bytes as well, are multiplied with: fewer instructions than adding entries of each one's tables.
"""

from __future__ import annotations

import numpy as np

from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import empty
from annvq.kernels.registers import lookup, simd
from annvq.kernels.registers.tiles import LANES, ROWS
from annvq.kernels.scan.topk import MINUS_INFINITY
from annvq.kernels.vectors.gemm import fill_products

_BLOCK = 32  # vectors of a document at a time


@kernel
def chamfer_of_rows(panels, query_offsets, store, offsets, documents, scores):
    """Score documents whose vectors are rows.

    Parameters
    ----------
    panels, query_offsets
        All queries' vectors (tq, d) as `annvq.kernels.vectors.gemm.pack` lays them out, and where each query's begin,
        (nq + 1,) int64.
    store
        The documents' vectors, `annvq.kernels.vectors.dots.Store`.
    offsets
        (m + 1,) int64: rows of document i are ``offsets[i]:offsets[i + 1]``.
    documents
        (nc,) int64: which documents.
    scores
        Output (nq, nc) float32; minus infinity for a document without vectors.

    """
    stored, d, minimum, step = store
    nq = query_offsets.size - 1
    tq = query_offsets[nq]
    tile = empty(ROWS * LANES, np.float32)
    rows = empty((_BLOCK, d), np.float32)
    products = empty((_BLOCK, tq), np.float32)
    best = empty(tq, np.float32)
    buffer = empty(16, np.float32)
    for place in range(documents.size):
        begin, end = offsets[documents[place]], offsets[documents[place] + 1]
        best[:] = MINUS_INFINITY
        for start in range(begin, end, _BLOCK):
            count = min(np.int64(_BLOCK), end - start)
            for row in range(count):
                _decode(stored, (start + row) * d, d, minimum, step, buffer, rows[row])
            fill_products(rows[:count], panels, tq, tile, products[:count])
            for row in range(count):
                for t in range(tq):
                    best[t] = max(best[t], products[row, t])
        for q in range(nq):
            total = np.float32(0.0)
            for t in range(query_offsets[q], query_offsets[q + 1]):
                total += best[t]
            scores[q, place] = total


@kernel
def _decode(store, at, d, minimum, step, buffer, row):
    """Write the d numbers of a store from place ``at`` as float32."""
    whole = d - d % 16
    for i in range(0, whole, 16):
        simd.store_f32x16(row, i, simd.load_row(store, at + i, minimum, step, i))
    if whole < d:
        simd.store_f32x16(buffer, 0, simd.load_row_tail(store, at + whole, d - whole, minimum, step, whole))
        for i in range(whole, d):
            row[i] = buffer[i - whole]


@kernel
def chamfer_of_codes(
    query, starts, scales, biases, levels, components, packed, labels, centroid_scores, offsets, documents, scores
):
    """Score documents whose vectors are 4-bit product codes.

    Parameters
    ----------
    query
        The query's vectors as bytes, flat, padded to a multiple of four vectors: `annvq.index.token_bytes`.
    starts, scales, biases
        For each of these: what its sum begins with (int32); a score is ``scale * sum + bias`` and the centroid's.
    levels
        What the codes stand for, in bytes: `annvq.index.token_bytes`.
    components
        Dimensions of a sub-quantizer.
    packed
        All vectors' codes as `annvq.kernels.scan.scan4.pack` packs a single list.
    labels, centroid_scores
        (n,) uint32 and (centroids, tq) float32: every vector's centroid, and its products with the query's vectors.
    offsets, documents, scores
        As in `chamfer_of_rows`.

    """
    tq = centroid_scores.shape[1]
    decoded = empty(2 * levels.size, np.uint8)
    bases = empty(starts.size * 32, np.float32)
    best = empty(starts.size * 16, np.float32)
    for place in range(documents.size):
        begin, end = offsets[documents[place]], offsets[documents[place] + 1]
        best[:] = MINUS_INFINITY
        for block in range(begin // 32, (end + 31) // 32):
            _fill_bases(labels, centroid_scores, biases, block * 32, begin, end, bases)
            _decode_block(packed, block, levels, components, decoded)
            for t in range(0, starts.size, 4):
                _score_four(query, t, starts, scales, decoded, bases, best)
        total = np.float32(0.0)
        for t in range(tq):
            total += simd.hmax(simd.load_f32x16(best, t * 16))
        scores[place] = total


@kernel
def _label(labels, row, centroid_scores):
    """Return a vector's centroid, the last one for what is none: labels lie in a file, which may change."""
    return min(np.int64(labels[row]), np.int64(centroid_scores.shape[0] - 1))


@kernel
def _fill_bases(labels, centroid_scores, biases, first, begin, end, bases):
    """Write what the sums of 32 vectors from row ``first`` on are added to, minus infinity outside the document."""
    if first < begin or first + 32 > end:
        bases[:] = MINUS_INFINITY
    for row in range(max(first, begin), min(first + 32, end)):
        label = _label(labels, row, centroid_scores)
        for t in range(centroid_scores.shape[1]):
            bases[t * 32 + row - first] = biases[t] + centroid_scores[label, t]


@kernel
def _decode_block(packed, block, levels, components, decoded):
    """Write 32 vectors as bytes: four numbers of vectors 0..15, four of vectors 16..31, the next four of 0..15."""
    steps = levels.size // 64
    groups = steps // components
    for g in range(groups):
        codes = simd.load_u8x64(packed, (block * groups + g) * 64)
        for s in range(g * components, (g + 1) * components):
            table = simd.load_u8x64(levels, s * 64)
            simd.store_u8x64(decoded, s * 128, lookup.decode_low(codes, table))
            simd.store_u8x64(decoded, s * 128 + 64, lookup.decode_high(codes, table))


@kernel
def _score_four(query, t, starts, scales, decoded, bases, best):
    """Raise the best of query vectors t to t + 3 by a block's 32 vectors."""
    steps = decoded.size // 128
    width = steps * 4
    low0 = simd.splat_i32(starts[t])
    low1 = simd.splat_i32(starts[t + 1])
    low2 = simd.splat_i32(starts[t + 2])
    low3 = simd.splat_i32(starts[t + 3])
    high0, high1, high2, high3 = low0, low1, low2, low3
    for s in range(steps):
        low = simd.load_u8x64(decoded, s * 128)
        high = simd.load_u8x64(decoded, s * 128 + 64)
        numbers = simd.repeat_u8x4(query, t * width + s * 4)
        low0, high0 = simd.dot4_u7i8(low0, low, numbers), simd.dot4_u7i8(high0, high, numbers)
        numbers = simd.repeat_u8x4(query, (t + 1) * width + s * 4)
        low1, high1 = simd.dot4_u7i8(low1, low, numbers), simd.dot4_u7i8(high1, high, numbers)
        numbers = simd.repeat_u8x4(query, (t + 2) * width + s * 4)
        low2, high2 = simd.dot4_u7i8(low2, low, numbers), simd.dot4_u7i8(high2, high, numbers)
        numbers = simd.repeat_u8x4(query, (t + 3) * width + s * 4)
        low3, high3 = simd.dot4_u7i8(low3, low, numbers), simd.dot4_u7i8(high3, high, numbers)
    _raise_best(t, low0, high0, scales, bases, best)
    _raise_best(t + 1, low1, high1, scales, bases, best)
    _raise_best(t + 2, low2, high2, scales, bases, best)
    _raise_best(t + 3, low3, high3, scales, bases, best)


@kernel
def _raise_best(t, low, high, scales, bases, best):
    """Raise the best of a query vector by the sums of a block."""
    scale = simd.splat_f32(scales[t])
    score_low = simd.fma(simd.to_f32(low), scale, simd.load_f32x16(bases, t * 32))
    score_high = simd.fma(simd.to_f32(high), scale, simd.load_f32x16(bases, t * 32 + 16))
    both = simd.maximum(score_low, score_high)
    simd.store_f32x16(best, t * 16, simd.maximum(simd.load_f32x16(best, t * 16), both))


@kernel
def chamfer_of_labels(centroid_scores, labels, offsets, documents, scores):
    """Score documents by their vectors' centroids alone (`annvq.multivector`'s centroid interaction)."""
    tq = centroid_scores.shape[1]
    best = empty(tq, np.float32)
    for place in range(documents.size):
        best[:] = MINUS_INFINITY
        for row in range(offsets[documents[place]], offsets[documents[place] + 1]):
            label = _label(labels, row, centroid_scores)
            for t in range(tq):
                best[t] = max(best[t], centroid_scores[label, t])
        total = np.float32(0.0)
        for t in range(tq):
            total += best[t]
        scores[place] = total
