"""Encoding of rows and queries for RaBitQ. All vectors are already rotated.

A code is the vector u of half-integers, u_i = +-1/2, +-3/2, ..., that has the smallest angle to the rotated residual r.
In each coordinate it is sign(r_i) (floor(t |r_i|) + 1/2), with the same factor t for all coordinates, clipped to B
bits. The factor t is found by a search (arXiv 2409.09913, section 3.2).

All sums are made in 16 lanes in a fixed order, so that codes do not depend on the instruction set.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types

from annvq.kernels.codes.bits import QUERY_BITS, pad_planes
from annvq.kernels.compile.jit import intrinsic, kernel
from annvq.kernels.compile.scratch import empty
from annvq.kernels.registers import simd

EPSILON = np.float32(1.9)  # eps_0 of arXiv 2405.12497: the error is within its bound in 94 of 100 cases
_HIGHEST = np.float32(32512.0)  # = 127 * 256: the largest level whose two bytes fit int8

# For each B, 1 / step of the uniform quantizer with 2^B levels that has the least error for a normal distribution of
# variance 1 (Max, "Quantizing for minimum distortion", 1960). For B = 1, any t gives the same code.
GAUSSIAN_FACTORS = np.array([0, 1, 1 / 0.9957, 1 / 0.5860, 1 / 0.3352, 1 / 0.1881, 1 / 0.1041, 1 / 0.0569, 1 / 0.0308])
# The multiples at which t is looked for. For few bits the best t is near the Gaussian factor, for many bits near the
# factor that clips nothing; the refinement brings the error to within 2 % of that of an exhaustive search.
_NEAR_GAUSSIAN = np.array([0.85, 0.92, 1.0, 1.08])
_NEAR_UNCLIPPED = np.array([0.97, 1.0, 1.03, 1.07])
_REFINEMENT = np.array([0.98, 0.985, 0.99, 0.995, 1.005, 1.01, 1.015, 1.02])
MULTIPLES = np.concatenate([_NEAR_GAUSSIAN, _NEAR_UNCLIPPED, _REFINEMENT])  # in the order in which they are tried


class PreparedQueries(NamedTuple):
    """Rotated queries in the two forms that a scan takes.

    Attributes
    ----------
    planes
        (nq, 4, words) uint64: the bit planes of the 4-bit form, in `annvq.kernels.codes.bits.plane_words` words.
    high, low
        (nq, D) uint8, bytes of an int8: the 16-bit form, whose levels are ``256 * high + low``.
    factors
        (nq, 3) float32: scale and noise of the 4-bit form, and half the step of the 16-bit form.
    totals
        (nq,) int64: the sum of the 16-bit levels.

    """

    planes: np.ndarray
    high: np.ndarray
    low: np.ndarray
    factors: np.ndarray
    totals: np.ndarray


@intrinsic
def _magnitudes(typingctx, values, factor, highest):
    """Return min(floor(|values| * factor), highest) + 1/2 in 16 lanes."""

    def codegen(context, builder, sig, args):
        llvm = simd.F32x16.llvm
        size = simd._call(builder, "llvm.fabs.v16f32", llvm, [args[0]])
        scaled = builder.fmul(size, simd._splat(builder, args[1], llvm))
        level = simd._call(builder, "llvm.floor.v16f32", llvm, [scaled])
        limit = simd._splat(builder, args[2], llvm)
        level = builder.select(builder.fcmp_ordered("<", level, limit), level, limit)
        return builder.fadd(level, ir.Constant(llvm, [0.5] * 16))

    return simd.F32x16(simd.F32x16, types.float32, types.float32), codegen


@intrinsic
def _with_sign(typingctx, values, signs):
    """Return ``values``, which are not negative, with the signs of ``signs``, where 0.0 and -0.0 differ in sign."""

    def codegen(context, builder, sig, args):
        return simd._call(builder, "llvm.copysign.v16f32", simd.F32x16.llvm, list(args))

    return simd.F32x16(simd.F32x16, simd.F32x16), codegen


@kernel
def _inner(a, b):
    """Return <a, b>, as float64, of two float32 vectors whose length is a multiple of 16."""
    total = simd.zero_f32x16()
    for i in range(0, a.size, 16):
        total = simd.fma(simd.load_f32x16(a, i), simd.load_f32x16(b, i), total)
    return np.float64(simd.hsum(total))


@kernel
def quantize(vector, factor, bits, u):
    """Write the half-integers of a vector to ``u``; return <vector, u> and |u|^2 as float64.

    They are u_i = sign(v_i) (min(floor(factor |v_i|), 2^(bits-1) - 1) + 1/2); ``vector`` and ``u`` are (D,) float32.
    """
    highest = np.float32((1 << (bits - 1)) - 1)
    inner = simd.zero_f32x16()
    square = simd.zero_f32x16()
    for i in range(0, vector.size, 16):
        values = simd.load_f32x16(vector, i)
        signed = _with_sign(_magnitudes(values, factor, highest), values)
        simd.store_f32x16(u, i, signed)
        inner = simd.fma(values, signed, inner)
        square = simd.fma(signed, signed, square)
    return np.float64(simd.hsum(inner)), np.float64(simd.hsum(square))


@kernel
def _best(vector, center, multiples, bits, u, factor, cosine):
    """Try the factors ``center * multiples``; return the best of these and ``factor``, and its cosine times |vector|.

    The best factor has the largest cosine of the angle between the vector and u; ``cosine`` is that of ``factor``,
    times |vector|.
    """
    for multiple in multiples:
        candidate = np.float32(center * multiple)
        inner, square = quantize(vector, candidate, bits, u)
        if inner > cosine * np.sqrt(square):
            factor, cosine = np.float64(candidate), inner / np.sqrt(square)
    return factor, cosine


@kernel
def search_factor(vector, norm, bits, u):
    """Return the factor t whose code has the smallest angle to ``vector (D,) float32``.

    ``norm`` is |vector|; ``u`` is scratch, (D,) float32.
    """
    if bits == 1:
        return np.float32(0.0)
    largest = np.float32(0.0)
    for i in range(vector.size):
        largest = max(largest, abs(vector[i]))
    gaussian = GAUSSIAN_FACTORS[bits] * np.sqrt(np.float64(vector.size)) / norm
    factor, cosine = _best(vector, gaussian, _NEAR_GAUSSIAN, bits, u, 0.0, 0.0)
    unclipped = np.float64(1 << (bits - 1)) / np.float64(largest)
    factor, cosine = _best(vector, unclipped, _NEAR_UNCLIPPED, bits, u, factor, cosine)
    factor, cosine = _best(vector, factor, _REFINEMENT, bits, u, factor, cosine)
    return np.float32(factor)


@kernel
def _pack(u, bits, codes1, codes_ex):
    """Write the bit planes of one row: codes1 (D / 8,) and codes_ex ((bits - 1) D / 8,), both uint8."""
    width = codes1.size
    half = np.float32(0.5 * ((1 << bits) - 1))
    for byte in range(width):
        for plane in range(bits):
            shift = np.int64(bits - 1 - plane)
            value = np.int64(0)
            for i in range(8):
                value |= ((np.int64(u[8 * byte + i] + half) >> shift) & np.int64(1)) << np.int64(i)
            if plane == 0:
                codes1[byte] = np.uint8(value)
            else:
                codes_ex[(plane - 1) * width + byte] = np.uint8(value)


@kernel
def unpack_row(codes1, codes_ex, bits, u):
    """Write the half-integers u (D,) float32 that the bit planes of one row stand for."""
    width = codes1.size
    half = np.float32(0.5 * ((1 << bits) - 1))
    for i in range(u.size):
        byte, bit = i // 8, np.uint8(i % 8)
        code = np.int64((codes1[byte] >> bit) & np.uint8(1))
        for plane in range(bits - 1):
            code = 2 * code + np.int64((codes_ex[plane * width + byte] >> bit) & np.uint8(1))
        u[i] = np.float32(code) - half


@kernel
def _fill_factors(residual, centroid, square, inner, u, l2, place, factors):
    """Write add and mul to ``factors[place:place + 2]``.

    With these, the score of the row is base + add + mul <q, u>, where base is what its list contributes.
    """
    mul = square / inner
    of_centroid = _inner(centroid, u)
    if l2:
        factors[place] = np.float32(-square - 2.0 * mul * of_centroid)
        factors[place + 1] = np.float32(2.0 * mul)
    else:
        factors[place] = np.float32(_inner(centroid, residual) - mul * of_centroid)
        factors[place + 1] = np.float32(mul)


@kernel
def encode(residuals, centroids, labels, bits, l2, codes1, codes_ex, factors):
    """Encode rotated residuals.

    Parameters
    ----------
    residuals
        (n, D) float32, rotated.
    centroids, labels
        (nlist, D) float32, rotated, and (n,) int64: the list, and so the centroid, of each row.
    bits
        Bits per coordinate, 1 to 8.
    l2
        Whether scores are minus squared L2 distances rather than inner products.
    codes1, codes_ex, factors
        Outputs: (n, D / 8) uint8, (n, (bits - 1) D / 8) uint8, and (n, 3) float32, or (n, 5) if there are two or more
        bits. A residual of zero gets factors of zero: its score is what its list contributes.

    """
    D = residuals.shape[1]
    u = empty(D, np.float32)
    for row in range(residuals.shape[0]):
        residual = residuals[row]
        square = _inner(residual, residual)
        if square == 0.0:
            codes1[row] = np.uint8(0)
            codes_ex[row] = np.uint8(0)
            factors[row] = np.float32(0.0)
            continue
        centroid = centroids[labels[row]]
        inner1, square1 = quantize(residual, np.float32(0.0), 1, u)
        _fill_factors(residual, centroid, square, inner1, u, l2, 0, factors[row])
        factors[row, 2] = error_of(square, square / inner1, square1, D) * np.float32(2.0 if l2 else 1.0)
        if bits > 1:
            factor = search_factor(residual, np.sqrt(square), bits, u)
            inner, _ = quantize(residual, factor, bits, u)
            _fill_factors(residual, centroid, square, inner, u, l2, 3, factors[row])
        _pack(u, bits, codes1[row], codes_ex[row])


@kernel
def error_of(square, mul, square_u, D):
    """Return the error bound of the estimate of <q, r> for |q| = 1, given |r|^2, |r|^2 / <r, u> and |u|^2.

    It is eps_0 |r| sqrt((|u|^2 |r|^2 / <r, u>^2 - 1) / (D - 1)) (arXiv 2405.12497, theorem 3.2).
    """
    excess = max(0.0, mul * mul * square_u - square)
    return np.float32(np.float64(EPSILON) * np.sqrt(excess / np.float64(D - 1)))


@kernel
def _square_of(factors, D, l2):
    """Return |r|^2, which follows from the mul1 and err1 of a row, because |u1|^2 = D / 4."""
    unit = 2.0 if l2 else 1.0
    mul, error = np.float64(factors[1]) / unit, np.float64(factors[2]) / (unit * np.float64(EPSILON))
    return max(0.0, mul * mul * np.float64(D) / 4.0 - error * error * np.float64(D - 1))


@kernel
def decode(codes1, codes_ex, factors, bits, l2, rotated):
    """Write to each row of ``rotated (n, D) float32`` the multiple of its u that is closest to its residual."""
    D = rotated.shape[1]
    column = 1 if bits == 1 else 4
    for row in range(rotated.shape[0]):
        u = rotated[row]
        mul = np.float64(factors[row, column]) / (2.0 if l2 else 1.0)
        if mul == 0.0:
            u[:] = np.float32(0.0)
            continue
        unpack_row(codes1[row], codes_ex[row], bits, u)
        scale = np.float32(_square_of(factors[row], D, l2) / (mul * _inner(u, u)))
        for i in range(D):
            u[i] *= scale


@kernel
def _prepare4(query, square, u, planes, factors):
    """Quantize a query to 4 bits per coordinate: write its bit planes, and its scale and noise to ``factors[:2]``."""
    D = query.size
    factor = np.float32(GAUSSIAN_FACTORS[QUERY_BITS] * np.sqrt(np.float64(D) / square))
    inner, square_u = quantize(query, factor, QUERY_BITS, u)
    planes[:] = np.uint64(0)
    for i in range(D):
        level = np.uint64(np.int64(u[i] + np.float32(7.5)))
        word, bit = i // 64, np.uint64(i % 64)
        for j in range(QUERY_BITS):
            planes[j, word] |= ((level >> np.uint64(j)) & np.uint64(1)) << bit
    pad_planes(planes, D // 64)
    # The query is scale * u + rest, and <u, u1> is 15 D / 4 - count / 2. The rest is regarded as a vector in a random
    # direction: its inner product with the D coordinates of u1, each +-1/2, has a standard deviation of |rest| / 2.
    factors[0] = np.float32(0.25 * inner / square_u)
    factors[1] = np.float32(0.5 * np.float64(EPSILON) * np.sqrt(max(0.0, square - inner * inner / square_u)))


@kernel
def _prepare16(query, high, low, factors):
    """Quantize a query to 16 bits per coordinate; return the sum of the levels.

    Its bytes are written to ``high`` and ``low``, and half its step to ``factors[2]``.
    """
    largest = np.float32(0.0)
    for i in range(query.size):
        largest = max(largest, abs(query[i]))
    factor = _HIGHEST / largest
    total = np.int64(0)
    for i in range(query.size):
        level = np.int64(np.floor(query[i] * factor + np.float32(0.5)))
        below = ((level + np.int64(128)) & np.int64(255)) - np.int64(128)
        high[i] = np.uint8(((level - below) >> np.int64(8)) & np.int64(255))
        low[i] = np.uint8(below & np.int64(255))
        total += level
    factors[2] = np.float32(0.5) * largest / _HIGHEST
    return total


@kernel
def prepare(queries, prepared):
    """Quantize rotated queries (nq, D) float32 for both stages of a scan, and write them to `PreparedQueries`."""
    planes, high, low, factors, totals = prepared
    u = empty(queries.shape[1], np.float32)
    for q in range(queries.shape[0]):
        square = _inner(queries[q], queries[q])
        if square == 0.0:
            planes[q] = np.uint64(0)
            high[q] = np.uint8(0)
            low[q] = np.uint8(0)
            factors[q] = np.float32(0.0)
            totals[q] = 0
            continue
        _prepare4(queries[q], square, u, planes[q], factors[q])
        totals[q] = _prepare16(queries[q], high[q], low[q], factors[q])
