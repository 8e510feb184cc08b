"""Chamfer similarity of queries to documents, as `annvq.kernels.documents.chamfer` sums it.

Each program scores one document for one query: the sum, over the query's vectors, of the best score in the document.
"""

from __future__ import annotations

import triton
import triton.language as tl

from annvq.gpu.kernels.scan_rows import _numbers


@triton.jit
def _added(total, best, count, TOGETHER: tl.constexpr):
    """Return a total plus the first ``count`` of the numbers (TOGETHER,), added one after the other."""
    lanes = tl.arange(0, TOGETHER)
    for t in range(0, count):
        total += tl.sum(tl.where(lanes == t, best, 0.0), axis=0)
    return total


@triton.jit
def score_documents(
    queries, d, query_offsets, rows, minimum, step, offsets, base, count, places, width, scores, CODED: tl.constexpr,
    ROWS: tl.constexpr, TOGETHER: tl.constexpr,
):  # fmt: skip
    """Score documents whose vectors are rows of floats or of 8-bit scalars.

    Parameters
    ----------
    queries, d, query_offsets
        (tq, d) float32, and (nq + 1,) int64: where the vectors of each query begin.
    rows, minimum, step
        (t, d) float32, float16 or uint8, and what codes stand for, as in `annvq.gpu.kernels.scan_rows.scan_rows`.
    offsets, base, count
        (count + 1,) int64: where the vectors of each document of the segment begin; its first document's number among
        those of the index, and how many it has.
    places, width
        (nq, width) int64: the documents to score; those that are not in the segment keep their scores.
    scores
        (nq, width) float32; minus infinity for a document without vectors.
    ROWS, TOGETHER
        Vectors of a document, and of a query, that are multiplied together.

    """
    program = tl.program_id(0).to(tl.int64)
    document = tl.load(places + program) - base
    if (document >= 0) & (document < count):
        query = program // width
        begin, end = tl.load(offsets + document), tl.load(offsets + document + 1)
        first, last = tl.load(query_offsets + query), tl.load(query_offsets + query + 1)
        lane = tl.arange(0, TOGETHER)
        total = (first * 0).to(tl.float32)
        for t in range(first, last, TOGETHER):
            asked = t + lane
            best = tl.full([TOGETHER], float("-inf"), tl.float32)
            for start in range(begin, end, ROWS):
                row = start + tl.arange(0, ROWS)
                product = tl.zeros([ROWS, TOGETHER], tl.float32)
                at = tl.where(row < end, row, begin) * d
                for i in range(0, d):
                    one = i + tl.arange(0, 1)
                    x = _numbers(rows, at, tl.arange(0, 1), i, d, minimum, step, CODED)
                    y = tl.load(queries + asked[None, :] * d + one[:, None], mask=(asked < last)[None, :], other=0.0)
                    product = tl.math.fma(x + tl.zeros_like(product), y + tl.zeros_like(product), product)
                product = tl.where((row < end)[:, None], product, float("-inf"))
                best = tl.maximum(best, tl.max(product, axis=0))
            total = _added(total, best, tl.minimum(last - t, TOGETHER), TOGETHER)
        tl.store(scores + program, total)


