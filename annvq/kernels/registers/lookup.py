"""Table look-ups within registers: a nibble (half a byte) selects one of 16 entries, a byte one of 256.

The layouts of codes are those of `annvq.kernels.scan.scan4` and `annvq.kernels.scan.scan8`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from annvq.kernels.compile.isa import ACTIVE
from annvq.kernels.compile.jit import intrinsic
from annvq.kernels.registers.simd import I16x32, I32x16, U8x64, Vector, _call, _const, _load, _pointer, _splat, dpbusd

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))

U8x32 = Vector("U8x32", _I8, 32)
I16x16 = Vector("I16x16", _I16, 16)

load_u8x32 = _load(U8x32)  # loads 32 bytes from element `index` of a uint8 array


def _nibbles(builder: Any, codes: Any, high: bool) -> Any:
    count = codes.type.count
    if high:
        codes = builder.lshr(codes, ir.Constant(codes.type, [4] * count))
    return builder.and_(codes, ir.Constant(codes.type, [15] * count))


def _of_nibbles(vector: Vector, emit: Any, *, high: bool) -> Any:
    @intrinsic
    def look_up(typingctx, codes, tables):
        return vector(vector, vector), lambda context, builder, sig, args: emit(builder, *args, high=high)

    return look_up


# Codes in quads (AVX-512 VBMI and VNNI): one look-up serves four tables, and one instruction adds the four entries.


def _lookup_quads(builder: Any, codes: Any, tables: Any, high: bool) -> Any:
    index = builder.or_(_nibbles(builder, codes, high), _const(U8x64, [0, 16, 32, 48] * 16))
    return _call(builder, "llvm.x86.avx512.permvar.qi.512", U8x64.llvm, [tables, index])


def _sum4(builder: Any, accumulator: Any, codes: Any, tables: Any, high: bool) -> Any:
    return dpbusd(builder, accumulator, _lookup_quads(builder, codes, tables, high), _const(U8x64, [1] * 64))


@intrinsic
def lookup_add_low(typingctx, accumulator, codes, tables):
    """Add to lane v the four table entries that the low nibbles of bytes 4 v .. 4 v + 3 select."""

    def codegen(context, builder, sig, args):
        return _sum4(builder, *args, high=False)

    return I32x16(I32x16, U8x64, U8x64), codegen


@intrinsic
def lookup_add_high(typingctx, accumulator, codes, tables):
    """Add to lane v the four table entries that the high nibbles of bytes 4 v .. 4 v + 3 select."""

    def codegen(context, builder, sig, args):
        return _sum4(builder, *args, high=True)

    return I32x16(I32x16, U8x64, U8x64), codegen


# Codes in lanes (all other instruction sets): a register of 32 bytes holds two tables, another 16 codes for each.


def _lookup16(builder: Any, table: Any, index: Any) -> Any:
    """Emit the look-up of 16 indices (0..15) in a table of 16 bytes."""
    llvm = ir.VectorType(_I8, 16)
    if ACTIVE == "neon":
        return _call(builder, "llvm.aarch64.neon.tbl1.v16i8", llvm, [table, index])
    memory = cgutils.alloca_once(builder, llvm)
    builder.store(table, memory)
    entries = builder.bitcast(memory, _I8.as_pointer())
    result = ir.Constant(llvm, ir.Undefined)
    for lane in range(16):
        where = builder.zext(builder.extract_element(index, ir.Constant(_I32, lane)), _I64)
        result = builder.insert_element(result, builder.load(builder.gep(entries, [where])), ir.Constant(_I32, lane))
    return result


def _part(builder: Any, value: Any, lanes: Any) -> Any:
    lanes = list(lanes)
    return builder.shuffle_vector(value, value, ir.Constant(ir.VectorType(_I32, len(lanes)), lanes))


def _lookup_pair(builder: Any, codes: Any, tables: Any, high: bool) -> Any:
    index = _nibbles(builder, codes, high)
    if ACTIVE in ("avx2", "avx512"):
        return _call(builder, "llvm.x86.avx2.pshuf.b", U8x32.llvm, [tables, index])
    halves = [
        _lookup16(builder, _part(builder, tables, half), _part(builder, index, half))
        for half in (range(16), range(16, 32))
    ]
    return builder.shuffle_vector(*halves, ir.Constant(ir.VectorType(_I32, 32), list(range(32))))


# Codes in bytes 0..15 are looked up in the first of two tables, those in bytes 16..31 in the second.
lookup_low = _of_nibbles(U8x32, _lookup_pair, high=False)
lookup_high = _of_nibbles(U8x32, _lookup_pair, high=True)


@intrinsic
def zero_i16x16(typingctx):
    """Return zeros in all 16 lanes of 16 bits."""
    return I16x16(), lambda context, builder, sig, args: _const(I16x16, [0] * 16)


@intrinsic
def add_pairs(typingctx, accumulator, values):
    """Add byte 2 i, and 256 times byte 2 i + 1, to 16-bit lane i, modulo 2^16."""

    def codegen(context, builder, sig, args):
        return builder.add(args[0], builder.bitcast(args[1], I16x16.llvm))

    return I16x16(I16x16, U8x32), codegen


@intrinsic
def add_second(typingctx, accumulator, values):
    """Add byte 2 i + 1 to 16-bit lane i, modulo 2^16."""

    def codegen(context, builder, sig, args):
        words = builder.bitcast(args[1], I16x16.llvm)
        return builder.add(args[0], builder.lshr(words, _const(I16x16, [8] * 16)))

    return I16x16(I16x16, U8x32), codegen


@intrinsic
def join_pairs(typingctx, pairs, second):
    """Return the sums of the bytes that `add_pairs` and `add_second` added, those of bytes i and i + 16 as one.

    Lane i has the sum of even byte 2 i, and lane i + 8 that of odd byte 2 i + 1. It is correct as long as it is below
    2^16, that is, after at most 128 additions.
    """

    def codegen(context, builder, sig, args):
        pairs, second = args
        even = builder.sub(pairs, builder.shl(second, _const(I16x16, [8] * 16)))
        index = ir.VectorType(_I32, 16)
        halves = [[*range(first, first + 8), *range(first + 16, first + 24)] for first in (0, 8)]
        return builder.add(*(builder.shuffle_vector(even, second, _const(index, half)) for half in halves))

    return I16x16(I16x16, I16x16), codegen


@intrinsic
def in_order(typingctx, sums):
    """Return the sums of 16 bytes, from `join_pairs`, as int32 in the order of the bytes."""

    def codegen(context, builder, sig, args):
        wide = builder.zext(args[0], I32x16.llvm)
        return builder.shuffle_vector(wide, wide, _const(I32x16, [place // 2 + 8 * (place % 2) for place in range(16)]))

    return I32x16(I16x16), codegen


@intrinsic
def any_reaches(typingctx, a, b, least):
    """Return whether any lane of two vectors of integers, unsigned if of 16 bits, is ``least`` or more."""

    def codegen(context, builder, sig, args):
        first, second, least = args
        compare = builder.icmp_unsigned if a == I16x16 else builder.icmp_signed
        larger = builder.select(compare(">", first, second), first, second)
        bound = _splat(builder, builder.trunc(least, larger.type.element), larger.type)
        hits = builder.bitcast(compare(">=", larger, bound), _I16)
        return builder.icmp_unsigned("!=", hits, ir.Constant(_I16, 0))

    return types.boolean(a, b, types.int64), codegen


# Decoding of either layout. The values are in quads: the four values of a vector are adjacent.


def _decode_block(builder: Any, codes: Any, tables: Any, high: bool) -> Any:
    if ACTIVE == "avx512":
        return _lookup_quads(builder, codes, tables, high)
    halves = [
        _lookup_pair(builder, _part(builder, codes, half), _part(builder, tables, half), high)
        for half in (range(32), range(32, 64))
    ]
    order = [16 * (place % 4) + place // 4 for place in range(64)]
    return builder.shuffle_vector(*halves, _const(ir.VectorType(_I32, 64), order))


# The 64 bytes of a group are looked up in its four tables; bytes 4 v .. 4 v + 3 of the result belong to vector v.
decode_low = _of_nibbles(U8x64, _decode_block, high=False)
decode_high = _of_nibbles(U8x64, _decode_block, high=True)


# Look-ups of bytes in tables of 256 entries (AVX-512 VBMI).


@intrinsic
def lookup256(typingctx, codes, table, offset):
    """Look 64 bytes up in the table of 256 uint8 entries that starts at ``table[offset]`` (AVX-512 VBMI only)."""

    def codegen(context, builder, sig, args):
        codes = args[0]
        quarters = []
        for quarter in range(4):
            where = builder.add(args[2], ir.Constant(args[2].type, 64 * quarter))
            pointer = _pointer(context, builder, sig.args[1], args[1], where, U8x64.llvm)
            value = builder.load(pointer)
            value.align = 1
            quarters.append(value)
        name = "llvm.x86.avx512.vpermi2var.qi.512"
        low = _call(builder, name, U8x64.llvm, [quarters[0], codes, quarters[1]])
        high = _call(builder, name, U8x64.llvm, [quarters[2], codes, quarters[3]])
        return builder.select(builder.icmp_signed("<", codes, _const(U8x64, [0] * 64)), high, low)

    return U8x64(U8x64, table, types.intp), codegen


@intrinsic
def join_u8x32(typingctx, array, first, second):
    """Load 32 bytes from element ``first`` and 32 bytes from element ``second`` of a uint8 array as one vector."""

    def codegen(context, builder, sig, args):
        half = ir.VectorType(_I8, 32)
        loaded = []
        for index in args[1:]:
            value = builder.load(_pointer(context, builder, sig.args[0], args[0], index, half))
            value.align = 1
            loaded.append(value)
        return builder.shuffle_vector(*loaded, _const(ir.VectorType(_I32, 64), range(64)))

    return U8x64(array, types.intp, types.intp), codegen


@intrinsic
def add_even_bytes(typingctx, accumulator, values):
    """Add bytes 0, 2, 4, ... as unsigned numbers to 32 lanes of 16 bits."""

    def codegen(context, builder, sig, args):
        words = builder.bitcast(args[1], I16x32.llvm)
        return builder.add(args[0], builder.and_(words, _const(I16x32, [255] * 32)))

    return I16x32(I16x32, U8x64), codegen


@intrinsic
def add_odd_bytes(typingctx, accumulator, values):
    """Add bytes 1, 3, 5, ... as unsigned numbers to 32 lanes of 16 bits."""

    def codegen(context, builder, sig, args):
        words = builder.bitcast(args[1], I16x32.llvm)
        return builder.add(args[0], builder.lshr(words, _const(I16x32, [8] * 32)))

    return I16x32(I16x32, U8x64), codegen


@intrinsic
def add_interleaved(typingctx, sums, index, even, odd):
    """Add 64 unsigned 16-bit sums to ``sums[index:index + 64]`` (int32).

    Lane i of ``even`` belongs to place 2 i, lane i of ``odd`` to place 2 i + 1.
    """

    def codegen(context, builder, sig, args):
        wide = ir.VectorType(_I32, 64)
        order = [place // 2 + 32 * (place % 2) for place in range(64)]
        words = builder.shuffle_vector(args[2], args[3], _const(ir.VectorType(_I32, 64), order))
        pointer = _pointer(context, builder, sig.args[0], args[0], args[1], wide)
        total = builder.load(pointer)
        total.align = 4
        builder.store(builder.add(total, builder.zext(words, wide)), pointer).align = 4
        return context.get_dummy_value()

    return types.void(sums, types.intp, I16x32, I16x32), codegen
