"""Inner products of many rows with many rows, each summed in the order of the dimensions.

The unit of work is a tile: `ROWS` rows that are read element by element, times `LANES` rows that are transposed into a
panel ``(d, LANES)``. Every pair of rows has one accumulator, and one fused multiply-add per dimension. A product is
therefore the same whatever else is computed with it, on every instruction set and for any number of threads, which BLAS
does not promise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from annvq.kernels.compile.isa import ACTIVE
from annvq.kernels.compile.jit import intrinsic
from annvq.kernels.registers.simd import F32x16, I32x16, _call, _pointer, _splat

# ROWS x VECTORS accumulators of 16 floats: 16 registers of 512 bits, 8 of 256 bits or 16 of 128 bits.
ROWS = 4
VECTORS = 4 if ACTIVE == "avx512" else 1
LANES = 16 * VECTORS
WIDE = 8 // VECTORS if ACTIVE == "avx512" else 4  # panels that a single row needs at a time to keep the adders busy


def aligned(size: int, dtype: Any = np.float32) -> np.ndarray:
    """Return an uninitialized flat array whose address is a multiple of 64."""
    itemsize = np.dtype(dtype).itemsize
    memory = np.empty(size * itemsize + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size * itemsize].view(dtype)


def readonly(array: np.ndarray) -> np.ndarray:
    """Return a read-only view of an array, so that kernels are compiled once and not again for writable inputs."""
    view = array.view()
    view.flags.writeable = False
    return view


def _load_lanes(context: Any, builder: Any, panel_type: Any, panel: Any, where: Any) -> Any:
    """Emit the load of 16 floats of a panel, which holds float32 or, as uint16, the upper halves of float32."""
    if panel_type.dtype == types.float32:
        value = builder.load(_pointer(context, builder, panel_type, panel, where, F32x16.llvm))
        value.align = 4
        return value
    halves = ir.VectorType(ir.IntType(16), 16)
    value = builder.load(_pointer(context, builder, panel_type, panel, where, halves))
    value.align = 2
    shift = ir.Constant(I32x16.llvm, [16] * 16)
    return builder.bitcast(builder.shl(builder.zext(value, I32x16.llvm), shift), F32x16.llvm)


def _products(context: Any, builder: Any, count: int, types_of: Any, args: Any, start: list, panels: int = 1) -> list:
    """Emit the loop that computes one tile; return its sums as ``count`` x (panels * VECTORS) vectors of 16 floats."""
    rows, row, stride, panel, at, panel_stride, d = args
    vectors = panels * VECTORS
    sums = [[cgutils.alloca_once_value(builder, value) for _ in range(vectors)] for value in start]
    panel_size = builder.mul(d, panel_stride)
    with cgutils.for_range(builder, d) as loop:
        place = builder.add(at, builder.mul(loop.index, panel_stride))
        lanes = []
        for v in range(vectors):
            begin = builder.add(place, builder.mul(panel_size, ir.Constant(place.type, v // VECTORS)))
            where = builder.add(begin, ir.Constant(place.type, 16 * (v % VECTORS)))
            lanes.append(_load_lanes(context, builder, types_of[3], panel, where))
        for r in range(count):
            where = builder.add(builder.add(row, builder.mul(stride, ir.Constant(row.type, r))), loop.index)
            element = builder.load(_pointer(context, builder, types_of[0], rows, where, ir.FloatType()))
            element = _splat(builder, element, F32x16.llvm)
            for v in range(vectors):
                total = builder.load(sums[r][v])
                fused = _call(builder, "llvm.fma.v16f32", F32x16.llvm, [element, lanes[v], total])
                builder.store(fused, sums[r][v])
    return [[builder.load(total) for total in of_row] for of_row in sums]


def _store_tile(count: int, panels: int = 1) -> Any:
    @intrinsic
    def store(typingctx, rows, row, stride, panel, at, panel_stride, d, out, place, out_stride):
        def codegen(context, builder, sig, args):
            zeros = [ir.Constant(F32x16.llvm, [0.0] * 16)] * count
            sums = _products(context, builder, count, sig.args, args[:7], zeros, panels)
            for r in range(count):
                for v in range(panels * VECTORS):
                    where = builder.add(args[8], builder.mul(args[9], ir.Constant(args[9].type, r)))
                    where = builder.add(where, ir.Constant(where.type, 16 * v))
                    pointer = _pointer(context, builder, sig.args[7], args[7], where, F32x16.llvm)
                    builder.store(sums[r][v], pointer).align = 4
            return context.get_dummy_value()

        i = types.intp
        return types.void(rows, i, i, panel, i, i, i, out, i, i), codegen

    return store


def _best_of_tile(count: int) -> Any:
    @intrinsic
    def best_of(typingctx, rows, row, stride, panel, at, panel_stride, d, bias, first, number, best, winner):
        def codegen(context, builder, sig, args):
            start = []
            for r in range(count):
                where = builder.add(builder.add(args[8], args[9]), ir.Constant(args[8].type, r))
                value = builder.load(_pointer(context, builder, sig.args[7], args[7], where, ir.FloatType()))
                start.append(_splat(builder, value, F32x16.llvm))
            sums = _products(context, builder, count, sig.args, args[:7], start)
            number = builder.trunc(args[9], ir.IntType(32))
            for v in range(VECTORS):
                where = ir.Constant(args[8].type, 16 * v)
                scores_at = _pointer(context, builder, sig.args[10], args[10], where, F32x16.llvm)
                rows_at = _pointer(context, builder, sig.args[11], args[11], where, I32x16.llvm)
                scores, winners = builder.load(scores_at), builder.load(rows_at)
                scores.align = winners.align = 4
                for r in range(count):
                    this = builder.add(number, ir.Constant(number.type, r))
                    better = builder.fcmp_ordered(">", sums[r][v], scores)
                    scores = builder.select(better, sums[r][v], scores)
                    winners = builder.select(better, _splat(builder, this, I32x16.llvm), winners)
                builder.store(scores, scores_at).align = 4
                builder.store(winners, rows_at).align = 4
            return context.get_dummy_value()

        i = types.intp
        return types.void(rows, i, i, panel, i, i, i, bias, i, i, best, winner), codegen

    return best_of


store_tile, store_row, store_wide_row = _store_tile(ROWS), _store_tile(1), _store_tile(1, WIDE)
best_of_tile, best_of_row = _best_of_tile(ROWS), _best_of_tile(1)