@triton.jit
def score_coded_documents(
    values, starts, scales, biases, query_offsets, d, levels, dsub, codes, stride, labels, centroids,
    centroid_scores, offsets, base, count, places, width, scores, ROWS: tl.constexpr, TOGETHER: tl.constexpr,
    DIMS: tl.constexpr,
):  # fmt: skip
    """Score documents whose vectors are 4-bit product codes, by exact products of bytes.

    Parameters
    ----------
    values, starts, scales, biases, query_offsets
        (tq, padded d) int8 and (tq,) int32, float32 and float32: the queries' vectors in bytes, what their sums begin
        at, and what turns a sum into a score; and (nq + 1,) int64. The padding is to a multiple of DIMS, with zeros.
    d, levels, dsub
        Dimensions; (M, 16, dsub) int8, what codes stand for; and dimensions of a sub-quantizer.
    codes, stride
        (t, stride) uint8: two codes a byte, the first in its lower half.
    labels, centroids, centroid_scores
        (t,) int32 and (tq, centroids) float32.
    offsets, base, count, places, width, scores
        As in `score_documents`.

    """
    program = tl.program_id(0).to(tl.int64)
    document = tl.load(places + program) - base
    if (document >= 0) & (document < count):
        query = program // width
        begin, end = tl.load(offsets + document), tl.load(offsets + document + 1)
        first, last = tl.load(query_offsets + query), tl.load(query_offsets + query + 1)
        lane, dims = tl.arange(0, TOGETHER), tl.arange(0, DIMS)
        padded = (d + DIMS - 1) // DIMS * DIMS
        total = (first * 0).to(tl.float32)
        for t in range(first, last, TOGETHER):
            asked = t + lane
            is_asked = asked < last
            best = tl.full([TOGETHER], float("-inf"), tl.float32)
            for start in range(begin, end, ROWS):
                row = start + tl.arange(0, ROWS)
                held = row < end
                sums = tl.zeros([ROWS, TOGETHER], tl.int32)
                for i in range(0, d, DIMS):
                    dim = i + dims
                    part = dim // dsub
                    inside = held[:, None] & (dim < d)[None, :]
                    pair = tl.load(codes + row[:, None] * stride + (part // 2)[None, :], mask=inside, other=0)
                    code = (pair.to(tl.int32) >> (4 * (part % 2))[None, :]) & 15
                    at = (part[None, :] * 16 + code) * dsub + (dim % dsub)[None, :]
                    level = tl.load(levels + at, mask=inside, other=0)
                    y = tl.load(values + asked[:, None] * padded + dim[None, :], mask=is_asked[:, None], other=0)
                    sums = tl.dot(level, tl.trans(y), sums, out_dtype=tl.int32)
                sums += tl.load(starts + asked, mask=is_asked, other=0)[None, :]
                label = tl.load(labels + row, mask=held, other=0)
                own = centroid_scores + asked[None, :] * centroids + label.to(tl.int64)[:, None]
                both = held[:, None] & is_asked[None, :]
                added = tl.load(own, mask=both, other=0.0)
                added = tl.load(biases + asked, mask=is_asked, other=0.0)[None, :] + added
                scale = tl.load(scales + asked, mask=is_asked, other=0.0)[None, :] + tl.zeros_like(added)
                product = tl.where(held[:, None], tl.math.fma(sums.to(tl.float32), scale, added), float("-inf"))
                best = tl.maximum(best, tl.max(product, axis=0))
            total = _added(total, best, tl.minimum(last - t, TOGETHER), TOGETHER)
        tl.store(scores + program, total)


@triton.jit
def score_labelled_documents(
    query_offsets, labels, centroids, centroid_scores, offsets, base, count, places, width, scores, ROWS: tl.constexpr,
    TOGETHER: tl.constexpr,
):  # fmt: skip
    """Score documents by the centroids of their vectors alone; the parameters are those of `score_coded_documents`."""
    program = tl.program_id(0).to(tl.int64)
    document = tl.load(places + program) - base
    if (document >= 0) & (document < count):
        query = program // width
        begin, end = tl.load(offsets + document), tl.load(offsets + document + 1)
        first, last = tl.load(query_offsets + query), tl.load(query_offsets + query + 1)
        lane = tl.arange(0, TOGETHER)
        total = (first * 0).to(tl.float32)
        for t in range(first, last, TOGETHER):
            asked = t + lane
            best = tl.full([TOGETHER], float("-inf"), tl.float32)
            for start in range(begin, end, ROWS):
                row = start + tl.arange(0, ROWS)
                held = row < end
                label = tl.load(labels + row, mask=held, other=0)
                own = centroid_scores + asked[None, :] * centroids + label.to(tl.int64)[:, None]
                product = tl.load(own, mask=held[:, None] & (asked < last)[None, :], other=float("-inf"))
                best = tl.maximum(best, tl.max(product, axis=0))
            total = _added(total, best, tl.minimum(last - t, TOGETHER), TOGETHER)
        tl.store(scores + program, total)
