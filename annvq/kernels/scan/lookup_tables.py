"""Look-up tables of queries: the contribution of each centroid of each sub-space to a score."""

from __future__ import annotations

import numpy as np

from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import local
from annvq.kernels.registers import simd

_LEVELS = np.float32(255.0)  # the highest level of quantized tables
_LEAST_SPAN = np.float32(1e-36)  # small, but its reciprocal is finite


@kernel
def fill_lookup_tables(queries, transposed, squared, tables):
    """Fill the look-up tables of queries.

    Parameters
    ----------
    queries
        (nq, M * dsub) float32.
    transposed
        (M, dsub, ksub) float32: the codebooks with the centroids in the last axis; ksub is a multiple of 16.
    squared
        Whether an entry is -|q_m - c_mj|^2 rather than <q_m, c_mj>, for the sub-vector q_m of the query and centroid
        c_mj.
    tables
        Output, (nq, M, ksub) float32. Each entry is summed in the order of the dimensions.

    """
    M, dsub, ksub = transposed.shape
    for m in range(M):  # the outer loop: the centroids of a sub-space are read once for all queries
        for q in range(queries.shape[0]):
            for j in range(0, ksub, 16):
                total = simd.zero_f32x16()
                for i in range(dsub):
                    element = simd.splat_f32(queries[q, m * dsub + i])
                    centroid = simd.load_f32x16(transposed, (m * dsub + i) * ksub + j)
                    if squared:
                        element = simd.sub(element, centroid)
                        centroid = element
                    total = simd.fma(element, centroid, total)
                if squared:
                    total = simd.sub(simd.zero_f32x16(), total)
                simd.store_f32x16(tables, (q * M + m) * ksub + j, total)


@kernel
def quantize_lookup_tables(tables, quantized):
    """Quantize one query's tables (M, ksub) float32 to uint8; return step and bias, both float32.

    ``table[m, j]`` is about ``step * quantized + min_m``, where min_m is the minimum of table m; ``bias`` is the sum of
    these minima. ksub is a multiple of 16. ``quantized`` has at least M * ksub elements, and those beyond are set to
    zero.
    """
    M, ksub = tables.shape
    lowest = local(M, np.float32)
    span = np.float32(0.0)
    bias = np.float32(0.0)
    for m in range(M):
        low = simd.load_f32x16(tables, m * ksub)
        high = low
        for j in range(16, ksub, 16):
            values = simd.load_f32x16(tables, m * ksub + j)
            low = simd.minimum(low, values)
            high = simd.maximum(high, values)
        lowest[m] = simd.hmin(low)
        span = max(span, simd.hmax(high) - lowest[m])
        bias += lowest[m]
    step = span / _LEVELS
    scale = simd.splat_f32(_LEVELS / span if span > _LEAST_SPAN else np.float32(0.0))
    half = simd.splat_f32(np.float32(0.5))
    most = simd.splat_f32(_LEVELS)
    for m in range(M):
        low = simd.splat_f32(lowest[m])
        for j in range(0, ksub, 16):
            above = simd.sub(simd.load_f32x16(tables, m * ksub + j), low)
            level = simd.minimum(simd.fma(above, scale, half), most)
            simd.store_levels(quantized, m * ksub + j, level)
    for i in range(M * ksub, quantized.size):
        quantized[i] = np.uint8(0)
    return step, bias
