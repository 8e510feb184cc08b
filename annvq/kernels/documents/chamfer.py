"""Chamfer similarity of queries to documents: the sum, over the query's vectors, of the best score in the document.

A document is a run of rows of a store. Rows of floats (float32, float16) and of 8-bit scalars are decoded into the
cache in blocks and multiplied as floats. Rows of 4-bit product codes become bytes, 32 vectors at a time, and are
multiplied with all vectors of the query, which are bytes as well. This takes fewer instructions than adding up entries
of look-up tables for each of the query's vectors.
"""

from __future__ import annotations

import numpy as np

from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import empty
from annvq.kernels.registers import lookup, simd
from annvq.kernels.registers.tiles import LANES, ROWS
from annvq.kernels.scan.topk import MINUS_INFINITY
from annvq.kernels.vectors.gemm import fill_products

_BLOCK = 32  # vectors of a document that are decoded at a time


@kernel
def chamfer_of_rows(panels, query_offsets, store, offsets, documents, scores):
    """Score documents whose vectors are rows of floats or of 8-bit scalars.

    Parameters
    ----------
    panels, query_offsets
        The vectors (tq, d) of all queries, as `annvq.kernels.vectors.gemm.pack` lays them out, and (nq + 1,) int64:
        where the vectors of each query begin.
    store
        The documents' vectors, an `annvq.kernels.vectors.dots.Store`.
    offsets
        (m + 1,) int64: the rows of document i are ``offsets[i]:offsets[i + 1]``.
    documents
        (nc,) int64: the documents to score.
    scores
        Output, (nq, nc) float32; minus infinity for a document without vectors.

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
    """Write the d numbers of a store from element ``at`` on to ``row``, as float32.

    ``buffer`` is scratch, (16,) float32.
    """
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
        The query's tq vectors as bytes, flat, padded to a multiple of four vectors: see
        `annvq.multivector.token_bytes`.
    starts, scales, biases
        For each of these vectors, int32, float32 and float32: the value at which its sum begins, and what turns the sum
        into a score, which is ``scale * sum + bias`` plus the score of the centroid.
    levels
        The values of the codes, as bytes: see `annvq.multivector.token_bytes`.
    components
        Number of dimensions per sub-quantizer.
    packed
        The codes of all vectors, as `annvq.kernels.scan.scan4.pack` packs a single list.
    labels, centroid_scores
        (n,) uint32 and (centroids, tq) float32: the centroid of every vector, and the inner products of the centroids
        with the query's vectors.
    offsets, documents
        As in `chamfer_of_rows`.
    scores
        Output, (nc,) float32; minus infinity for a document without vectors.

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
    """Return the centroid of a vector, or the last centroid if there is none of this number.

    Labels are read from a file, which may change after it has been checked.
    """
    return min(np.int64(labels[row]), np.int64(centroid_scores.shape[0] - 1))


@kernel
def _fill_bases(labels, centroid_scores, biases, first, begin, end, bases):
    """Write the values to which the sums of 32 vectors, from row ``first`` on, are added.

    They are minus infinity for rows outside the document.
    """
    if first < begin or first + 32 > end:
        bases[:] = MINUS_INFINITY
    for row in range(max(first, begin), min(first + 32, end)):
        label = _label(labels, row, centroid_scores)
        for t in range(centroid_scores.shape[1]):
            bases[t * 32 + row - first] = biases[t] + centroid_scores[label, t]


@kernel
def _decode_block(packed, block, levels, components, decoded):
    """Decode 32 vectors into bytes.

    The order is: four numbers of each of vectors 0..15, the same four of vectors 16..31, the next four of vectors
    0..15, and so on.
    """
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
    """Raise the best scores of query vectors t to t + 3 to those with a block's 32 vectors, where these are larger."""
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
    """Raise the 16 best scores of query vector t, one per lane, to those of a block, where these are larger."""
    scale = simd.splat_f32(scales[t])
    score_low = simd.fma(simd.to_f32(low), scale, simd.load_f32x16(bases, t * 32))
    score_high = simd.fma(simd.to_f32(high), scale, simd.load_f32x16(bases, t * 32 + 16))
    both = simd.maximum(score_low, score_high)
    simd.store_f32x16(best, t * 16, simd.maximum(simd.load_f32x16(best, t * 16), both))


@kernel
def chamfer_of_labels(centroid_scores, labels, offsets, documents, scores):
    """Score documents by the centroids of their vectors alone (Santhanam et al. 2022, "PLAID").

    Every vector counts as its centroid. The parameters are those of `chamfer_of_codes`.
    """
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
