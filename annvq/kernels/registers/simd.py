"""Vector values inside Numba kernels.

A `Vector` is a Numba type that is represented by a single LLVM vector, so that kernels written in ordinary Numba code
can hold 512-bit values in registers. Most operations are plain LLVM vector instructions, which LLVM splits or widens to
fit the CPU. Only the table look-ups and the 8-bit dot products name instructions of one target, which is chosen by
`annvq.kernels.compile.isa.ACTIVE`.

Sums of floats are made in a fixed order: dimension i is added in lane i mod 16, every pair of vectors has one
accumulator, and at the end `hsum` adds up the lanes in a tree of halves. Results therefore do not depend on the
instruction set.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import models, register_model
from numba.np.arrayobj import make_array

from annvq.kernels.compile.isa import ACTIVE
from annvq.kernels.compile.jit import intrinsic

_I1, _I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
_F16, _F32 = ir.HalfType(), ir.FloatType()


class Vector(types.Type):
    """Numba type of an LLVM vector of ``lanes`` elements."""

    def __init__(self, name: str, element: ir.Type, lanes: int) -> None:
        self.llvm = ir.VectorType(element, lanes)
        self.lanes = lanes
        super().__init__(name=name)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        super().__init__(dmm, fe_type, fe_type.llvm)


U8x32 = Vector("U8x32", _I8, 32)
U8x64 = Vector("U8x64", _I8, 64)
I32x16 = Vector("I32x16", _I32, 16)
I16x32 = Vector("I16x32", _I16, 32)
I64x16 = Vector("I64x16", _I64, 16)
F32x16 = Vector("F32x16", _F32, 16)


def _const(vector: Vector | ir.VectorType, values: Any) -> ir.Constant:
    llvm = vector.llvm if isinstance(vector, Vector) else vector
    return ir.Constant(llvm, list(values))


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any, llvm: ir.Type) -> Any:
    data = make_array(array_type)(context, builder, value=array).data
    return builder.bitcast(builder.gep(data, [index]), llvm.as_pointer())


def _splat(builder: Any, value: Any, llvm: ir.VectorType) -> Any:
    one = builder.insert_element(ir.Constant(llvm, ir.Undefined), value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_I32, llvm.count), [0] * llvm.count))


def _call(builder: Any, name: str, result: ir.Type, args: list) -> Any:
    function_type = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), args)


def _load(vector: Vector) -> Any:
    @intrinsic
    def load(typingctx, array, index):
        def codegen(context, builder, sig, args):
            pointer = _pointer(context, builder, sig.args[0], args[0], args[1], vector.llvm)
            value = builder.load(pointer)
            value.align = 1
            return value

        return vector(array, types.intp), codegen

    return load


load_u8x32 = _load(U8x32)  # loads 32 bytes from element `index` of a uint8 array
load_u8x64 = _load(U8x64)  # loads 64 bytes from element `index` of a uint8 array
load_f32x16 = _load(F32x16)  # loads 16 floats from element `index` of a float32 array
load_i32x16 = _load(I32x16)  # loads 16 integers from element `index` of an int32 or uint32 array


def _store(vector: Vector) -> Any:
    @intrinsic
    def store(typingctx, array, index, value):
        def codegen(context, builder, sig, args):
            pointer = _pointer(context, builder, sig.args[0], args[0], args[1], vector.llvm)
            builder.store(args[2], pointer).align = 1
            return context.get_dummy_value()

        return types.void(array, types.intp, vector), codegen

    return store


store_u8x64 = _store(U8x64)  # stores 64 bytes at element `index` of a uint8 array
store_f32x16 = _store(F32x16)  # stores 16 floats at element `index` of a float32 array


@intrinsic
def repeat_u8x4(typingctx, array, index):
    """Load 4 bytes from element ``index`` of a uint8 array and repeat them 16 times."""

    def codegen(context, builder, sig, args):
        value = builder.load(_pointer(context, builder, sig.args[0], args[0], args[1], _I32))
        value.align = 1
        return builder.bitcast(_splat(builder, value, I32x16.llvm), U8x64.llvm)

    return U8x64(array, types.intp), codegen


# How 16 stored elements become float32: rows of float16 are passed as uint16, rows of 8-bit scalar codes as uint8.
_ROW_ELEMENTS = {
    types.float32: (_F32, None, "f32"),
    types.uint16: (_F16, "fpext", "f16"),
    types.uint8: (_I8, "uitofp", "i8"),
}


def _decode(context: Any, builder: Any, sig: Any, args: Any, value: Any, convert: str | None) -> Any:
    """Emit the conversion of 16 loaded elements to float32; codes become ``minimum + step * code``."""
    if convert is None:
        return value
    value = getattr(builder, convert)(value, F32x16.llvm)
    if convert != "uitofp":
        return value
    operands = []
    for position in (-2, -3):  # step, minimum
        pointer = _pointer(context, builder, sig.args[position], args[position], args[-1], F32x16.llvm)
        operands.append(builder.load(pointer))
        operands[-1].align = 1
    return _call(builder, "llvm.fma.v16f32", F32x16.llvm, [value, *operands])


@intrinsic
def load_row(typingctx, array, index, minimum, step, i):
    """Load 16 stored elements, from element ``index`` on, as float32.

    The array holds float32, float16 (viewed as uint16), or uint8 codes, which are decoded with ``minimum[i:i + 16]``
    and ``step[i:i + 16]``.
    """
    element, convert, _ = _ROW_ELEMENTS[array.dtype]

    def codegen(context, builder, sig, args):
        value = builder.load(_pointer(context, builder, sig.args[0], args[0], args[1], ir.VectorType(element, 16)))
        value.align = 1
        return _decode(context, builder, sig, args, value, convert)

    return F32x16(array, types.intp, minimum, step, types.intp), codegen


@intrinsic
def load_f32_tail(typingctx, array, index, count):
    """Load ``count`` < 16 floats from element ``index`` of a float32 array; the remaining lanes are zero."""

    def codegen(context, builder, sig, args):
        return _masked_load(context, builder, sig.args[0], args, _F32, "f32")

    return F32x16(array, types.intp, types.intp), codegen


def _masked_load(
    context: Any, builder: Any, array_type: Any, args: Any, element: ir.Type, name: str, count: int = 16
) -> Any:
    """Emit the load of fewer than ``count`` elements, ``args[2]``, from element ``args[1]`` of array ``args[0]`` on.

    The remaining lanes are zero, and their elements are not read.
    """
    narrow, lanes = ir.VectorType(element, count), ir.VectorType(_I64, count)
    pointer = _pointer(context, builder, array_type, args[0], args[1], narrow)
    mask = builder.icmp_signed("<", _const(lanes, range(count)), _splat(builder, args[2], lanes))
    function_type = ir.FunctionType(narrow, [pointer.type, _I32, mask.type, narrow])
    full_name = f"llvm.masked.load.v{count}{name}.p0v{count}{name}"
    function = cgutils.get_or_insert_function(builder.module, function_type, full_name)
    return builder.call(function, [pointer, ir.Constant(_I32, 1), mask, ir.Constant(narrow, None)])


@intrinsic
def load_row_tail(typingctx, array, index, count, minimum, step, i):
    """Load ``count`` < 16 elements as `load_row` does.

    The elements of the remaining lanes are not read; these lanes are decoded as code 0.
    """
    element, convert, name = _ROW_ELEMENTS[array.dtype]

    def codegen(context, builder, sig, args):
        value = _masked_load(context, builder, sig.args[0], args, element, name)
        return _decode(context, builder, sig, args, value, convert)

    return F32x16(array, types.intp, types.intp, minimum, step, types.intp), codegen


@intrinsic
def load_f32(typingctx, array, index):
    """Load a float32 number from byte ``index`` of a uint8 array."""

    def codegen(context, builder, sig, args):
        value = builder.load(_pointer(context, builder, sig.args[0], args[0], args[1], _F32))
        value.align = 1
        return value

    return types.float32(array, types.intp), codegen


@intrinsic
def store_f32(typingctx, array, index, value):
    """Store a float32 number at byte ``index`` of a uint8 array."""

    def codegen(context, builder, sig, args):
        builder.store(args[2], _pointer(context, builder, sig.args[0], args[0], args[1], _F32)).align = 1
        return context.get_dummy_value()

    return types.void(array, types.intp, types.float32), codegen


@intrinsic
def load_levels(typingctx, array, index):
    """Load 16 bytes from element ``index`` of a uint8 array as float32."""

    def codegen(context, builder, sig, args):
        value = builder.load(_pointer(context, builder, sig.args[0], args[0], args[1], ir.VectorType(_I8, 16)))
        value.align = 1
        return builder.uitofp(value, F32x16.llvm)

    return F32x16(array, types.intp), codegen


@intrinsic
def load_levels_tail(typingctx, array, index, count):
    """Load ``count`` < 16 bytes from element ``index`` of a uint8 array as float32; the remaining lanes are zero."""

    def codegen(context, builder, sig, args):
        return builder.uitofp(_masked_load(context, builder, sig.args[0], args, _I8, "i8"), F32x16.llvm)

    return F32x16(array, types.intp, types.intp), codegen


@intrinsic
def load_u8x64_tail(typingctx, array, index, count):
    """Load ``count`` < 64 bytes from element ``index`` of a uint8 array; the remaining bytes are zero and not read."""

    def codegen(context, builder, sig, args):
        return _masked_load(context, builder, sig.args[0], args, _I8, "i8", 64)

    return U8x64(array, types.intp, types.intp), codegen


@intrinsic
def first_lanes(typingctx, v, count):
    """Return the first ``count`` of 16 floats; the others are zero."""

    def codegen(context, builder, sig, args):
        lanes = ir.VectorType(_I64, 16)
        mask = builder.icmp_signed("<", _const(lanes, range(16)), _splat(builder, args[1], lanes))
        return builder.select(mask, args[0], ir.Constant(F32x16.llvm, None))

    return F32x16(F32x16, types.intp), codegen


@intrinsic
def zero_f32x16(typingctx):
    """Return zeros in all 16 lanes of float32."""
    return F32x16(), lambda context, builder, sig, args: _const(F32x16, [0.0] * 16)


@intrinsic
def zero_i32x16(typingctx):
    """Return zeros in all 16 lanes of int32."""
    return I32x16(), lambda context, builder, sig, args: _const(I32x16, [0] * 16)


@intrinsic
def zero_i16x32(typingctx):
    """Return zeros in all 32 lanes of int16."""
    return I16x32(), lambda context, builder, sig, args: _const(I16x32, [0] * 32)


@intrinsic
def splat_i32(typingctx, value):
    """Return one int32 in all 16 lanes."""
    return I32x16(types.int32), lambda context, builder, sig, args: _splat(builder, args[0], I32x16.llvm)


@intrinsic
def add_i32(typingctx, a, b):
    """Return a + b, modulo 2^32."""
    return I32x16(I32x16, I32x16), lambda context, builder, sig, args: builder.add(*args)


@intrinsic
def splat_f32(typingctx, value):
    """Return one float in all 16 lanes."""
    return F32x16(types.float32), lambda context, builder, sig, args: _splat(builder, args[0], F32x16.llvm)


@intrinsic
def fma(typingctx, a, b, c):
    """Return a * b + c, rounded once."""

    def codegen(context, builder, sig, args):
        return _call(builder, "llvm.fma.v16f32", F32x16.llvm, list(args))

    return F32x16(F32x16, F32x16, F32x16), codegen


@intrinsic
def sub(typingctx, a, b):
    """Return a - b."""
    return F32x16(F32x16, F32x16), lambda context, builder, sig, args: builder.fsub(*args)


@intrinsic
def add(typingctx, a, b):
    """Return a + b."""
    return F32x16(F32x16, F32x16), lambda context, builder, sig, args: builder.fadd(*args)


@intrinsic
def mul(typingctx, a, b):
    """Return a * b."""
    return F32x16(F32x16, F32x16), lambda context, builder, sig, args: builder.fmul(*args)


@intrinsic
def minimum(typingctx, a, b):
    """Return the smaller value of each lane; b if one of the two is NaN."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered("<", *args), *args)

    return F32x16(F32x16, F32x16), codegen


