"""RaBitQ codes and factors of rotated residuals, as `annvq.kernels.codes.rabitq.encode` makes them."""

from __future__ import annotations

import triton
import triton.language as tl

from annvq.gpu.kernels.order import _hsum


@triton.jit
def _half_integers(values, factor, highest):
    """Return sign(v) (min(floor(factor |v|), highest) + 1/2) of values (ROWS, any), with factors (ROWS,)."""
    size = tl.minimum(tl.floor(tl.abs(values) * factor[:, None]), highest) + 0.5
    return tl.where(values.to(tl.int32, bitcast=True) < 0, -size, size)  # of -0.0 as well


@triton.jit
def _inner_and_square(rows, D, is_row, factor, highest, ROWS: tl.constexpr):
    """Return <v, u> and |u|^2 of rows v and their half-integers u, both (ROWS,) float64, summed in 16 lanes."""
    lanes = tl.arange(0, 16)
    inner = tl.zeros([ROWS, 16], tl.float32)
    square = tl.zeros([ROWS, 16], tl.float32)
    for i in range(0, D, 16):
        values = tl.load(rows[:, None] + (i + lanes)[None, :], mask=is_row[:, None], other=0.0)
        u = _half_integers(values, factor, highest)
        inner = tl.math.fma(values, u, inner)
        square = tl.math.fma(u, u, square)
    return _hsum(inner, ROWS).to(tl.float64), _hsum(square, ROWS).to(tl.float64)


@triton.jit
def _inner_with_centroids(rows, centroids, D, is_row, factor, highest, ROWS: tl.constexpr):
    """Return <c, v> and <c, u> of the rows' centroids c, both (ROWS,) float64, summed in 16 lanes."""
    lanes = tl.arange(0, 16)
    with_row = tl.zeros([ROWS, 16], tl.float32)
    with_code = tl.zeros([ROWS, 16], tl.float32)
    for i in range(0, D, 16):
        values = tl.load(rows[:, None] + (i + lanes)[None, :], mask=is_row[:, None], other=0.0)
        centroid = tl.load(centroids[:, None] + (i + lanes)[None, :], mask=is_row[:, None], other=0.0)
        with_row = tl.math.fma(centroid, values, with_row)
        with_code = tl.math.fma(centroid, _half_integers(values, factor, highest), with_code)
    return _hsum(with_row, ROWS).to(tl.float64), _hsum(with_code, ROWS).to(tl.float64)


