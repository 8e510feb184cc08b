"""Candidates that are each one integer, so that comparing two of them is comparing integers.

An entry is made of the rank of a score in its upper half, and of the vertex and a mark in its lower half:
``rank << 32 | vertex << 1 | mark``. The better a score, the lower its rank. Entries in ascending order are therefore
ordered by descending score, and by vertex where scores are equal.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types

from annvq.kernels.compile.jit import intrinsic
from annvq.kernels.registers.simd import Vector, _load, _splat, _store

_I32, _I64, _F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()

I64x8 = Vector("I64x8", _I64, 8)
load_i64x8 = _load(I64x8)  # loads 8 integers from element `index` of an int64 array
store_i64x8 = _store(I64x8)  # stores 8 integers at element `index` of an int64 array


def _flipped(builder, bits):
    """Emit the change that makes the bits of floats order as integers; it undoes itself."""
    sign = builder.ashr(bits, ir.Constant(_I32, 31))
    return builder.xor(bits, builder.lshr(sign, ir.Constant(_I32, 1)))


@intrinsic
def rank_of(typingctx, score):
    """Return the rank of a float32 score that is not NaN: an int64 within 32 bits, lower for better scores."""

    def codegen(context, builder, sig, args):
        bits = builder.bitcast(builder.fsub(ir.Constant(_F32, -0.0), args[0]), _I32)
        return builder.sext(_flipped(builder, bits), _I64)

    return types.int64(types.float32), codegen


@intrinsic
def score_of(typingctx, rank):
    """Return the float32 score that `rank_of` made this rank of."""

    def codegen(context, builder, sig, args):
        bits = _flipped(builder, builder.trunc(args[0], _I32))
        return builder.fsub(ir.Constant(_F32, -0.0), builder.bitcast(bits, _F32))

    return types.float32(types.int64), codegen


@intrinsic
def median(typingctx, lower, upper, entry):
    """Return, in each of 8 lanes, the middle one of three entries, of which ``lower`` is not above ``upper``."""

    def codegen(context, builder, sig, args):
        lower, upper, entry = args[0], args[1], _splat(builder, args[2], I64x8.llvm)
        least = builder.select(builder.icmp_signed("<", upper, entry), upper, entry)
        return builder.select(builder.icmp_signed(">", lower, least), lower, least)

    return I64x8(I64x8, I64x8, types.int64), codegen


@intrinsic
def count_less(typingctx, entries, entry):
    """Return how many of 8 entries are below another one."""

    def codegen(context, builder, sig, args):
        less = builder.icmp_signed("<", args[0], _splat(builder, args[1], I64x8.llvm))
        return builder.zext(builder.ctpop(builder.bitcast(less, ir.IntType(8))), _I64)

    return types.int64(I64x8, types.int64), codegen
