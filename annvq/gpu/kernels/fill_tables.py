"""Look-up tables of queries, with the sums of `annvq.kernels.scan.lookup_tables`, and their quantization to 8 bits.

Tables of 16 entries are joined in pairs to tables of 256, which the byte of two 4-bit codes indexes: half as many
look-ups, and the same sums.
"""

from __future__ import annotations

import triton
import triton.language as tl

LEAST_SPAN = 1e-36  # small, but its reciprocal is finite


@triton.jit
def fill_tables(
    queries, d, hop, transposed, M, dsub, tables, lows, spans, SQUARED: tl.constexpr, KSUB: tl.constexpr,
    TABLES: tl.constexpr,
):  # fmt: skip
    """Fill the tables of queries.

    Parameters
    ----------
    queries, d
        (nq, d) float32.
    hop
        Dimensions from the sub-vector of one sub-quantizer to that of the next; 0 if all see the whole vector.
    transposed, M, dsub
        (M, dsub, KSUB) float32: the codebooks, with the centroids in the last axis.
    tables, lows, spans
        Outputs: (nq, M, KSUB) float32; and the least entry of each table, and how far the largest is above it, (nq, M).
    SQUARED
        Whether an entry is minus the squared distance rather than the inner product.
    TABLES
        How many tables a program fills.

    """
    query = tl.program_id(0).to(tl.int64)
    m = tl.program_id(1) * TABLES + tl.arange(0, TABLES)
    held = (m < M)[:, None]
    entry = tl.arange(0, KSUB)[None, :]
    total = tl.zeros([TABLES, KSUB], tl.float32)
    for i in range(0, dsub):
        dim = m * hop + i
        element = tl.load(queries + query * d + dim, mask=(m < M) & (dim < d), other=0.0)[:, None] + total * 0.0
        centroid = tl.load(transposed + ((m * dsub + i) * KSUB)[:, None] + entry, mask=held, other=0.0)
        if SQUARED:
            element = element - centroid
            centroid = element
        total = tl.math.fma(element, centroid, total)
    if SQUARED:
        total = 0.0 - total
    low = tl.min(total, axis=1)
    tl.store(tables + (query * M + m)[:, None] * KSUB + entry, total, mask=held)
    tl.store(lows + query * M + m, low, mask=m < M)
    tl.store(spans + query * M + m, tl.max(total, axis=1) - low, mask=m < M)


@triton.jit
def settle_tables(lows, spans, M, least_span, steps, scales, biases, PLACES: tl.constexpr):
    """Find every query's step, its reciprocal and the sum of its tables' least entries, in the order of the tables.

    ``steps``, ``scales`` and ``biases`` (nq,) float32 are outputs; PLACES is at least M.
    """
    query = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, PLACES)
    span = tl.max(tl.load(spans + query * M + place, mask=place < M, other=0.0), axis=0)
    bias = span * 0.0
    for m in range(0, M):
        bias += tl.load(lows + query * M + m)
    scale = tl.math.div_rn(255.0 + span * 0.0, tl.where(span > least_span, span, 1.0))
    tl.store(steps + query, tl.math.div_rn(span, 255.0 + span * 0.0))
    tl.store(scales + query, tl.where(span > least_span, scale, 0.0))
    tl.store(biases + query, bias)


@triton.jit
def _levels(tables, lows, scale, query, m, M, entry, KSUB: tl.constexpr):
    """Return entries of tables in 8 bits, as int32; 0 for tables beyond the last."""
    held = m < M
    values = tl.load(tables + (query * M + m) * KSUB + entry, mask=held, other=0.0)
    above = values - tl.load(lows + query * M + m, mask=held, other=0.0)
    level = tl.minimum(tl.math.fma(above, scale + above * 0.0, 0.5 + above * 0.0), 255.0)
    return tl.where(held, level.to(tl.int32), 0)


@triton.jit
def quantize_tables(tables, lows, scales, M, width, quantized, KSUB: tl.constexpr):
    """Write one table of bytes per program: ``quantized`` (nq, width, 256), uint8, or int16 for pairs of tables."""
    query, byte = tl.program_id(0).to(tl.int64), tl.program_id(1)
    entry = tl.arange(0, 256)
    scale = tl.load(scales + query)
    if KSUB == 256:
        level = _levels(tables, lows, scale, query, byte + entry * 0, M, entry, KSUB)
    else:
        level = _levels(tables, lows, scale, query, 2 * byte + entry * 0, M, entry & 15, KSUB)
        level += _levels(tables, lows, scale, query, 2 * byte + 1 + entry * 0, M, entry >> 4, KSUB)
    tl.store(quantized + (query * width + byte) * 256 + entry, level.to(quantized.dtype.element_ty))
