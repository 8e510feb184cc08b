"""Transposition of small blocks of floats in registers, instead of one number after another."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from annvq.kernels.compile.jit import intrinsic, kernel
from annvq.kernels.registers.simd import F32x16, _pointer

LANES = 16
_HALVES = [place + half for place in range(8) for half in (0, 16)]  # lanes 0 to 7 of two vectors, in turn
_LOW = ir.Constant(ir.VectorType(ir.IntType(32), 16), _HALVES)
_HIGH = ir.Constant(ir.VectorType(ir.IntType(32), 16), [lane + 8 for lane in _HALVES])


@intrinsic
def transpose16(typingctx, source, at, stride, out, place, out_stride):
    """Write 16 x 16 floats, transposed: ``out[place + j * out_stride + i]`` is ``source[at + i * stride + j]``.

    Both arrays are flat or C-contiguous float32.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def pointer(array: int, first: int, step: int, i: int) -> Any:
            where = builder.add(args[first], builder.mul(args[step], ir.Constant(args[step].type, i)))
            return _pointer(context, builder, sig.args[array], args[array], where, F32x16.llvm)

        rows = []
        for i in range(LANES):
            rows.append(builder.load(pointer(0, 1, 2, i)))
            rows[-1].align = 4
        for _ in range(4):  # rows i and i + 8 are interleaved, which moves one bit of a place to the other side
            pairs = [(rows[i], rows[i + 8]) for i in range(8)]
            rows = [builder.shuffle_vector(a, b, part) for a, b in pairs for part in (_LOW, _HIGH)]
        for j, row in enumerate(rows):
            builder.store(row, pointer(3, 4, 5, j)).align = 4
        return context.get_dummy_value()

    i = types.intp
    return types.void(source, i, i, out, i, i), codegen


@kernel
def fill_lanes(vectors, first, count, panel):
    """Transpose ``vectors[first:first + count]``, (n, d) float32, into lanes: ``panel[i * 16 + lane]`` for dimension i.

    Lanes from ``count`` <= 16 on are set to zero.
    """
    d = vectors.shape[1]
    whole = d - d % LANES if count == LANES else 0
    for i in range(0, whole, LANES):
        transpose16(vectors, first * d + i, d, panel, i * LANES, LANES)
    for i in range(whole, d):
        for lane in range(count):
            panel[i * LANES + lane] = vectors[first + lane, i]
        for lane in range(count, LANES):
            panel[i * LANES + lane] = 0.0
