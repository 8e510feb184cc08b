"""Rows whose codes may be among the best, proposed by products of decoded codes on tensor cores.

A score that is summed from tables is, but for rounding, the product of the query and what the code stands for. Decoding
a code costs as much as one look-up per dimension, but it serves all queries of a tile. How far a product can be from a
score has a bound (`annvq.gpu.codes.tables`); `annvq.gpu.kernels.scan_tables.decide_tables` scores what is proposed.
"""

from __future__ import annotations

import triton
import triton.language as tl

from annvq.gpu.kernels.append import _append
from annvq.gpu.kernels.order import _reach
from annvq.gpu.kernels.tile import _tile

OF_ADDED = 2.0**-20  # what rounding loses, relative to the numbers that lists and rows add to products


@triton.jit
def propose_tables(
    queries, offsets, margins, codes, n, words, entries, parts, constants, bases, nlist, mapping, asking, lists,
    begins, ends, visits, visit_ends, allow, thresholds, proposals, found, room, of_added, BITS: tl.constexpr,
    PART: tl.constexpr, CONSTANTS: tl.constexpr, MAPPED: tl.constexpr, FILTERED: tl.constexpr, QUERIES: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """Append list and place of all rows whose scores may reach the thresholds to proposals.

    Parameters
    ----------
    queries
        (nq, words, parts, 32 / BITS, PART) bfloat16: the dimensions of each code of a word, in parts.
    offsets, margins
        (nq,) float32: what is added to all products of a query, and how far a score can be above that.
    codes, n, words
        (words, n) int32.
    entries, parts
        (codes of all words, 2^BITS, parts, PART) bfloat16: what each code stands for.
    constants
        (n,) float32, added to the products of rows, if CONSTANTS.
    bases, nlist
        (nq, nlist) float32: what lists add.
    proposals, found, room
        (nq, room) int64 and (nq,) int32: as for `annvq.gpu.kernels.scan_tables.decide_tables`. Numbers found go on
        beyond the room.
    of_added
        `OF_ADDED`.
    PART
        Dimensions of a code that are multiplied at a time; times 32 / BITS, at least 16.
    mapping, asking, lists, begins, ends, visits, visit_ends, allow, thresholds, MAPPED, FILTERED, QUERIES, ROWS
        The same as for `annvq.gpu.kernels.scan_tables.scan_tables`, for QUERIES queries, at least 16.

    """
    CODES: tl.constexpr = 32 // BITS
    query, asked, place, inside = _tile(asking, begins, ends, visits, visit_ends, QUERIES, ROWS)
    code = tl.arange(0, CODES)
    column = tl.arange(0, CODES * PART)
    products = tl.zeros([QUERIES, ROWS], tl.float32)
    for word in range(0, words):
        packed = tl.load(codes + word * (place * 0 + n) + place, mask=inside, other=0)
        held = (packed[:, None] >> (BITS * code)[None, :]) & ((1 << BITS) - 1)
        at = (((word * CODES + code) << BITS)[None, :] + held) * parts
        for part in range(0, parts):  # products with constants tell the compiler what it can load at once
            y = tl.load(entries + ((at + part) * PART)[:, :, None] + tl.arange(0, PART)[None, None, :])
            of_part = ((query * words + word) * parts + part) * (CODES * PART)
            x = tl.load(queries + of_part[:, None] + column[None, :])
            products = tl.dot(x, tl.trans(tl.reshape(y, [ROWS, CODES * PART])), products)
    list_ = tl.load(lists + tl.program_id(0))
    base = tl.load(bases + query * nlist + list_, mask=asked, other=0.0)
    of_query = base + tl.load(offsets + query, mask=asked, other=0.0)
    margin = tl.load(margins + query, mask=asked, other=0.0) + of_added * tl.abs(base)
    bound = products + of_query[:, None] + margin[:, None]
    row = place
    if MAPPED:
        row = tl.load(mapping + place, mask=inside, other=0).to(tl.int64)
    if CONSTANTS:
        constant = tl.load(constants + row, mask=inside, other=0.0)
        bound += (constant + of_added * tl.abs(constant))[None, :]
    if FILTERED:
        inside = inside & (tl.load(allow + row, mask=inside, other=0) != 0)
    reach = _reach(tl.load(thresholds + query, mask=asked, other=0))
    wanted = asked[:, None] & inside[None, :] & ((bound < reach[:, None]) == 0)  # NaN says nothing
    proposed = (list_.to(tl.int64) << 32) + place
    _append(proposed[None, :] + tl.zeros([QUERIES, ROWS], tl.int64), wanted, query, proposals, found, room)
