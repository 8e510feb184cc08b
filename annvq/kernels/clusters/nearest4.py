"""Nearest of the 16 entries of a sub-space of two dimensions, compared in registers.

Sixteen points are compared at a time, one in each lane, and nothing is written between a score and the choice that it
decides. Scores and ties are those of `annvq.kernels.clusters.assign.nearest`, to the bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from annvq.kernels.compile.jit import intrinsic, kernel
from annvq.kernels.compile.scratch import empty
from annvq.kernels.registers import simd
from annvq.kernels.registers.simd import F32x16, _pointer, _splat
from annvq.kernels.vectors.transpose import LANES, fill_lanes, transpose16

ENTRIES, DIMENSIONS = 16, 2  # per sub-space
_CHAIN = 4  # entries of which each waits for the one before; the chains are compared at the same time


@intrinsic
def where_above(typingctx, a, b, x, y):
    """Return, lane by lane, ``x`` where ``a > b``, and ``y`` elsewhere."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[2], args[3])

    return F32x16(F32x16, F32x16, F32x16, F32x16), codegen


@intrinsic
def repeat_f32(typingctx, array, index):
    """Load element ``index`` >= 0 of a float32 array, and repeat it 16 times."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = builder.load(_pointer(context, builder, sig.args[0], args[0], args[1], ir.FloatType()))
        return _splat(builder, value, F32x16.llvm)

    return F32x16(array, types.intp), codegen


@kernel
def _score(v, w, entries, place, bias, first, j):
    a, b = repeat_f32(entries, place + 2 * j), repeat_f32(entries, place + 2 * j + 1)
    return simd.fma(w, b, simd.fma(v, a, repeat_f32(bias, first + j)))


@kernel
def nearest_entry(v, w, entries, place, bias, first):
    """Return the highest score of 16 points among 16 entries, and its entry; equal scores go to the lower entry.

    ``v`` and ``w`` are the points' two dimensions. Entry j is ``entries[place + 2 * j:place + 2 * j + 2]``, and
    ``bias[first + j]`` is added to its product with a point.
    """
    best = second = third = fourth = simd.splat_f32(-np.float32(np.inf))
    a = b = c = e = simd.zero_f32x16()
    for j in range(_CHAIN):
        score = _score(v, w, entries, place, bias, first, j)
        a, best = where_above(score, best, simd.splat_f32(np.float32(j)), a), simd.maximum(score, best)
        score = _score(v, w, entries, place, bias, first, j + 4)
        b, second = where_above(score, second, simd.splat_f32(np.float32(j + 4)), b), simd.maximum(score, second)
        score = _score(v, w, entries, place, bias, first, j + 8)
        c, third = where_above(score, third, simd.splat_f32(np.float32(j + 8)), c), simd.maximum(score, third)
        score = _score(v, w, entries, place, bias, first, j + 12)
        e, fourth = where_above(score, fourth, simd.splat_f32(np.float32(j + 12)), e), simd.maximum(score, fourth)
    a, best = where_above(second, best, b, a), simd.maximum(second, best)
    c, third = where_above(fourth, third, e, c), simd.maximum(fourth, third)
    return simd.maximum(third, best), where_above(third, best, c, a)


@kernel
def store_codes(picks, M, lanes, first, count, codes):
    """Write ``picks``, (M * 16,) float32, a lane per row, to rows ``first`` on of codes (n, M) uint8.

    ``lanes`` is scratch, (256,) float32.
    """
    whole = M - M % LANES
    for m in range(0, whole, LANES):
        transpose16(picks, m * LANES, LANES, lanes, 0, LANES)
        for lane in range(count):
            simd.store_levels(codes, (first + lane) * M + m, simd.load_f32x16(lanes, lane * LANES))
    for m in range(whole, M):
        for lane in range(count):
            codes[first + lane, m] = np.uint8(picks[m * LANES + lane])


@kernel
def encode_nearest4(vectors, M, entries, shift, bias, codes):
    """Fill ``codes (n, M)`` uint8 with the nearest entry of each sub-vector.

    Parameters are those of `annvq.kernels.codes.encode.product_encode`, with 16 entries of two dimensions per
    sub-space.
    """
    n, d = vectors.shape
    panel, picks = empty(2 * M * LANES, np.float32), empty(M * LANES, np.float32)
    lanes = empty(LANES * LANES, np.float32)
    panel[d * LANES :] = np.float32(0.0)
    for start in range(0, n, LANES):
        count = min(LANES, n - start)
        fill_lanes(vectors, start, count, panel)
        for m in range(M):
            at = 2 * m * LANES
            v = simd.sub(simd.load_f32x16(panel, at), repeat_f32(shift, 2 * m))
            w = simd.sub(simd.load_f32x16(panel, at + LANES), repeat_f32(shift, 2 * m + 1))
            _, pick = nearest_entry(v, w, entries, 2 * m * ENTRIES, bias, m * ENTRIES)
            simd.store_f32x16(picks, m * LANES, pick)
        store_codes(picks, M, lanes, start, count, codes)
