"""Tiles of products of rows with columns, both in bytes.

Four rows at a time are multiplied with 64 columns of a `ByteMatrix`, whose panels are so read once for four rows. One
instruction multiplies 64 bytes, so that this takes a quarter of the time of float tiles. Sums are exact integers.
"""

from __future__ import annotations

import numpy as np

from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import empty
from annvq.kernels.registers import simd
from annvq.kernels.vectors import bytematrix

ROWS = 4
COLUMNS = 64


@kernel
def _store(total, offsets, steps, adds, column, step, out, place):
    unit = simd.mul(simd.load_f32x16(steps, column), simd.splat_f32(step))
    whole = simd.to_f32(simd.add_i32(total, simd.load_i32x16(offsets, column)))
    simd.store_f32x16(out, place, simd.fma(whole, unit, simd.load_f32x16(adds, column)))


@kernel
def fill_tile(levels, steps, row, matrix, column, groups, out, place, stride):
    """Write the products of 4 rows with 64 columns, plus what is added to the columns', to ``out``, flat float32.

    Parameters
    ----------
    levels, steps
        (n, 4 * groups) uint8 and (n,) float32: rows as `annvq.kernels.vectors.bytematrix.to_levels` writes them.
    row, column
        The first row and the first column, a multiple of 64; the matrix has 64 columns from there.
    matrix
        A `ByteMatrix`.
    groups
        The number of groups of four dimensions in it.
    place, stride
        Where in ``out`` the first product goes, and how far the next row's is from there.

    """
    panels, offsets, units, adds = matrix
    size = groups * 64
    p = column // 16 * size
    q, r, s = p + size, p + 2 * size, p + 3 * size
    zero = simd.zero_i32x16()
    a0, a1, a2, a3 = zero, zero, zero, zero
    b0, b1, b2, b3 = zero, zero, zero, zero
    c0, c1, c2, c3 = zero, zero, zero, zero
    e0, e1, e2, e3 = zero, zero, zero, zero
    width = levels.shape[1]
    at = row * width
    for g in range(groups):
        w = simd.load_u8x64(panels, p + 64 * g)
        x = simd.load_u8x64(panels, q + 64 * g)
        y = simd.load_u8x64(panels, r + 64 * g)
        z = simd.load_u8x64(panels, s + 64 * g)
        u = simd.repeat_u8x4(levels, at + 4 * g)
        a0, a1 = simd.dot4_u8i8(a0, u, w), simd.dot4_u8i8(a1, u, x)
        a2, a3 = simd.dot4_u8i8(a2, u, y), simd.dot4_u8i8(a3, u, z)
        u = simd.repeat_u8x4(levels, at + width + 4 * g)
        b0, b1 = simd.dot4_u8i8(b0, u, w), simd.dot4_u8i8(b1, u, x)
        b2, b3 = simd.dot4_u8i8(b2, u, y), simd.dot4_u8i8(b3, u, z)
        u = simd.repeat_u8x4(levels, at + 2 * width + 4 * g)
        c0, c1 = simd.dot4_u8i8(c0, u, w), simd.dot4_u8i8(c1, u, x)
        c2, c3 = simd.dot4_u8i8(c2, u, y), simd.dot4_u8i8(c3, u, z)
        u = simd.repeat_u8x4(levels, at + 3 * width + 4 * g)
        e0, e1 = simd.dot4_u8i8(e0, u, w), simd.dot4_u8i8(e1, u, x)
        e2, e3 = simd.dot4_u8i8(e2, u, y), simd.dot4_u8i8(e3, u, z)
    _store(a0, offsets, units, adds, column, steps[row], out, place)
    _store(a1, offsets, units, adds, column + 16, steps[row], out, place + 16)
    _store(a2, offsets, units, adds, column + 32, steps[row], out, place + 32)
    _store(a3, offsets, units, adds, column + 48, steps[row], out, place + 48)
    _store(b0, offsets, units, adds, column, steps[row + 1], out, place + stride)
    _store(b1, offsets, units, adds, column + 16, steps[row + 1], out, place + stride + 16)
    _store(b2, offsets, units, adds, column + 32, steps[row + 1], out, place + stride + 32)
    _store(b3, offsets, units, adds, column + 48, steps[row + 1], out, place + stride + 48)
    _store(c0, offsets, units, adds, column, steps[row + 2], out, place + 2 * stride)
    _store(c1, offsets, units, adds, column + 16, steps[row + 2], out, place + 2 * stride + 16)
    _store(c2, offsets, units, adds, column + 32, steps[row + 2], out, place + 2 * stride + 32)
    _store(c3, offsets, units, adds, column + 48, steps[row + 2], out, place + 2 * stride + 48)
    _store(e0, offsets, units, adds, column, steps[row + 3], out, place + 3 * stride)
    _store(e1, offsets, units, adds, column + 16, steps[row + 3], out, place + 3 * stride + 16)
    _store(e2, offsets, units, adds, column + 32, steps[row + 3], out, place + 3 * stride + 32)
    _store(e3, offsets, units, adds, column + 48, steps[row + 3], out, place + 3 * stride + 48)


@kernel
def fill_many_products(vectors, shift, matrix, out):
    """Do what `annvq.kernels.vectors.bytematrix.fill_products_of` does, with the factor 1, for many vectors.

    The matrix has columns for a multiple of 64; ``out`` may have fewer. Results are the same to the bit.
    """
    n, d = vectors.shape
    width = matrix.offsets.size
    places, groups = (d + 15) // 16 * 16, (d + 7) // 8 * 2
    moved = empty(places, np.float32)
    levels, steps = empty((ROWS, places), np.uint8), empty(ROWS, np.float32)
    products = empty(ROWS * width, np.float32)
    for first in range(0, n, ROWS):
        for r in range(ROWS):
            row = min(first + r, n - 1)
            for i in range(d):
                moved[i] = vectors[row, i] - shift[i]
            steps[r] = bytematrix.to_levels(moved, d, levels[r])
        for column in range(0, width, COLUMNS):
            fill_tile(levels, steps, 0, matrix, column, groups, products, column, width)
        for r in range(min(ROWS, n - first)):
            for j in range(out.shape[1]):
                out[first + r, j] = products[r * width + j]
