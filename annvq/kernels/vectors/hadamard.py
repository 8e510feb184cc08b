"""Randomized Hadamard rotation of rows of any dimension.

A row of d floats is padded with zeros to D, the next multiple of 64, and goes through four rounds. Each round negates
the coordinates that its random bit mask selects, and then applies an orthonormal fast Walsh-Hadamard transform to a
window of t coordinates, where t is the largest power of two that is at most D: to the first t in rounds 0 and 2, to the
last t in rounds 1 and 3. If t < D, the round ends with a step of Kac's walk over the two halves of the row,
(x, y) -> (x + y, x - y) / sqrt(2), so that all coordinates mix. The rotation as a whole is orthonormal, takes
O(D log D) operations and needs 4 D random bits. Sources: Ailon and Chazelle, "The fast Johnson-Lindenstrauss transform"
(2009); the padding to a multiple of 64, rather than to a power of two, is that of the FhtKac rotation of the RaBitQ
library.

Every output is made by the same additions in the same order, whichever rows are rotated together, and no
multiplication is fused with an addition, so that results are equal on all instruction sets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from annvq.kernels.compile.jit import intrinsic, kernel
from annvq.kernels.registers import simd

ROUNDS = 4
GRANULE = 64  # rows are padded to a multiple of this many dimensions


def padded_dim(d: int) -> int:
    """Return D, the smallest multiple of 64 that is at least ``d``."""
    return -(-d // GRANULE) * GRANULE


def random_signs(d: int, seed: int) -> np.ndarray:
    """Return the sign masks of a random rotation of ``d`` dimensions, (4, D / 8) uint8, one mask per round.

    Coordinate i is bit i % 8 of byte i // 8 of a mask; it is negated if the bit is set.
    """
    return np.random.default_rng(seed).integers(0, 256, (ROUNDS, padded_dim(d) // 8), dtype=np.uint8)


@intrinsic
def _negate(typingctx, values, signs, index):
    """Negate the lanes of ``values`` that the 16 bits at byte ``index`` of the uint8 array ``signs`` select."""

    def codegen(context, builder, sig, args):
        bits = ir.IntType(16)
        pointer = simd._pointer(context, builder, sig.args[1], args[1], args[2], bits)
        word = builder.load(pointer)
        word.align = 1
        mask = builder.bitcast(word, ir.VectorType(ir.IntType(1), 16))
        return builder.select(mask, builder.fneg(args[0]), args[0])

    return simd.F32x16(simd.F32x16, signs, types.intp), codegen


@intrinsic
def _transform16(typingctx, values):
    """Apply the unnormalized Walsh-Hadamard transform of size 16 within one register."""

    def codegen(context, builder, sig, args):
        value = args[0]
        for stride in (1, 2, 4, 8):
            value = _butterfly(builder, value, stride)
        return value

    return simd.F32x16(simd.F32x16), codegen


def _butterfly(builder: Any, value: Any, stride: int) -> Any:
    """Emit one stage of the transform: lanes (x, y) that are ``stride`` apart become (x + y, x - y)."""
    index = ir.VectorType(ir.IntType(32), 16)
    partner = builder.shuffle_vector(value, value, ir.Constant(index, [lane ^ stride for lane in range(16)]))
    upper = ir.Constant(ir.VectorType(ir.IntType(1), 16), [bool(lane & stride) for lane in range(16)])
    return builder.fadd(partner, builder.select(upper, builder.fneg(value), value))


@intrinsic
def _scale(typingctx, values, factor):
    """Multiply 16 lanes by one float."""

    def codegen(context, builder, sig, args):
        return builder.fmul(args[0], simd._splat(builder, args[1], simd.F32x16.llvm))

    return simd.F32x16(simd.F32x16, types.float32), codegen


@kernel
def _walsh_hadamard(row, start, length, scale):
    """Apply the Walsh-Hadamard transform to ``row[start:start + length]`` in place, and multiply it by ``scale``.

    ``length`` is a power of two and at least 64.
    """
    for i in range(start, start + length, 16):
        simd.store_f32x16(row, i, _scale(_transform16(simd.load_f32x16(row, i)), scale))
    half = 16
    while half < length:
        for block in range(start, start + length, 2 * half):
            for i in range(block, block + half, 16):
                upper = simd.load_f32x16(row, i)
                lower = simd.load_f32x16(row, i + half)
                simd.store_f32x16(row, i, simd.add(upper, lower))
                simd.store_f32x16(row, i + half, simd.sub(upper, lower))
        half *= 2


@kernel
def _kac(row, D, scale):
    """Replace the halves (x, y) of ``row`` by ((x + y) * scale, (x - y) * scale) in place."""
    half = D // 2
    for i in range(0, half, 16):
        x = simd.load_f32x16(row, i)
        y = simd.load_f32x16(row, i + half)
        simd.store_f32x16(row, i, _scale(simd.add(x, y), scale))
        simd.store_f32x16(row, i + half, _scale(simd.sub(x, y), scale))


@kernel
def _flip(row, signs, start, D):
    for i in range(0, D, 16):
        simd.store_f32x16(row, i, _negate(simd.load_f32x16(row, i), signs, start + i // 8))


@kernel
def _window(D):
    """Return t, the largest power of two that is at most D, and the scales 1 / sqrt(t) and sqrt(1 / 2) as float32."""
    t = 1
    while 2 * t <= D:
        t *= 2
    return t, np.float32(1.0 / np.sqrt(np.float64(t))), np.float32(np.sqrt(0.5))


@kernel
def rotate_row(row, signs):
    """Rotate ``row``, (D,) float32, in place; ``signs`` is (4, D / 8) uint8, from `random_signs`."""
    D = row.size
    t, scale, kac_scale = _window(D)
    for r in range(4):
        _flip(row, signs, r * (D // 8), D)
        _walsh_hadamard(row, (D - t) * (r % 2), t, scale)
        if t < D:
            _kac(row, D, kac_scale)


@kernel
def unrotate_row(row, signs):
    """Undo `rotate_row` in place."""
    D = row.size
    t, scale, kac_scale = _window(D)
    for r in range(3, -1, -1):
        if t < D:
            _kac(row, D, kac_scale)
        _walsh_hadamard(row, (D - t) * (r % 2), t, scale)
        _flip(row, signs, r * (D // 8), D)


@kernel
def rotate(vectors, signs, rotated):
    """Rotate the rows of ``vectors (n, d)`` into ``rotated (n, D)``; both are float32 and C-contiguous."""
    d = vectors.shape[1]
    for v in range(vectors.shape[0]):
        row = rotated[v]
        for i in range(d):
            row[i] = vectors[v, i]
        for i in range(d, row.size):
            row[i] = np.float32(0.0)
        rotate_row(row, signs)


@kernel
def unrotate(rotated, signs, vectors):
    """Rotate the rows of ``rotated (n, D)`` back into ``vectors (n, d)``, both float32; ``rotated`` is overwritten."""
    for v in range(vectors.shape[0]):
        unrotate_row(rotated[v], signs)
        for i in range(vectors.shape[1]):
            vectors[v, i] = rotated[v, i]
