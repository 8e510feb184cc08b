"""Rows of product and residual codes, and sums of rows.

Codes are packed as `annvq.kernels.embeddings.embedding` describes, and C-contiguous; ids (int64) are within the table.
Codebooks (M, ksub, dsub) and rows are flat float32. Sub-rows are copied 4, 8 or 16 floats at a time, one after the
other: what goes beyond the end of one is overwritten by the next, so that codebooks and rows have
`annvq.kernels.embeddings.embedding.SPARE` floats at the end.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from annvq.kernels.compile.jit import intrinsic, kernel
from annvq.kernels.registers import simd

AT_ONCE = 64  # rows of a bag that are decoded before they are added up
AHEAD = 16  # the codes of the row that is so many ids ahead are fetched from memory in advance

_I8, _I64 = ir.IntType(8), ir.IntType(64)


@intrinsic
def _byte(typingctx, packed, index):
    """Return byte ``index`` of the whole of ``packed`` as an integer, without a check for a negative index."""

    def codegen(context, builder, sig, args):
        pointer = simd._pointer(context, builder, sig.args[0], args[0], args[1], _I8)
        return builder.zext(builder.load(pointer), _I64)

    return types.intp(packed, types.intp), codegen


def _move(context, builder, sig, args, lanes, offset):
    """Emit the copy of ``lanes`` floats, ``offset`` elements after source and target."""
    llvm = ir.VectorType(ir.FloatType(), lanes)
    source, target = (builder.add(args[place], offset) for place in (1, 4))
    value = builder.load(simd._pointer(context, builder, sig.args[0], args[0], source, llvm))
    value.align = 4
    builder.store(value, simd._pointer(context, builder, sig.args[3], args[3], target, llvm)).align = 4


@intrinsic
def _copy(typingctx, codebooks, source, dsub, out, target):
    """Copy ``dsub`` floats and some more, up to the next 4, 8 or multiple of 16.

    This is not a kernel, because LLVM would turn a kernel inside loops into calls.
    """

    def codegen(context, builder, sig, args):
        zero, length = ir.Constant(_I64, 0), args[2]
        with builder.if_else(builder.icmp_signed("<=", length, ir.Constant(_I64, 4))) as (short, longer):
            with short:
                _move(context, builder, sig, args, 4, zero)
            with longer, builder.if_else(builder.icmp_signed("<=", length, ir.Constant(_I64, 8))) as (middle, longest):
                with middle:
                    _move(context, builder, sig, args, 8, zero)
                with longest, cgutils.for_range_slice(builder, zero, length, ir.Constant(_I64, 16)) as (offset, _):
                    _move(context, builder, sig, args, 16, offset)
        return context.get_dummy_value()

    return types.void(codebooks, types.intp, types.intp, out, types.intp), codegen


@kernel
def _code(packed, first, m, bits):
    """Return code m of the row that begins at byte ``first``."""
    if bits == 8:
        return _byte(packed, first + m)
    if bits == 4:
        return (_byte(packed, first + (m >> 1)) >> (4 * (m & 1))) & 15
    bit = m * bits
    byte = bit >> 3
    following = min(byte + 1, packed.shape[1] - 1)  # at the end of a row, no bit of it is used
    word = _byte(packed, first + byte) | (_byte(packed, first + following) << 8)
    return (word >> (bit & 7)) & ((1 << bits) - 1)


@kernel
def _product_row(packed, row, bits, codebooks, M, ksub, dsub, out, target):
    """Write one row to ``out``, from element ``target`` on."""
    first = row * packed.shape[1]
    for m in range(M):
        code = _code(packed, first, m, bits)
        _copy(codebooks, (m * ksub + code) * dsub, dsub, out, target + m * dsub)


@kernel
def product_rows(packed, bits, codebooks, M, ksub, dsub, d, ids, out):
    """Fill ``out (m * d + dsub + SPARE,)`` with rows, each of which joins the centroids that its codes select.

    ``packed`` is (n, row_bytes) uint8, ``ids`` (m,) int64, and (M - 1) * dsub < d <= M * dsub.
    """
    for i in range(ids.size):
        if i + AHEAD < ids.size:
            simd.prefetch(packed, ids[i + AHEAD] * packed.shape[1])
        _product_row(packed, ids[i], bits, codebooks, M, ksub, dsub, out, i * d)


@kernel
def product_sums(packed, bits, codebooks, M, ksub, dsub, d, ids, offsets, weights, rows, out):
    """Fill ``out (b * d + SPARE,)`` with sums of rows; those of bag k are ``ids[offsets[k]:offsets[k + 1]]``.

    Parameters
    ----------
    packed, bits, codebooks, M, ksub, dsub, d, ids
        As in `product_rows`.
    offsets, weights
        (b + 1,) int64, and (m,) float32, or of length 0 if all weights are one.
    rows
        Scratch, (`AT_ONCE` * d + dsub + SPARE,) float32.
    out
        Output, flat, float32.

    """
    for bag in range(offsets.size - 1):
        target = bag * d
        for j in range(0, d, 16):
            simd.store_f32x16(out, target + j, simd.zero_f32x16())
        for first in range(offsets[bag], offsets[bag + 1], AT_ONCE):
            last = min(first + AT_ONCE, offsets[bag + 1])
            product_rows(packed, bits, codebooks, M, ksub, dsub, d, ids[first:last], rows)
            for j in range(0, d, 16):
                total = simd.load_f32x16(out, target + j)
                for i in range(first, last):
                    weight = simd.splat_f32(weights[i] if weights.size else np.float32(1.0))
                    total = simd.fma(weight, simd.load_f32x16(rows, (i - first) * d + j), total)
                simd.store_f32x16(out, target + j, total)


@kernel
def residual_rows(packed, bits, codebooks, M, ksub, d, ids, starts, out):
    """Fill ``out (m * d + SPARE,)`` with sums of the centroids that the codes select, added stage by stage.

    Parameters
    ----------
    packed, bits, codebooks, M, ksub, d, ids
        As in `product_rows`, but codebooks are (M, ksub, d).
    starts
        Scratch, (M,) int64.
    out
        Output, flat, float32.

    """
    for i in range(ids.size):
        if i + AHEAD < ids.size:
            simd.prefetch(packed, ids[i + AHEAD] * packed.shape[1])
        first = ids[i] * packed.shape[1]
        for m in range(M):
            starts[m] = (m * ksub + _code(packed, first, m, bits)) * d
        for j in range(0, d, 16):
            total = simd.zero_f32x16()
            for m in range(M):
                total = simd.add(total, simd.load_f32x16(codebooks, starts[m] + j))
            simd.store_f32x16(out, i * d + j, total)