@intrinsic
def maximum(typingctx, a, b):
    """Return the larger value of each lane; b if one of the two is NaN."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return F32x16(F32x16, F32x16), codegen


def _rounded(name: str) -> Any:
    @intrinsic
    def rounded(typingctx, v):
        def codegen(context, builder, sig, args):
            return _call(builder, f"llvm.{name}.v16f32", F32x16.llvm, [args[0]])

        return F32x16(F32x16), codegen

    return rounded


nearest, floor = _rounded("rint"), _rounded("floor")  # whole numbers; halves go to the even one


def _extreme(relation: str) -> Any:
    @intrinsic
    def extreme(typingctx, v):
        def codegen(context, builder, sig, args):
            value, width = args[0], 16
            while width > 1:
                width //= 2
                index = ir.VectorType(_I32, width)
                low = builder.shuffle_vector(value, value, _const(index, range(width)))
                high = builder.shuffle_vector(value, value, _const(index, range(width, 2 * width)))
                value = builder.select(builder.fcmp_ordered(relation, low, high), low, high)
            return builder.extract_element(value, ir.Constant(_I32, 0))

        return types.float32(F32x16), codegen

    return extreme


hmin, hmax = _extreme("<"), _extreme(">")  # the smallest and the largest of 16 lanes


@intrinsic
def store_levels(typingctx, array, index, v):
    """Truncate 16 floats to bytes, and store these at element ``index`` of a uint8 array.

    The floats are at least 0 and below 256.
    """

    def codegen(context, builder, sig, args):
        narrow = ir.VectorType(_I8, 16)
        levels = builder.trunc(builder.fptosi(args[2], I32x16.llvm), narrow)
        builder.store(levels, _pointer(context, builder, sig.args[0], args[0], args[1], narrow)).align = 1
        return context.get_dummy_value()

    return types.void(array, types.intp, F32x16), codegen


@intrinsic
def store_signed(typingctx, array, index, v):
    """Store 16 whole floats from -128 to 127 as signed bytes at element ``index`` of a uint8 array."""

    def codegen(context, builder, sig, args):
        narrow = ir.VectorType(_I8, 16)
        levels = builder.trunc(builder.fptosi(args[2], I32x16.llvm), narrow)
        builder.store(levels, _pointer(context, builder, sig.args[0], args[0], args[1], narrow)).align = 1
        return context.get_dummy_value()

    return types.void(array, types.intp, F32x16), codegen


@intrinsic
def hsum(typingctx, v):
    """Return the sum of 16 lanes, added by halves: lane i with lane i + 8, then with i + 4, i + 2 and i + 1."""

    def codegen(context, builder, sig, args):
        value = args[0]
        width = 16
        while width > 1:
            width //= 2
            index = ir.VectorType(_I32, width)
            low = builder.shuffle_vector(value, value, _const(index, range(width)))
            high = builder.shuffle_vector(value, value, _const(index, range(width, 2 * width)))
            value = builder.fadd(low, high)
        return builder.extract_element(value, ir.Constant(_I32, 0))

    return types.float32(F32x16), codegen


@intrinsic
def to_f32(typingctx, v):
    """Convert 16 lanes of int32 to float32 (exact for magnitudes below 2^24)."""
    return F32x16(I32x16), lambda context, builder, sig, args: builder.sitofp(args[0], F32x16.llvm)


@intrinsic
def ge_mask(typingctx, v, threshold):
    """Return a mask of 16 bits for the lanes that are >= ``threshold``, which lanes with NaN are not."""

    def codegen(context, builder, sig, args):
        hits = builder.fcmp_ordered(">=", args[0], _splat(builder, args[1], F32x16.llvm))
        return builder.zext(builder.bitcast(hits, _I16), _I32)

    return types.uint32(F32x16, types.float32), codegen


@intrinsic
def nonzero_mask(typingctx, v):
    """Return a mask of 32 bits for the bytes that are not zero."""

    def codegen(context, builder, sig, args):
        return builder.bitcast(builder.icmp_unsigned("!=", args[0], ir.Constant(U8x32.llvm, None)), _I32)

    return types.uint32(U8x32), codegen


@intrinsic
def trailing_zeros(typingctx, mask):
    """Return the index of the lowest set bit of a uint32 that is not zero."""

    def codegen(context, builder, sig, args):
        return builder.zext(builder.cttz(args[0], ir.Constant(_I1, 1)), _I64)

    return types.int64(types.uint32), codegen


@intrinsic
def ones(typingctx, mask):
    """Return how many bits of a uint32 are set."""
    return types.int64(types.uint32), lambda context, builder, sig, args: builder.zext(builder.ctpop(args[0]), _I64)


@intrinsic
def places_from(typingctx, first):
    """Return the int64 numbers ``first``, ``first + 1``, ... ``first + 15``."""

    def codegen(context, builder, sig, args):
        return builder.add(_splat(builder, args[0], I64x16.llvm), _const(I64x16, range(16)))

    return I64x16(types.int64), codegen


@intrinsic
def places_at(typingctx, mapping, index, first):
    """Return ``first`` plus each of 16 numbers from element ``index`` of a uint32 array, as int64."""

    def codegen(context, builder, sig, args):
        value = builder.load(_pointer(context, builder, sig.args[0], args[0], args[1], ir.VectorType(_I32, 16)))
        value.align = 4
        return builder.add(builder.zext(value, I64x16.llvm), _splat(builder, args[2], I64x16.llvm))

    return I64x16(mapping, types.intp, types.int64), codegen


load_i64x16 = _load(I64x16)  # loads 16 integers from element `index` of an int64 array


@intrinsic
def pack_f32(typingctx, array, index, v, mask):
    """Store the lanes of 16 floats that ``mask`` names, one after the other, at element ``index`` (AVX-512 only).

    The 16 elements from there on are overwritten. ``array`` is float32.
    """

    def codegen(context, builder, sig, args):
        bits = builder.bitcast(builder.trunc(args[3], _I16), ir.VectorType(_I1, 16))
        packed = _call(builder, "llvm.x86.avx512.mask.compress.v16f32", F32x16.llvm, [args[2], args[2], bits])
        builder.store(packed, _pointer(context, builder, sig.args[0], args[0], args[1], F32x16.llvm)).align = 1
        return context.get_dummy_value()

    return types.void(array, types.intp, F32x16, types.uint32), codegen


@intrinsic
def pack_i64(typingctx, array, index, v, mask):
    """Do what `pack_f32` does for 16 int64 numbers (AVX-512 only)."""

    def codegen(context, builder, sig, args):
        half = ir.VectorType(_I64, 8)
        where = args[1]
        for first in (0, 8):
            lanes = builder.shuffle_vector(args[2], args[2], _const(ir.VectorType(_I32, 8), range(first, first + 8)))
            byte = builder.trunc(builder.lshr(args[3], ir.Constant(_I32, first)), _I8)
            bits = builder.bitcast(byte, ir.VectorType(_I1, 8))
            packed = _call(builder, "llvm.x86.avx512.mask.compress.v8i64", half, [lanes, lanes, bits])
            builder.store(packed, _pointer(context, builder, sig.args[0], args[0], where, half)).align = 8
            where = builder.add(where, builder.zext(builder.ctpop(byte), _I64))
        return context.get_dummy_value()

    return types.void(array, types.intp, I64x16, types.uint32), codegen


@intrinsic
def prefetch(typingctx, array, index):
    """Ask the CPU to fetch the cache line that holds element ``index`` of ``array``."""

    def codegen(context, builder, sig, args):
        pointer = _pointer(context, builder, sig.args[0], args[0], args[1], _I8)
        function_type = ir.FunctionType(ir.VoidType(), [pointer.type, _I32, _I32, _I32])
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0i8")
        builder.call(function, [pointer, *(ir.Constant(_I32, value) for value in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


# ---------------------------------------------------------------------------------------------
# 8-bit dot products of unsigned and signed bytes: four neighbouring products are added into each 32-bit lane.


def dpbusd(builder: Any, accumulator: Any, unsigned: Any, signed: Any) -> Any:
    """Emit the dot product of bytes of AVX-512 VNNI, which adds four neighbouring products into each of 16 lanes."""
    # It is declared over 32-bit words, as in LLVM up to version 21; newer versions upgrade the call by themselves.
    words = [builder.bitcast(operand, I32x16.llvm) for operand in (unsigned, signed)]
    return _call(builder, "llvm.x86.avx512.vpdpbusd.512", I32x16.llvm, [accumulator, *words])


def _dot4_generic(builder: Any, accumulator: Any, unsigned: Any, signed: Any) -> Any:
    wide = ir.VectorType(_I16, 64)  # |product| <= 255 * 128 fits 16 bits
    products = builder.mul(builder.zext(unsigned, wide), builder.sext(signed, wide))
    total = accumulator
    for j in range(4):
        part = builder.shuffle_vector(products, products, _const(ir.VectorType(_I32, 16), range(j, 64, 4)))
        total = builder.add(total, builder.sext(part, I32x16.llvm))
    return total


@intrinsic
def dot4_u8i8(typingctx, accumulator, unsigned, signed):
    """Add to lane i the products of bytes 4 i .. 4 i + 3 of a vector of unsigned and a vector of signed bytes."""

    def codegen(context, builder, sig, args):
        if ACTIVE == "avx512":
            return dpbusd(builder, *args)
        if ACTIVE != "avx2":
            return _dot4_generic(builder, *args)
        accumulator, unsigned, signed = args
        seven = _const(U8x64, [127] * 64)
        low = _dot4_avx2(builder, builder.and_(unsigned, seven), signed, 1)
        top = _dot4_avx2(builder, builder.lshr(unsigned, _const(U8x64, [7] * 64)), signed, 128)
        return builder.add(accumulator, builder.add(low, top))

    return I32x16(I32x16, U8x64, U8x64), codegen


def _dot4_avx2(builder: Any, unsigned: Any, signed: Any, factor: int) -> Any:
    """Emit ``factor`` times the dot products of bytes of at most 127 with signed bytes, four in each of 16 lanes.

    Sums of two products fit 16 bits, as AVX2's multiplication of bytes demands.
    """
    halves = []
    for half in (range(32), range(32, 64)):
        lanes = ir.Constant(ir.VectorType(_I32, 32), list(half))
        parts = [builder.shuffle_vector(operand, operand, lanes) for operand in (unsigned, signed)]
        pairs = _call(builder, "llvm.x86.avx2.pmadd.ub.sw", ir.VectorType(_I16, 16), parts)
        factors = ir.Constant(ir.VectorType(_I16, 16), [factor] * 16)
        halves.append(_call(builder, "llvm.x86.avx2.pmadd.wd", ir.VectorType(_I32, 8), [pairs, factors]))
    return builder.shuffle_vector(*halves, _const(ir.VectorType(_I32, 16), range(16)))


@intrinsic
def dot4_u7i8(typingctx, accumulator, unsigned, signed):
    """Do what `dot4_u8i8` does, for unsigned bytes of at most 127, which takes AVX2 half the instructions."""

    def codegen(context, builder, sig, args):
        if ACTIVE == "avx512":
            return dpbusd(builder, *args)
        if ACTIVE != "avx2":
            return _dot4_generic(builder, *args)
        accumulator, unsigned, signed = args
        return builder.add(accumulator, _dot4_avx2(builder, unsigned, signed, 1))

    return I32x16(I32x16, U8x64, U8x64), codegen


@intrinsic
def hsum_i32(typingctx, v):
    """Return the sum of 16 int32 lanes as int64."""

    def codegen(context, builder, sig, args):
        return _call(builder, "llvm.vector.reduce.add.v16i64", _I64, [builder.sext(args[0], I64x16.llvm)])

    return types.int64(I32x16), codegen


def _folded(builder: Any, x: Any, y: Any) -> Any:
    """Emit the sums of neighbouring lanes: of every four lanes, two sums of x, and then two of y."""
    quarters = range(0, 16, 4)
    first = [lane + quarter for quarter in quarters for lane in (0, 2, 16, 18)]
    index = ir.VectorType(_I32, 16)
    picked = [builder.shuffle_vector(x, y, _const(index, [lane + odd for lane in first])) for odd in (0, 1)]
    return builder.add(*picked)


@intrinsic
def store_sums4(typingctx, array, index, a, b, c, e):
    """Store the sums of the 16 lanes of each of four vectors, modulo 2^32, at element ``index`` of an int32 array."""

    def codegen(context, builder, sig, args):
        total = _folded(builder, _folded(builder, args[2], args[3]), _folded(builder, args[4], args[5]))
        for width in (8, 4):
            half = ir.VectorType(_I32, width)
            low = builder.shuffle_vector(total, total, _const(half, range(width)))
            high = builder.shuffle_vector(total, total, _const(half, range(width, 2 * width)))
            total = builder.add(low, high)
        builder.store(total, _pointer(context, builder, sig.args[0], args[0], args[1], total.type)).align = 4
        return context.get_dummy_value()

    return types.void(array, types.intp, I32x16, I32x16, I32x16, I32x16), codegen
