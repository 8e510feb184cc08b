"""Chamfer similarity of a query's vectors to documents: for each of them the best of the document's, summed.

A document is a run of rows of a store. Of rows as they are, or nearly (float32, float16, 8-bit scalars), blocks
are decoded into the cache and multiplied; of 4-bit product codes nothing is decoded: entries of the query's tables
are added, 32 vectors at a time, exactly as `annvq.kernels.scan4` does.
"""

from __future__ import annotations

import numpy as np

from annvq.kernels import scan4, simd
from annvq.kernels.gemm import fill_products
from annvq.kernels.jit import kernel
from annvq.kernels.tiles import LANES, ROWS
from annvq.kernels.topk import MINUS_INFINITY

_BLOCK = 32  # vectors of a document at a time


@kernel
def score_rows(panels, query_offsets, store, d, minimum, step, offsets, documents, scores):
    """Score documents whose vectors are rows.

    Parameters
    ----------
    panels, query_offsets
        All queries' vectors (tq, d) as `annvq.kernels.gemm.pack` lays them out, and where each query's begin,
        (nq + 1,) int64.
    store
        Rows, flat: float32, float16 (as uint16) or 8-bit scalars (uint8).
    d
        Dimension.
    minimum, step
        Per dimension for uint8, padded to 16; empty for floats.
    offsets
        (m + 1,) int64: rows of document i are ``offsets[i]:offsets[i + 1]``.
    documents
        (nc,) int64: which documents.
    scores
        Output (nq, nc) float32; minus infinity for a document without vectors.

    """
    nq = query_offsets.size - 1
    tq = query_offsets[nq]
    tile = np.empty(ROWS * LANES, np.float32)
    rows = np.empty((_BLOCK, d), np.float32)
    products = np.empty((_BLOCK, tq), np.float32)
    best = np.empty(tq, np.float32)
    buffer = np.empty(16, np.float32)
    for place in range(documents.size):
        begin, end = offsets[documents[place]], offsets[documents[place] + 1]
        best[:] = MINUS_INFINITY
        for start in range(begin, end, _BLOCK):
            count = min(np.int64(_BLOCK), end - start)
            for row in range(count):
                _decode(store, (start + row) * d, d, minimum, step, buffer, rows[row])
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
def score_codes(tables, packed, labels, centroid_scores, offsets, documents, scores):
    """Score documents whose vectors are 4-bit product codes.

    Parameters
    ----------
    tables
        (tq, M, 16) float32 of the query's vectors, larger is closer.
    packed
        All vectors' codes as `annvq.kernels.scan4.pack` packs a single list.
    labels, centroid_scores
        (n,) uint32 and (centroids, tq) float32: every vector's centroid, and what it adds to the score; both empty
        where codes stand for whole vectors.
    offsets, documents, scores
        As in `score_rows`.

    """
    tq, M = tables.shape[0], tables.shape[1]
    groups = (M + 3) // 4
    width = groups * 64
    quantized = np.empty((tq, width), np.uint8)
    steps, biases = np.empty(tq, np.float32), np.empty(tq, np.float32)
    for t in range(tq):
        steps[t], biases[t] = scan4.quantize_tables(tables[t], quantized[t])
    bases = np.empty(tq * 32, np.float32)
    best = np.empty(tq * 16, np.float32)
    with_labels = labels.size > 0
    for place in range(documents.size):
        begin, end = offsets[documents[place]], offsets[documents[place] + 1]
        best[:] = MINUS_INFINITY
        for block in range(begin // 32, (end + 31) // 32):
            for lane in range(32):
                row = block * 32 + lane
                if row < begin or row >= end:
                    for t in range(tq):
                        bases[t * 32 + lane] = MINUS_INFINITY
                elif with_labels:
                    label = np.int64(labels[row])
                    for t in range(tq):
                        bases[t * 32 + lane] = biases[t] + centroid_scores[label, t]
                else:
                    for t in range(tq):
                        bases[t * 32 + lane] = biases[t]
            for t in range(tq):
                step = simd.splat_f32(steps[t])
                low, high = scan4.sum_block(packed, block * width, groups, quantized, t * width)
                score_low = simd.fma(simd.to_f32(low), step, simd.load_f32x16(bases, t * 32))
                score_high = simd.fma(simd.to_f32(high), step, simd.load_f32x16(bases, t * 32 + 16))
                both = simd.maximum(score_low, score_high)
                simd.store_f32x16(best, t * 16, simd.maximum(simd.load_f32x16(best, t * 16), both))
        total = np.float32(0.0)
        for t in range(tq):
            total += simd.hmax(simd.load_f32x16(best, t * 16))
        scores[place] = total


@kernel
def score_labels(centroid_scores, labels, offsets, documents, scores):
    """Score documents by their vectors' centroids alone (`annvq.multivector`'s centroid interaction)."""
    tq = centroid_scores.shape[1]
    best = np.empty(tq, np.float32)
    for place in range(documents.size):
        best[:] = MINUS_INFINITY
        for row in range(offsets[documents[place]], offsets[documents[place] + 1]):
            label = np.int64(labels[row])
            for t in range(tq):
                best[t] = max(best[t], centroid_scores[label, t])
        total = np.float32(0.0)
        for t in range(tq):
            total += best[t]
        scores[place] = total
