"""Codes of neighbours relative to the vertex that they are neighbours of, and estimates from them.

Let c be a vertex, o its neighbour and q a query. Exactly,

    -|q - o|^2  =  -|q - c|^2  - |o - c|^2  + 2 <q - c, o - c>

so that only the last product has to be estimated. P projects to fewer dimensions, u is the vector that the code of
P (o - c) / |o - c| stands for, and y(x) = P x or, for distances, P (x - mean). Then

    <q - c, o - c>  is about  m (<y(q), u> - <y(c), u>),    m = |o - c|^2 / <P (o - c), u>

The scale m makes this right on average over all directions of q - c, as in RaBitQ (Gao and Long, SIGMOD 2024,
arXiv:2405.12497). But queries lie where vectors do: the neighbours of a vertex tend to lie on the query's side of it,
the more so the farther away they are. The product is therefore estimated as

    a m (<y(q), u> - <y(c), u>) + b |o - c|^2

with weights a and b that are learned from neighbours of sampled vectors; on Fashion-MNIST (a = 0.80, b = 0.12), that
lowers the error by 40%. <y(q), u> is a sum of look-ups in one table of the query, whichever vertex is visited, and all
else is known when the rows are written: the factor of a neighbour is 2 a m, and its constant the rest.

Where scores are inner products, and queries are about as long as the vectors, this holds as well, for

    <q, o>  =  <q, c>  + <c, o - c>  + <q - c, o - c>

If vectors are equally long, queries are made so, as their length does not change what they find (`bring_beside`). Else
<q, o> = <q, c> + <q, o - c>, and the last product is estimated by

    a m (<y(q), u> - <y(0), u>)

which is proportional to the query, as the scores are: the length of a query decides how near it is to the vectors, but
not how it ranks them. It errs in proportion to the query too, which is too much where vectors lie in a narrow cone, and
differ by much less than they are long.
"""

from __future__ import annotations

import math

import numpy as np

from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import empty, local
from annvq.kernels.graph.rows import DEGREE
from annvq.kernels.registers import simd
from annvq.kernels.scan import pipeline, scan4
from annvq.kernels.scan.lookup_tables import fill_lookup_tables, quantize_lookup_tables


@kernel
def _nearest_entry(point, at, transposed, m):
    """Return the nearest of the 16 entries of sub-space m to ``point[at:]``; of equal ones, the first."""
    dsub = transposed.shape[1]
    total = simd.zero_f32x16()
    for s in range(dsub):
        difference = simd.sub(simd.load_f32x16(transposed, (m * dsub + s) * 16), simd.splat_f32(point[at + s]))
        total = simd.fma(difference, difference, total)
    scores = simd.sub(simd.zero_f32x16(), total)
    return simd.trailing_zeros(simd.ge_mask(scores, simd.hmax(scores)))


@kernel
def code_neighbors(store, projected, sources, edges, transposed, weights, zero, begin, end, factors, codes):
    """Write factors, constants and codes of the neighbours of rows ``begin`` to ``end``.

    Parameters
    ----------
    store
        `annvq.kernels.vectors.dots.Store` of the vectors as they are kept.
    projected
        (vectors, M * dsub) float32: y of every vector, zero beyond the dimension of P.
    sources, edges
        (rows,) int64, the vector of every row; (rows, 32) uint32, its neighbours.
    transposed
        (M, dsub, 16) float32: the codebooks.
    weights
        (2,) float32: a and b.
    zero
        (M * dsub,) float32, y(0), if scores are inner products; empty if they are minus squared distances.
    factors
        Output, (rows, 64) float32: factors, then constants.
    codes
        Output, (rows, groups * 64) uint8, which is zero before.

    """
    stored, d, minimum, step = store
    M, dsub, _ = transposed.shape
    width = M * dsub
    residual = empty(width, np.float32)
    whole = d - d % 16
    for row in range(begin, end):
        c = sources[row]
        for lane in range(DEGREE):
            o = np.int64(edges[row, lane])
            square = simd.zero_f32x16()
            for i in range(0, whole, 16):
                x = simd.load_row(stored, c * d + i, minimum, step, i)
                difference = simd.sub(simd.load_row(stored, o * d + i, minimum, step, i), x)
                square = simd.fma(difference, difference, square)
            if whole < d:
                x = simd.load_row_tail(stored, c * d + whole, d - whole, minimum, step, whole)
                y = simd.load_row_tail(stored, o * d + whole, d - whole, minimum, step, whole)
                difference = simd.sub(y, x)
                square = simd.fma(difference, difference, square)
            length = simd.hsum(square)
            scale = np.float32(1.0) / np.sqrt(length) if length > np.float32(0.0) else np.float32(0.0)
            for i in range(width):
                residual[i] = (projected[o, i] - projected[c, i]) * scale
            shift = np.uint8(4) if lane >= 16 else np.uint8(0)
            with_residual, with_centre = np.float32(0.0), np.float32(0.0)
            for m in range(M):
                code = _nearest_entry(residual, m * dsub, transposed, m)
                codes[row, scan4._byte_of(lane % 16, m)] |= np.uint8(code << shift)
                for s in range(dsub):
                    entry = transposed[m, s, code]
                    with_residual += residual[m * dsub + s] * entry
                    with_centre += (zero[m * dsub + s] if zero.size > 0 else projected[c, m * dsub + s]) * entry
            factor = np.float32(0.0)
            if with_residual > np.float32(0.0):
                factor = weights[0] * length * scale / with_residual
            known = np.float32(0.0)
            if zero.size == 0:
                factor *= np.float32(2.0)
                known = np.float32(2.0) * weights[1] * length - length
            factors[row, DEGREE + lane] = known - factor * with_centre
            factors[row, lane] = factor


@kernel
def bring_beside(queries, length, beside, scales):
    """Make queries (nq, d) float32 about as long as ``length``, by powers of two, which round nothing.

    Outputs are ``beside`` (nq, d) float32, what queries are times ``scales`` (nq,) float32.
    """
    nq, d = queries.shape
    whole = d - d % 16
    for q in range(nq):
        start = q * d
        total = simd.zero_f32x16()
        for i in range(start, start + whole, 16):
            x = simd.load_f32x16(queries, i)
            total = simd.fma(x, x, total)
        if whole < d:
            x = simd.load_f32_tail(queries, start + whole, d - whole)
            total = simd.fma(x, x, total)
        square = np.float64(simd.hsum(total))
        scales[q] = np.float32(1.0)
        if square > 0.0:
            exponent = math.frexp(np.float64(length) * np.float64(length) / square)[1]
            scales[q] = np.float32(math.ldexp(1.0, exponent // 2))
        for i in range(d):
            beside[q, i] = queries[q, i] * scales[q]


@kernel
def prepare_walks(queries, rotation, transposed, quantized, steps, biases):
    """Fill the look-up tables of queries (nq, d) float32.

    ``rotation`` is the `annvq.kernels.scan.pipeline.Rotation` that projects and centres them. Outputs are those of
    `annvq.kernels.scan.lookup_tables.quantize_lookup_tables`: ``quantized`` (nq, groups * 64) uint8, ``steps`` and
    ``biases`` (nq,) float32.
    """
    nq = queries.shape[0]
    M, dsub, ksub = transposed.shape
    projected = local((nq, M * dsub), np.float32)
    pipeline.turn(queries, rotation, projected)
    tables = local((nq, M, ksub), np.float32)
    fill_lookup_tables(projected, transposed, False, tables)
    for q in range(nq):
        steps[q], biases[q] = quantize_lookup_tables(tables[q], quantized[q])
