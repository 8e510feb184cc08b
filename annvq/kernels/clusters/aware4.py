"""Score-aware codes of 4 bits: the nearest entries, then coordinate descent on the anisotropic loss, in registers.

The loss of a code is that of `annvq.kernels.codes.noise_shaping`, eta |r_par|^2 + |r_perp|^2. Sixteen vectors are coded
at a time, one in each lane. The 16 entries of a sub-space, which has two dimensions, are compared in registers: nothing
is written between a product and the choice that it decides. Every lane has one sum, so that codes depend on no
instruction set.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from annvq.kernels.compile.jit import intrinsic, kernel
from annvq.kernels.compile.scratch import empty
from annvq.kernels.registers import simd
from annvq.kernels.registers.simd import F32x16

ENTRIES, DIMENSIONS = 16, 2  # per sub-space
_LANES = 16
_LEAST = np.float32(1e-37)  # shorter directions count as zero; the reciprocal is finite


@intrinsic
def _where_above(typingctx, a, b, x, y):
    """Return, lane by lane, ``x`` where ``a > b``, and ``y`` elsewhere."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[2], args[3])

    return F32x16(F32x16, F32x16, F32x16, F32x16), codegen


@kernel
def _fill(vectors, first, count, shift, panel):
    """Transpose ``vectors[first:first + count] - shift`` into lanes; other lanes, and what vectors lack, are zeros."""
    d = vectors.shape[1]
    if count < _LANES:
        panel[:] = np.float32(0.0)
    for i in range(d, shift.size):
        for lane in range(_LANES):
            panel[i * _LANES + lane] = -shift[i]
    for lane in range(count):
        for i in range(d):
            panel[i * _LANES + lane] = vectors[first + lane, i] - shift[i]


@kernel
def _to_unit(along, scales):
    """Scale the directions in the lanes of ``along`` to unit norm; ``scales`` is scratch, (16,) float32."""
    peak = simd.zero_f32x16()
    for at in range(0, along.size, _LANES):
        x = simd.load_f32x16(along, at)
        peak = simd.maximum(simd.maximum(x, simd.sub(simd.zero_f32x16(), x)), peak)
    simd.store_f32x16(scales, 0, peak)
    for lane in range(_LANES):
        scales[lane] = np.float32(1.0) / scales[lane] if scales[lane] > _LEAST else np.float32(0.0)
    inverse, square = simd.load_f32x16(scales, 0), simd.zero_f32x16()
    for at in range(0, along.size, _LANES):
        x = simd.mul(simd.load_f32x16(along, at), inverse)
        square = simd.fma(x, x, square)
        simd.store_f32x16(along, at, x)
    simd.store_f32x16(scales, 0, square)
    for lane in range(_LANES):
        scales[lane] = np.float32(1.0) / np.sqrt(scales[lane]) if scales[lane] > np.float32(0.0) else np.float32(0.0)
    inverse = simd.load_f32x16(scales, 0)
    for at in range(0, along.size, _LANES):
        simd.store_f32x16(along, at, simd.mul(simd.load_f32x16(along, at), inverse))


@kernel
def _choose(panel, along, m, entries, bias, weight, rest, picks, dots):
    """Choose an entry of sub-space m for each lane; return ``rest`` less its dot, its product with the direction.

    The entry with the highest score plus ``weight`` (rest - dot)^2 is written to ``picks``, and its dot to ``dots``.
    """
    at, place, first = 2 * m * _LANES, 2 * m * ENTRIES, m * ENTRIES
    v, w = simd.load_f32x16(panel, at), simd.load_f32x16(panel, at + _LANES)
    g, h = simd.load_f32x16(along, at), simd.load_f32x16(along, at + _LANES)
    best = simd.splat_f32(-np.float32(np.inf))
    pick = chosen = simd.zero_f32x16()
    for j in range(ENTRIES):
        a, b = simd.splat_f32(entries[place + 2 * j]), simd.splat_f32(entries[place + 2 * j + 1])
        dot = simd.fma(h, b, simd.mul(g, a))
        score = simd.fma(w, b, simd.fma(v, a, simd.splat_f32(bias[first + j])))
        beyond = simd.sub(rest, dot)
        gain = simd.fma(simd.mul(beyond, weight), beyond, score)
        pick = _where_above(gain, best, simd.splat_f32(np.float32(j)), pick)
        chosen = _where_above(gain, best, dot, chosen)
        best = simd.maximum(gain, best)
    simd.store_f32x16(picks, m * _LANES, pick)
    simd.store_f32x16(dots, m * _LANES, chosen)
    return simd.sub(rest, chosen)


@kernel
def encode_aware(vectors, directions, M, entries, shift, bias, eta, rounds, codes):
    """Fill ``codes (n, M)`` uint8 with codes of low loss.

    Parameters
    ----------
    vectors, directions
        (n, d) float32: the vectors that are coded, and those along which errors weigh ``eta``, of any length.
    M, entries, shift, bias
        As in `annvq.kernels.codes.encode.product_encode`, with 16 entries of two dimensions per sub-space.
    eta
        float32, above 0: the weight of the parallel error.
    rounds
        Number of rounds of coordinate descent over the M sub-spaces.
    codes
        Output, (n, M) uint8.

    """
    n = vectors.shape[0]
    width = 2 * M * _LANES
    panel, along = empty(width, np.float32), empty(width, np.float32)
    picks, dots = empty(M * _LANES, np.float32), empty(M * _LANES, np.float32)
    scales = empty(_LANES, np.float32)
    nothing = empty(2 * M, np.float32)
    nothing[:] = np.float32(0.0)
    zero = simd.zero_f32x16()
    weight = simd.splat_f32(np.float32(0.5) * (np.float32(1.0) - np.float32(eta)))
    for first in range(0, n, _LANES):
        count = min(_LANES, n - first)
        _fill(vectors, first, count, shift, panel)
        _fill(directions, first, count, nothing, along)
        _to_unit(along, scales)
        projection = zero
        for m in range(M):
            left = _choose(panel, along, m, entries, bias, zero, zero, picks, dots)
            projection = simd.add(projection, left)
            for i in range(2 * m * _LANES, 2 * (m + 1) * _LANES, _LANES):
                projection = simd.fma(simd.load_f32x16(along, i), simd.load_f32x16(panel, i), projection)
        for _ in range(rounds):
            for m in range(M):
                rest = simd.add(projection, simd.load_f32x16(dots, m * _LANES))
                projection = _choose(panel, along, m, entries, bias, weight, rest, picks, dots)
        for lane in range(count):
            for m in range(M):
                codes[first + lane, m] = np.uint8(picks[m * _LANES + lane])
