"""Score-aware codes of 4 bits, as `annvq.kernels.clusters.aware4` finds them."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def scale_to_unit(directions, n, d, units, least, ROWS: tl.constexpr):
    """Scale directions to unit norm.

    Parameters
    ----------
    directions
        (d, n) float32: one in each column.
    units
        Output, (at least d, n) float32.
    least
        Directions whose largest number is not above this count as zero.

    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    ones = tl.zeros([ROWS], tl.float32) + 1.0
    peak = tl.zeros([ROWS], tl.float32)
    for i in range(0, d):
        peak = tl.maximum(tl.abs(tl.load(directions + row + (row * 0 + i) * n, mask=row < n, other=0.0)), peak)
    is_long = peak > least
    inverse = tl.where(is_long, tl.math.div_rn(ones, tl.where(is_long, peak, 1.0)), 0.0)
    square = tl.zeros([ROWS], tl.float32)
    for i in range(0, d):
        x = tl.load(directions + row + (row * 0 + i) * n, mask=row < n, other=0.0) * inverse
        square = tl.math.fma(x, x, square)
    has_length = square > 0.0
    scale = tl.where(has_length, tl.math.div_rn(ones, tl.math.sqrt_rn(tl.where(has_length, square, 1.0))), 0.0)
    for i in range(0, d):
        x = tl.load(directions + row + (row * 0 + i) * n, mask=row < n, other=0.0) * inverse
        tl.store(units + row + (row * 0 + i) * n, x * scale, mask=row < n)


@triton.jit
def _chosen_entry(v, w, g, h, entries, bias, weight, rest):
    """Return, for each row, the entry with the highest score plus ``weight`` (rest - dot)^2, and its dot."""
    best = tl.zeros_like(v) + float("-inf")
    pick = tl.zeros_like(v).to(tl.int32)
    its = tl.zeros_like(v)
    for j in tl.static_range(16):
        a = tl.load(entries + 2 * j) + tl.zeros_like(v)
        b = tl.load(entries + 2 * j + 1) + tl.zeros_like(v)
        dot = tl.math.fma(h, b, g * a)
        score = tl.math.fma(w, b, tl.math.fma(v, a, tl.load(bias + j) + tl.zeros_like(v)))
        beyond = rest - dot
        gain = tl.math.fma(beyond * weight, beyond, score)
        is_better = gain > best
        pick = tl.where(is_better, j, pick)
        its = tl.where(is_better, dot, its)
        best = tl.maximum(gain, best)
    return pick, its


@triton.jit
def encode_aware(
    points, units, n, M, entries, bias, weight, rounds, dots, codes, ROWS: tl.constexpr
):  # fmt: skip
    """Choose the nearest entries, and improve these by coordinate descent.

    Parameters
    ----------
    points, units
        (2 M, n) float32: shifted vectors, one in each column, and the directions along which errors weigh more.
    M, entries, bias
        (M, 16, 2) and (M, 16) float32.
    weight
        Half of 1 - eta.
    rounds
        Number of rounds of coordinate descent.
    dots
        Scratch, (M, n) float32.
    codes
        Output, (M, n) uint8.

    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    held = row < n
    nothing = tl.zeros([ROWS], tl.float32)
    projection = nothing
    for m in range(0, M):
        at = row + (row * 0 + 2 * m) * n
        v = tl.load(points + at, mask=held, other=0.0)
        w = tl.load(points + at + n, mask=held, other=0.0)
        g = tl.load(units + at, mask=held, other=0.0)
        h = tl.load(units + at + n, mask=held, other=0.0)
        pick, dot = _chosen_entry(v, w, g, h, entries + 32 * m, bias + 16 * m, nothing, nothing)
        projection = projection + (nothing - dot)
        projection = tl.math.fma(g, v, projection)
        projection = tl.math.fma(h, w, projection)
        place = row + (row * 0 + m) * n
        tl.store(dots + place, dot, mask=held)
        tl.store(codes + place, pick.to(tl.uint8), mask=held)
    for _ in range(0, rounds):
        tl.debug_barrier()  # other threads of the program may have written what is read here
        for m in range(0, M):
            at = row + (row * 0 + 2 * m) * n
            v = tl.load(points + at, mask=held, other=0.0)
            w = tl.load(points + at + n, mask=held, other=0.0)
            g = tl.load(units + at, mask=held, other=0.0)
            h = tl.load(units + at + n, mask=held, other=0.0)
            place = row + (row * 0 + m) * n
            rest = projection + tl.load(dots + place, mask=held, other=0.0)
            pick, dot = _chosen_entry(v, w, g, h, entries + 32 * m, bias + 16 * m, nothing + weight, rest)
            projection = rest - dot
            tl.store(dots + place, dot, mask=held)
            tl.store(codes + place, pick.to(tl.uint8), mask=held)
