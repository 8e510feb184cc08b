"""Inner products of codes that are stored as bit planes.

The code of a row has B bits in each of D coordinates, where D is a multiple of 64. It is stored as bit planes of D / 8
bytes each: coordinate i is bit i % 8 of byte i // 8. The highest plane is in `codes1 (n, D / 8)`; the others, from high
to low, follow each other in `codes_ex (n, (B - 1) D / 8)`.

`count_differences` takes the highest plane as signs and compares it, by popcounts (counts of set bits), with a query of
4 bits per coordinate; `inner_product` takes all planes and a query of 16 bits per coordinate. Both results are exact
integers, the same on every instruction set. Source of the popcounts: Gao and Long, "RaBitQ" (arXiv 2405.12497), section
3.3.2. The levels of the query are unsigned there; levels that are symmetric around zero, as here, need no popcount of
the code itself.

`count_flips` compares rows of plain bits with a query of one bit per coordinate: the Hamming distance.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from annvq.kernels.compile.jit import intrinsic, kernel
from annvq.kernels.registers import simd

QUERY_BITS = 4  # bit planes of a query; the kernels below are written for four

_WORDS = simd.Vector("U64x8", ir.IntType(64), 8)
_I32, _I64 = ir.IntType(32), ir.IntType(64)


def plane_words(D: int) -> int:
    """Return the number of 64-bit words in one plane of a query: D / 64, rounded up to a multiple of 8."""
    return -(-D // 512) * 8


@intrinsic
def _load_words(typingctx, codes, index, count):
    """Load ``count`` words (8 if it is larger) from byte ``index`` of a uint8 array; the remaining lanes are zero."""

    def codegen(context, builder, sig, args):
        lanes = _WORDS.llvm
        pointer = simd._pointer(context, builder, sig.args[0], args[0], args[1], lanes)
        mask = builder.icmp_signed(">", simd._splat(builder, args[2], lanes), ir.Constant(lanes, list(range(8))))
        function_type = ir.FunctionType(lanes, [pointer.type, _I32, mask.type, lanes])
        name = "llvm.masked.load.v8i64.p0v8i64"
        function = cgutils.get_or_insert_function(builder.module, function_type, name)
        return builder.call(function, [pointer, ir.Constant(_I32, 1), mask, ir.Constant(lanes, None)])

    return _WORDS(codes, types.intp, types.int64), codegen


@intrinsic
def _load_plane(typingctx, planes, index):
    """Load 8 words from element ``index`` of a uint64 array."""

    def codegen(context, builder, sig, args):
        value = builder.load(simd._pointer(context, builder, sig.args[0], args[0], args[1], _WORDS.llvm))
        value.align = 8
        return value

    return _WORDS(planes, types.intp), codegen


@intrinsic
def _count_differences(typingctx, words, plane0, plane1, plane2, plane3):
    """Return in every lane the sum over j of 2^j popcount(words ^ plane j)."""

    def codegen(context, builder, sig, args):
        total = None
        for plane in reversed(args[1:]):
            count = simd._call(builder, "llvm.ctpop.v8i64", _WORDS.llvm, [builder.xor(args[0], plane)])
            total = count if total is None else builder.add(builder.add(total, total), count)
        return total

    return _WORDS(_WORDS, _WORDS, _WORDS, _WORDS, _WORDS), codegen


@intrinsic
def _no_counts(typingctx):
    return _WORDS(), lambda context, builder, sig, args: ir.Constant(_WORDS.llvm, None)


@intrinsic
def _add_flips(typingctx, total, words, plane):
    """Add popcount(words ^ plane) to every lane."""

    def codegen(context, builder, sig, args):
        total, words, plane = args
        return builder.add(total, simd._call(builder, "llvm.ctpop.v8i64", _WORDS.llvm, [builder.xor(words, plane)]))

    return _WORDS(_WORDS, _WORDS, _WORDS), codegen


@intrinsic
def _fold(typingctx, a, b):
    """Add neighbouring lanes: return a0 + a1, a2 + a3, a4 + a5, a6 + a7, b0 + b1, ..."""

    def codegen(context, builder, sig, args):
        index = ir.VectorType(_I32, 8)
        even = builder.shuffle_vector(*args, ir.Constant(index, list(range(0, 16, 2))))
        odd = builder.shuffle_vector(*args, ir.Constant(index, list(range(1, 16, 2))))
        return builder.add(even, odd)

    return _WORDS(_WORDS, _WORDS), codegen


@intrinsic
def _store_counts(typingctx, counts, index, words, accumulate):
    """Write 8 lanes to element ``index`` of an int32 array and following, or add them if ``accumulate``."""

    def codegen(context, builder, sig, args):
        narrow = ir.VectorType(_I32, 8)
        pointer = simd._pointer(context, builder, sig.args[0], args[0], args[1], narrow)
        before = builder.load(pointer)
        before.align = 4
        before = builder.select(args[3], before, ir.Constant(narrow, [0] * 8))
        builder.store(builder.add(before, builder.trunc(args[2], narrow)), pointer).align = 4
        return context.get_dummy_value()

    return types.void(counts, types.intp, _WORDS, types.boolean), codegen


@intrinsic
def _zero_bytes(typingctx):
    return simd.U8x64(), lambda context, builder, sig, args: ir.Constant(simd.U8x64.llvm, [0] * 64)


@intrinsic
def _shift_in(typingctx, levels, codes, index):
    """Double 64 bytes, and add to byte i the bit i of a word.

    The word is the 64 bits at byte ``index`` of a uint8 array.
    """

    def codegen(context, builder, sig, args):
        word = builder.load(simd._pointer(context, builder, sig.args[1], args[1], args[2], _I64))
        word.align = 1
        bits = builder.bitcast(word, ir.VectorType(ir.IntType(1), 64))
        return builder.add(builder.add(args[0], args[0]), builder.zext(bits, simd.U8x64.llvm))

    return simd.U8x64(simd.U8x64, codes, types.intp), codegen


@kernel
def _count_rows(codes1, begin, end, word, planes, counts):
    """Count the differences of every row in words ``word`` to ``word + 7``.

    The counts are written if ``word`` is 0, and added otherwise.
    """
    width, stride = codes1.shape[1], planes.shape[1]
    plane0 = _load_plane(planes, word)
    plane1 = _load_plane(planes, word + stride)
    plane2 = _load_plane(planes, word + 2 * stride)
    plane3 = _load_plane(planes, word + 3 * stride)
    left = width // 8 - word
    last = (end - 1) * width + 8 * word  # in place of rows beyond the end, the last row is read again
    for row in range(begin, end, 8):
        at = row * width + 8 * word
        a = _count_differences(_load_words(codes1, at, left), plane0, plane1, plane2, plane3)
        at = min(at + width, last)
        b = _count_differences(_load_words(codes1, at, left), plane0, plane1, plane2, plane3)
        at = min(at + width, last)
        c = _count_differences(_load_words(codes1, at, left), plane0, plane1, plane2, plane3)
        at = min(at + width, last)
        d = _count_differences(_load_words(codes1, at, left), plane0, plane1, plane2, plane3)
        at = min(at + width, last)
        e = _count_differences(_load_words(codes1, at, left), plane0, plane1, plane2, plane3)
        at = min(at + width, last)
        f = _count_differences(_load_words(codes1, at, left), plane0, plane1, plane2, plane3)
        at = min(at + width, last)
        g = _count_differences(_load_words(codes1, at, left), plane0, plane1, plane2, plane3)
        at = min(at + width, last)
        h = _count_differences(_load_words(codes1, at, left), plane0, plane1, plane2, plane3)
        sums = _fold(_fold(_fold(a, b), _fold(c, d)), _fold(_fold(e, f), _fold(g, h)))
        _store_counts(counts, row - begin, sums, word > 0)


@kernel
def _count_short_rows(codes1, begin, end, planes, counts):
    """Write the differences of rows of 1, 2 or 4 words; a register holds 8, 4 or 2 of such rows."""
    width = codes1.shape[1]
    words = width // 8
    plane0 = _load_plane(planes, 0)
    plane1 = _load_plane(planes, planes.shape[1])
    plane2 = _load_plane(planes, 2 * planes.shape[1])
    plane3 = _load_plane(planes, 3 * planes.shape[1])
    for row in range(begin, end, 8):
        at = row * width
        left = (end - row) * words  # below 1 if nothing is left to load
        a = _count_differences(_load_words(codes1, at, left), plane0, plane1, plane2, plane3)
        if words > 1:
            b = _count_differences(_load_words(codes1, at + 64, left - 8), plane0, plane1, plane2, plane3)
            if words > 2:
                c = _count_differences(_load_words(codes1, at + 128, left - 16), plane0, plane1, plane2, plane3)
                d = _count_differences(_load_words(codes1, at + 192, left - 24), plane0, plane1, plane2, plane3)
                a, b = _fold(a, b), _fold(c, d)
            a = _fold(a, b)
        _store_counts(counts, row - begin, a, False)


@kernel
def count_differences(codes1, begin, end, planes, counts):
    """Compare the sign planes of rows ``begin`` to ``end`` with a query.

    Parameters
    ----------
    codes1
        (n, D / 8) uint8.
    planes
        (4, plane_words(D)) uint64: the bit planes of the query; see `pad_planes` for the words beyond D.
    counts
        Output, int32, with one element per row and a length that is rounded up to a multiple of 8: the sum over j of
        2^j popcount(codes1[row] XOR planes[j]).

    """
    words = codes1.shape[1] // 8
    if words == 1 or words == 2 or words == 4:
        _count_short_rows(codes1, begin, end, planes, counts)
        return
    for word in range(0, words, 8):
        _count_rows(codes1, begin, end, word, planes, counts)


@kernel
def count_flips(codes, begin, end, plane, counts):
    """Count the bits in which rows ``begin`` to ``end`` differ from a query.

    Parameters
    ----------
    codes
        (n, D / 8) uint8.
    plane
        (plane_words(D),) uint64: the query's bits in the order of the rows'; words beyond D are zero.
    counts
        Output, int32, with one element per row and a length that is rounded up to a multiple of 8.

    """
    width = codes.shape[1]
    words = width // 8
    last = (end - 1) * width  # in place of rows beyond the end, the last row is read again
    for row in range(begin, end, 8):
        at = row * width
        a = b = c = d = e = f = g = h = _no_counts()
        for word in range(0, words, 8):
            place, left, asked = at + 8 * word, words - word, _load_plane(plane, word)
            end_place = last + 8 * word
            a = _add_flips(a, _load_words(codes, place, left), asked)
            b = _add_flips(b, _load_words(codes, min(place + width, end_place), left), asked)
            c = _add_flips(c, _load_words(codes, min(place + 2 * width, end_place), left), asked)
            d = _add_flips(d, _load_words(codes, min(place + 3 * width, end_place), left), asked)
            e = _add_flips(e, _load_words(codes, min(place + 4 * width, end_place), left), asked)
            f = _add_flips(f, _load_words(codes, min(place + 5 * width, end_place), left), asked)
            g = _add_flips(g, _load_words(codes, min(place + 6 * width, end_place), left), asked)
            h = _add_flips(h, _load_words(codes, min(place + 7 * width, end_place), left), asked)
        sums = _fold(_fold(_fold(a, b), _fold(c, d)), _fold(_fold(e, f), _fold(g, h)))
        _store_counts(counts, row - begin, sums, False)


@kernel
def pad_planes(planes, words):
    """Fill the words beyond the first ``words`` of a query's planes (4, plane_words(D)) uint64.

    Codes of 1, 2 or 4 words are compared several rows at a time, so that the planes are repeated. Other codes are
    compared eight words at a time, and words that are missing are zero on both sides.
    """
    repeat = words == 1 or words == 2 or words == 4
    for j in range(planes.shape[0]):
        for word in range(words, planes.shape[1]):
            planes[j, word] = planes[j, word % words] if repeat else np.uint64(0)


@kernel
def inner_product(codes1, codes_ex, row, bits, high, low):
    """Return the exact inner product of the code of a row (levels 0 .. 2^bits - 1) with a 16-bit query.

    The level of the query in coordinate i is ``256 * high[i] + low[i]``; both are int8, viewed as uint8. Each partial
    sum fits 32 bits as long as D <= 65,536.
    """
    width = codes1.shape[1]
    width_ex = codes_ex.shape[1]
    total_high = simd.zero_i32x16()
    total_low = simd.zero_i32x16()
    for byte in range(0, width, 8):
        levels = _shift_in(_zero_bytes(), codes1, row * width + byte)
        at = row * width_ex + byte
        for _ in range(bits - 1):
            levels = _shift_in(levels, codes_ex, at)
            at += width
        total_high = simd.dot4_u8i8(total_high, levels, simd.load_u8x64(high, 8 * byte))
        total_low = simd.dot4_u8i8(total_low, levels, simd.load_u8x64(low, 8 * byte))
    return np.int64(256) * np.int64(simd.hsum_i32(total_high)) + np.int64(simd.hsum_i32(total_low))
