"""Rotated queries quantized for RaBitQ codes, as `annvq.kernels.codes.rabitq.prepare` does it."""

from __future__ import annotations

import triton
import triton.language as tl

from annvq.gpu.kernels.order import _hsum

HIGHEST = 32512.0  # 127 * 256: the largest level whose two bytes fit int8


@triton.jit
def prepare_rabitq(queries, D, words, gaussian, epsilon, highest, planes, levels, factors, totals):
    """Quantize one query per program to 4 and to 16 bits per coordinate.

    Parameters
    ----------
    queries, D, words
        (nq, D) float32, rotated; D is 32 times ``words``.
    gaussian, epsilon
        (1,) float64: the factor for 4 bits of `annvq.kernels.codes.rabitq.GAUSSIAN_FACTORS`, and ``EPSILON``.
    highest
        `HIGHEST`.
    planes, levels, factors, totals
        Outputs: (nq, 4, words) int32, (nq, 2, D) int8, (nq, 3) float32 and (nq,) int64. A query of zero gets zeros.

    """
    query = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, 16)
    own = queries + query * D
    total = tl.zeros([1, 16], tl.float32)
    largest = tl.zeros([16], tl.float32)
    for i in range(0, D, 16):
        values = tl.load(own + i + lanes)
        total = tl.math.fma(values[None, :], values[None, :], total)
        largest = tl.maximum(largest, tl.abs(values))
    square = tl.sum(_hsum(total, 1), axis=0).to(tl.float64)
    most = tl.max(largest, axis=0)
    is_zero = square == 0.0
    dims = square * 0.0 + D
    factor = (tl.load(gaussian) * tl.sqrt(dims / tl.where(is_zero, 1.0, square))).to(tl.float32)
    level_factor = tl.math.div_rn(highest + most * 0.0, tl.where(is_zero, 1.0, most))
    inner = tl.zeros([1, 16], tl.float32)
    square_u = tl.zeros([1, 16], tl.float32)
    sums = tl.zeros([16], tl.int64)
    for word in range(0, words):
        ones = tl.zeros([16], tl.int32)
        twos = tl.zeros([16], tl.int32)
        fours = tl.zeros([16], tl.int32)
        eights = tl.zeros([16], tl.int32)
        for half in tl.static_range(2):
            dim = 32 * word + 16 * half + lanes
            values = tl.load(own + dim)
            size = tl.minimum(tl.floor(tl.abs(values) * factor), 7.0) + 0.5
            is_negative = values.to(tl.int32, bitcast=True) < 0  # also of -0.0
            u = tl.where(is_negative, -size, size)
            inner = tl.math.fma(values[None, :], u[None, :], inner)
            square_u = tl.math.fma(u[None, :], u[None, :], square_u)
            four_bit = tl.where(is_zero, 0, (u + 7.5).to(tl.int32))
            place = 16 * half + lanes
            ones += (four_bit & 1) << place
            twos += ((four_bit >> 1) & 1) << place
            fours += ((four_bit >> 2) & 1) << place
            eights += ((four_bit >> 3) & 1) << place
            level = tl.where(is_zero, 0, tl.floor(values * level_factor + 0.5).to(tl.int32))
            below = ((level + 128) & 255) - 128
            tl.store(levels + query * 2 * D + dim, ((level - below) >> 8).to(tl.int8))
            tl.store(levels + query * 2 * D + D + dim, below.to(tl.int8))
            sums += level.to(tl.int64)
        at = planes + query * 4 * words + word
        tl.store(at, tl.sum(ones, axis=0))
        tl.store(at + words, tl.sum(twos, axis=0))
        tl.store(at + 2 * words, tl.sum(fours, axis=0))
        tl.store(at + 3 * words, tl.sum(eights, axis=0))
    product = tl.sum(_hsum(inner, 1), axis=0).to(tl.float64)
    size_u = tl.sum(_hsum(square_u, 1), axis=0).to(tl.float64)
    scale = 0.25 * product / size_u
    rest = tl.maximum(square - product * product / size_u, 0.0)
    noise = 0.5 * tl.load(epsilon) * tl.sqrt(rest)
    step = tl.math.div_rn(0.5 * most, highest + most * 0.0)
    tl.store(factors + 3 * query, tl.where(is_zero, 0.0, scale.to(tl.float32)))
    tl.store(factors + 3 * query + 1, tl.where(is_zero, 0.0, noise.to(tl.float32)))
    tl.store(factors + 3 * query + 2, step)
    tl.store(totals + query, tl.sum(sums, axis=0))