@triton.jit
def encode_rabitq(
    residuals, n, D, centroids, labels, numbers, codes, others, factors, BITS: tl.constexpr, L2: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """Encode rotated residuals.

    Parameters
    ----------
    residuals, n, D
        (n, D) float32, rotated; D is a multiple of 64.
    centroids, labels
        (nlist, D) float32, rotated, and (n,) int64.
    numbers
        (18,) float64: ``EPSILON``, the Gaussian factor for BITS bits, and 16 multiples at which a factor is looked for:
        four of the Gaussian factor, four of the factor that clips nothing, eight of the best of these.
    codes, others
        Outputs, (n, D / 32) and (n, (BITS - 1) D / 32) int32: the first bits, and the other bit planes.
    factors
        Output, (n, 3) float32, or (n, 5) for two or more bits.
    ROWS
        Of a program.

    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    is_row = row < n
    own = residuals + row * D
    lanes = tl.arange(0, 16)
    total = tl.zeros([ROWS, 16], tl.float32)
    largest = tl.zeros([ROWS, 16], tl.float32)
    for i in range(0, D, 16):
        values = tl.load(own[:, None] + (i + lanes)[None, :], mask=is_row[:, None], other=0.0)
        total = tl.math.fma(values, values, total)
        largest = tl.maximum(largest, tl.abs(values))
    square = _hsum(total, ROWS).to(tl.float64)
    is_zero = square == 0.0
    safe = tl.where(is_zero, 1.0, square)
    dims = safe * 0.0 + D
    place = tl.load(labels + row, mask=is_row, other=0)
    nothing = tl.zeros([ROWS], tl.float32)
    centroid = centroids + place * D
    inner, square_u = _inner_and_square(own, D, is_row, nothing, 0.0, ROWS)
    inner = tl.where(is_zero, 1.0, inner)
    with_row, with_code = _inner_with_centroids(own, centroid, D, is_row, nothing, 0.0, ROWS)
    mul = safe / inner
    excess = tl.maximum(mul * mul * square_u - safe, 0.0)
    error = (tl.load(numbers) * tl.sqrt(excess / (dims - 1.0))).to(tl.float32)
    COLUMNS: tl.constexpr = 3 if BITS == 1 else 5
    at = factors + row * COLUMNS
    if L2:
        tl.store(at, tl.where(is_zero, 0.0, -safe - 2.0 * mul * with_code).to(tl.float32), mask=is_row)
        tl.store(at + 1, tl.where(is_zero, 0.0, 2.0 * mul).to(tl.float32), mask=is_row)
        tl.store(at + 2, tl.where(is_zero, 0.0, error * 2.0), mask=is_row)
    else:
        tl.store(at, tl.where(is_zero, 0.0, with_row - mul * with_code).to(tl.float32), mask=is_row)
        tl.store(at + 1, tl.where(is_zero, 0.0, mul).to(tl.float32), mask=is_row)
        tl.store(at + 2, tl.where(is_zero, 0.0, error), mask=is_row)
    chosen = nothing
    if BITS > 1:
        HIGHEST: tl.constexpr = (1 << (BITS - 1)) - 1
        most = tl.max(largest, axis=1).to(tl.float64)
        gaussian = tl.load(numbers + 1) * tl.sqrt(dims) / tl.sqrt(safe)
        unclipped = (HIGHEST + 1.0 + dims * 0.0) / tl.where(is_zero, 1.0, most)
        factor = dims * 0.0
        cosine = dims * 0.0
        center = gaussian
        for trial in range(0, 16):
            center = tl.where(trial == 4, unclipped, center)
            center = tl.where(trial == 8, factor, center)
            candidate = (center * tl.load(numbers + 2 + trial)).to(tl.float32)
            inner, square_u = _inner_and_square(own, D, is_row, candidate, HIGHEST, ROWS)
            root = tl.sqrt(square_u)
            is_better = inner > cosine * root
            factor = tl.where(is_better, candidate.to(tl.float64), factor)
            cosine = tl.where(is_better, inner / root, cosine)
        chosen = factor.to(tl.float32)
        inner, square_u = _inner_and_square(own, D, is_row, chosen, HIGHEST, ROWS)
        with_row, with_code = _inner_with_centroids(own, centroid, D, is_row, chosen, HIGHEST, ROWS)
        mul = safe / tl.where(is_zero, 1.0, inner)
        if L2:
            tl.store(at + 3, tl.where(is_zero, 0.0, -safe - 2.0 * mul * with_code).to(tl.float32), mask=is_row)
            tl.store(at + 4, tl.where(is_zero, 0.0, 2.0 * mul).to(tl.float32), mask=is_row)
        else:
            tl.store(at + 3, tl.where(is_zero, 0.0, with_row - mul * with_code).to(tl.float32), mask=is_row)
            tl.store(at + 4, tl.where(is_zero, 0.0, mul).to(tl.float32), mask=is_row)
    places = tl.arange(0, 32)
    words = D // 32
    for word in range(0, words):
        values = tl.load(own[:, None] + (32 * word + places)[None, :], mask=is_row[:, None], other=0.0)
        if BITS > 1:
            u = _half_integers(values, chosen, (1 << (BITS - 1)) - 1)
        else:
            u = _half_integers(values, chosen, 0.0)
        code = tl.where(is_zero[:, None], 0, (u + 0.5 * ((1 << BITS) - 1)).to(tl.int32))
        for plane in tl.static_range(BITS):
            bits = tl.sum(((code >> (BITS - 1 - plane)) & 1) << places[None, :], axis=1)
            if plane == 0:
                tl.store(codes + row * words + word, bits, mask=is_row)
            else:
                tl.store(others + (row * (BITS - 1) + plane - 1) * words + word, bits, mask=is_row)
