"""Score-aware codes of 4 bits: the nearest entries, then coordinate descent on the anisotropic loss, in registers.

The loss of a code is that of `annvq.kernels.codes.noise_shaping`, eta |r_par|^2 + |r_perp|^2. Sixteen vectors are coded
at a time, one in each lane. The 16 entries of a sub-space, which has two dimensions, are compared in registers: nothing
is written between a product and the choice that it decides. Every lane has one sum, so that codes depend on no
instruction set.
"""

from __future__ import annotations

import numpy as np

from annvq.kernels.clusters.nearest4 import ENTRIES, repeat_f32, store_codes, where_above
from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import empty
from annvq.kernels.registers import simd
from annvq.kernels.vectors.transpose import LANES, fill_lanes

LEAST = np.float32(1e-37)  # shorter directions count as zero; the reciprocal is finite


@kernel
def _to_unit(along, scales):
    """Scale the directions in the lanes of ``along`` to unit norm; ``scales`` is scratch, (16,) float32."""
    peak = simd.zero_f32x16()
    for at in range(0, along.size, LANES):
        x = simd.load_f32x16(along, at)
        peak = simd.maximum(simd.maximum(x, simd.sub(simd.zero_f32x16(), x)), peak)
    simd.store_f32x16(scales, 0, peak)
    for lane in range(LANES):
        scales[lane] = np.float32(1.0) / scales[lane] if scales[lane] > LEAST else np.float32(0.0)
    inverse, square = simd.load_f32x16(scales, 0), simd.zero_f32x16()
    for at in range(0, along.size, LANES):
        x = simd.mul(simd.load_f32x16(along, at), inverse)
        square = simd.fma(x, x, square)
        simd.store_f32x16(along, at, x)
    simd.store_f32x16(scales, 0, square)
    for lane in range(LANES):
        scales[lane] = np.float32(1.0) / np.sqrt(scales[lane]) if scales[lane] > np.float32(0.0) else np.float32(0.0)
    inverse = simd.load_f32x16(scales, 0)
    for at in range(0, along.size, LANES):
        simd.store_f32x16(along, at, simd.mul(simd.load_f32x16(along, at), inverse))


@kernel
def _gain(v, w, g, h, entries, place, bias, first, weight, rest, j):
    """Return the score of entry j plus ``weight`` (rest - dot)^2, and its dot."""
    a, b = repeat_f32(entries, place + 2 * j), repeat_f32(entries, place + 2 * j + 1)
    dot = simd.fma(h, b, simd.mul(g, a))
    score = simd.fma(w, b, simd.fma(v, a, repeat_f32(bias, first + j)))
    beyond = simd.sub(rest, dot)
    return simd.fma(simd.mul(beyond, weight), beyond, score), dot


@kernel
def _choose(panel, along, m, entries, bias, weight, rest, picks, dots):
    """Choose an entry of sub-space m for each lane; return ``rest`` less its dot, its product with the direction.

    The entry with the highest score plus ``weight`` (rest - dot)^2 is written to ``picks``, and its dot to ``dots``.
    """
    at, place, first = 2 * m * LANES, 2 * m * ENTRIES, m * ENTRIES
    v, w = simd.load_f32x16(panel, at), simd.load_f32x16(panel, at + LANES)
    g, h = simd.load_f32x16(along, at), simd.load_f32x16(along, at + LANES)
    best = second = simd.splat_f32(-np.float32(np.inf))
    pick = other = chosen = its = simd.zero_f32x16()
    for j in range(ENTRIES // 2):  # in two chains, each of which waits for its last comparison only
        gain, dot = _gain(v, w, g, h, entries, place, bias, first, weight, rest, j)
        pick = where_above(gain, best, simd.splat_f32(np.float32(j)), pick)
        chosen, best = where_above(gain, best, dot, chosen), simd.maximum(gain, best)
        gain, dot = _gain(v, w, g, h, entries, place, bias, first, weight, rest, j + 8)
        other = where_above(gain, second, simd.splat_f32(np.float32(j + 8)), other)
        its, second = where_above(gain, second, dot, its), simd.maximum(gain, second)
    pick, chosen = where_above(second, best, other, pick), where_above(second, best, its, chosen)
    simd.store_f32x16(picks, m * LANES, pick)
    simd.store_f32x16(dots, m * LANES, chosen)
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
    n, d = vectors.shape
    width = 2 * M * LANES
    panel, along = empty(width, np.float32), empty(width, np.float32)
    picks, dots = empty(M * LANES, np.float32), empty(M * LANES, np.float32)
    scales = empty(LANES, np.float32)
    lanes = empty(LANES * LANES, np.float32)
    along[d * LANES :] = np.float32(0.0)
    zero = simd.zero_f32x16()
    weight = simd.splat_f32(np.float32(0.5) * (np.float32(1.0) - np.float32(eta)))
    for first in range(0, n, LANES):
        count = min(LANES, n - first)
        fill_lanes(vectors, first, count, panel)
        panel[d * LANES :] = np.float32(0.0)
        for i in range(2 * M):
            moved = simd.sub(simd.load_f32x16(panel, i * LANES), repeat_f32(shift, i))
            simd.store_f32x16(panel, i * LANES, moved)
        fill_lanes(directions, first, count, along)
        _to_unit(along, scales)
        projection = zero
        for m in range(M):
            left = _choose(panel, along, m, entries, bias, zero, zero, picks, dots)
            projection = simd.add(projection, left)
            for i in range(2 * m * LANES, 2 * (m + 1) * LANES, LANES):
                projection = simd.fma(simd.load_f32x16(along, i), simd.load_f32x16(panel, i), projection)
        for _ in range(rounds):
            for m in range(M):
                rest = simd.add(projection, simd.load_f32x16(dots, m * LANES))
                projection = _choose(panel, along, m, entries, bias, weight, rest, picks, dots)
        store_codes(picks, M, lanes, first, count, codes)
