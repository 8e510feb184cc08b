"""Products of a vector with a matrix, both in bytes: what a query goes through before its candidates are rescored.

A float matrix of a few hundred rows and columns does not fit the caches that are nearest to the CPU, and reading it
takes most of the time of a product with a single vector. In bytes it is a quarter of that, and one instruction
multiplies 64 of them. The vector becomes unsigned bytes whose zero is 128, with one step for all of its dimensions;
every column of the matrix becomes signed bytes with a step of its own. Sums of products are exact integers, so that
every instruction set gives the same result.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import local
from annvq.kernels.registers import simd
from annvq.kernels.registers.tiles import aligned, readonly

_LANES = 16
_ZERO = 128  # the byte that stands for zero in a vector
_MOST = 127.0
_GROUP = 4  # dimensions that one instruction sums in a lane
_STEP = 2 * _GROUP  # a matrix has a multiple of so many dimensions
_LEAST = np.float32(1e-30)  # of the largest number of a vector; its reciprocal is finite


class ByteMatrix(NamedTuple):
    """A matrix (d, k) in bytes, and what is added to the products with its columns; all empty if there is none.

    The columns are padded to whole panels of 16, the dimensions with zeros to a multiple of 8.
    """

    panels: np.ndarray  # flat uint8: for every 16 columns, for every 4 dimensions, 4 signed bytes of each column
    offsets: np.ndarray  # (padded k,) int32: -128 times the sum of each column's bytes
    steps: np.ndarray  # (padded k,) float32: what 1 stands for in each column
    adds: np.ndarray  # (padded k,) float32, added to the products


def pack(matrix: np.ndarray, adds: np.ndarray) -> ByteMatrix:
    """Return a matrix (d, k) float32 and what is added to the products with its columns, (k,) float32, in bytes."""
    d, k = matrix.shape
    width = -(-k // _LANES) * _LANES
    whole = np.zeros((-(-d // _STEP) * _STEP, width), np.float32)
    whole[:d, :k] = matrix
    steps = np.maximum(np.abs(whole).max(axis=0, initial=0), _LEAST) / np.float32(_MOST)
    levels = np.rint(whole / steps).astype(np.int8)
    grouped = levels.reshape(-1, _GROUP, width // _LANES, _LANES).transpose(2, 0, 3, 1)
    panels = aligned(grouped.size, np.dtype(np.uint8))
    panels[:] = np.ascontiguousarray(grouped).reshape(-1).view(np.uint8)
    added = np.zeros(width, np.float32)
    added[:k] = adds
    offsets = (-_ZERO * levels.sum(axis=0, dtype=np.int64)).astype(np.int32)
    return ByteMatrix(readonly(panels), readonly(offsets), readonly(steps), readonly(added))


@kernel
def largest(vector, d):
    """Return the largest magnitude of ``vector``, (d,) float32."""
    whole = d - d % 16
    low = high = simd.zero_f32x16()
    for i in range(0, whole, 16):
        values = simd.load_f32x16(vector, i)
        low, high = simd.minimum(values, low), simd.maximum(values, high)
    if whole < d:
        values = simd.load_f32_tail(vector, whole, d - whole)
        low, high = simd.minimum(values, low), simd.maximum(values, high)
    return max(simd.hmax(high), -simd.hmin(low))


@kernel
def to_levels(vector, d, levels):
    """Write ``vector``, (d,) float32, to ``levels``, uint8, as bytes whose zero is 128; return their step.

    ``levels`` has as many places as d, rounded up to a multiple of 16; those beyond d get the byte of zero.
    """
    step = max(largest(vector, d), _LEAST) / np.float32(_MOST)
    scale = simd.splat_f32(np.float32(1.0) / step)
    half = simd.splat_f32(np.float32(128.5))
    whole = d - d % 16
    for i in range(0, whole, 16):
        simd.store_levels(levels, i, simd.fma(simd.load_f32x16(vector, i), scale, half))
    if whole < d:
        simd.store_levels(levels, whole, simd.fma(simd.load_f32_tail(vector, whole, d - whole), scale, half))
    return step


@kernel
def fill_products_of(vectors, shift, matrix, factor, out):
    """Fill ``out`` with the products of vectors, less ``shift``, with the columns of a `ByteMatrix`.

    Each is ``factor`` times the product plus the column's ``adds``. What a vector gets does not depend on the others.

    Parameters
    ----------
    vectors, shift
        (n, d) float32 and (d,) float32.
    matrix
        A `ByteMatrix` (d, k).
    factor
        float32.
    out
        Output, (n, k) float32.

    """
    n, d = vectors.shape
    places = (d + 15) // 16 * 16
    moved, levels = local(places, np.float32), local(places, np.uint8)
    products = local(matrix.offsets.size, np.float32)
    for i in range(n):
        for j in range(d):
            moved[j] = vectors[i, j] - shift[j]
        step = to_levels(moved, d, levels)
        _fill_products(levels, step * factor, d, matrix, products)
        for j in range(out.shape[1]):
            out[i, j] = products[j]


@kernel
def _fill_products(levels, step, d, matrix, out):
    """Fill ``out``, (k padded to a multiple of 16,) float32, for a vector as `to_levels` wrote it."""
    panels, offsets, steps, adds = matrix
    groups = (d + 7) // 8 * 2
    panel = groups * 64
    scale = simd.splat_f32(step)
    width = offsets.size
    for j in range(0, width, 32):
        second = panel if j + 16 < width else np.int64(0)
        other = np.int64(16) if second > 0 else np.int64(0)
        a, b = simd.load_i32x16(offsets, j), simd.load_i32x16(offsets, j + other)
        c, e = simd.zero_i32x16(), simd.zero_i32x16()
        x = (j // 16) * panel
        for g in range(0, groups, 2):
            u, v = simd.repeat_u8x4(levels, 4 * g), simd.repeat_u8x4(levels, 4 * g + 4)
            a = simd.dot4_u8i8(a, u, simd.load_u8x64(panels, x))
            b = simd.dot4_u8i8(b, u, simd.load_u8x64(panels, x + second))
            c = simd.dot4_u8i8(c, v, simd.load_u8x64(panels, x + 64))
            e = simd.dot4_u8i8(e, v, simd.load_u8x64(panels, x + second + 64))
            x += 128
        unit = simd.mul(simd.load_f32x16(steps, j), scale)
        simd.store_f32x16(out, j, simd.fma(simd.to_f32(simd.add_i32(a, c)), unit, simd.load_f32x16(adds, j)))
        if second > 0:
            unit = simd.mul(simd.load_f32x16(steps, j + 16), scale)
            total = simd.to_f32(simd.add_i32(b, e))
            simd.store_f32x16(out, j + 16, simd.fma(total, unit, simd.load_f32x16(adds, j + 16)))
