"""Rows of product codes, and sums of them.

Codes are packed as `annvq.kernels.embedding` says; ids (int64) are inside the table. Codebooks (M, ksub, dsub) and rows
are flat and given in units of which a sub-row has few: float32, pairs of them seen as uint64, quads seen as complex128.
To copy one number at a time would cost more than to read the table. `dsub` and `d` count units, too.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types

from annvq.kernels import simd
from annvq.kernels.embedding import SPARE, code_at
from annvq.kernels.jit import intrinsic, kernel

_I8, _I64 = ir.IntType(8), ir.IntType(64)

AT_ONCE = 64  # rows of a bag that are decoded before they are added up
AHEAD = 16  # ids: codes of rows that are asked for from memory


@intrinsic
def _byte(typingctx, packed, index):
    """Return byte ``index`` of all of ``packed`` as an integer; indices are not tried for being below zero."""

    def codegen(context, builder, sig, args):
        pointer = simd._pointer(context, builder, sig.args[0], args[0], args[1], _I8)
        return builder.zext(builder.load(pointer), _I64)

    return types.intp(packed, types.intp), codegen


@intrinsic
def _copy_unit(typingctx, codebooks, source, out, target):
    """Copy element ``source`` of ``codebooks`` to element ``target`` of ``out``."""

    def codegen(context, builder, sig, args):
        llvm = ir.IntType(8 * context.get_abi_sizeof(context.get_data_type(sig.args[0].dtype)))
        value = builder.load(simd._pointer(context, builder, sig.args[0], args[0], args[1], llvm))
        value.align = 4
        builder.store(value, simd._pointer(context, builder, sig.args[2], args[2], args[3], llvm)).align = 4
        return context.get_dummy_value()

    return types.void(codebooks, types.intp, out, types.intp), codegen


@kernel
def _copy(codebooks, source, dsub, out, target):
    for j in range(dsub):
        _copy_unit(codebooks, source + j, out, target + j)


@kernel
def _product_row(packed, row, bits, codebooks, M, ksub, dsub, out, target):
    """Write one row, M * dsub units, from ``out[target]`` on."""
    first, step = row * packed.shape[1], ksub * dsub
    if bits == 8:
        for m in range(M):
            _copy(codebooks, m * step + _byte(packed, first + m) * dsub, dsub, out, target + m * dsub)
    elif bits == 4:
        for m in range(0, M - 1, 2):
            both = _byte(packed, first + (m >> 1))
            _copy(codebooks, m * step + (both & 15) * dsub, dsub, out, target + m * dsub)
            _copy(codebooks, (m + 1) * step + (both >> 4) * dsub, dsub, out, target + (m + 1) * dsub)
        if M & 1:
            m = M - 1
            _copy(codebooks, m * step + (_byte(packed, first + (m >> 1)) & 15) * dsub, dsub, out, target + m * dsub)
    else:
        for m in range(M):
            _copy(codebooks, m * step + code_at(packed, row, m, bits) * dsub, dsub, out, target + m * dsub)


@kernel
def product_rows(packed, bits, codebooks, M, ksub, dsub, d, ids, out):
    """Fill ``out (m * d + dsub,)`` with the centroids that the codes of rows name; M * dsub >= d.

    Rows are written one after the other: what goes beyond a row's end is overwritten by the next.
    """
    for i in range(ids.size):
        if i + AHEAD < ids.size:
            simd.prefetch(packed, ids[i + AHEAD] * packed.shape[1])
        # constants in the hope of no loop: most sub-rows are one unit long
        if dsub == 1:
            _product_row(packed, ids[i], bits, codebooks, M, ksub, 1, out, i * d)
        else:
            _product_row(packed, ids[i], bits, codebooks, M, ksub, dsub, out, i * d)


@kernel
def product_sums(packed, bits, codebooks, M, ksub, dsub, d, ids, offsets, weights, units, rows, out):
    """Fill ``out (b * width + SPARE,)`` with sums of rows: those of bag k are ``ids[offsets[k]:offsets[k + 1]]``.

    Parameters
    ----------
    packed, bits, codebooks, M, ksub, dsub, d, ids
        As of `product_rows`.
    offsets, weights
        (b + 1,) int64; (m,) float32, or of length 0 for ones.
    units, rows
        Scratch for `AT_ONCE` rows and SPARE floats, in units and the same memory as float32.
    out
        Flat, float32, ``width`` numbers a bag.

    """
    bags = offsets.size - 1
    width = (out.size - SPARE) // max(bags, 1)
    for bag in range(bags):
        target = bag * width
        for j in range(0, width, 16):
            simd.store_f32x16(out, target + j, simd.zero_f32x16())
        for first in range(offsets[bag], offsets[bag + 1], AT_ONCE):
            last = min(first + AT_ONCE, offsets[bag + 1])
            product_rows(packed, bits, codebooks, M, ksub, dsub, d, ids[first:last], units)
            for j in range(0, width, 16):
                total = simd.load_f32x16(out, target + j)
                for i in range(first, last):
                    weight = simd.splat_f32(weights[i] if weights.size else np.float32(1.0))
                    total = simd.fma(weight, simd.load_f32x16(rows, (i - first) * width + j), total)
                simd.store_f32x16(out, target + j, total)
