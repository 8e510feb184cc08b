"""Scan of product codes with 8-bit tables: exact sums, as those of `annvq.kernels.scan.scan4` and `scan8`.

Codes are laid out by words of four bytes, (words, n), so that neighbouring rows lie side by side (``row * 0 + n`` is n
in the 64 bits of rows). A byte is one code of 8 bits, or two of 4 bits, whose tables are joined
(`annvq.gpu.kernels.fill_tables`). The tables of a query stay in the cache of a multiprocessor, which is the same memory
as what programs share.
"""

from __future__ import annotations

import triton
import triton.language as tl

from annvq.gpu.kernels.append import _append
from annvq.gpu.kernels.candidates import _candidates
from annvq.gpu.kernels.order import _packed
from annvq.gpu.kernels.tile import _rows_of_program


@triton.jit
def _sums(codes, n, words, row, inside, tables):
    """Return the sums of the table entries of some rows, int32."""
    sums = tl.zeros([row.shape[0]], tl.int32)
    for word in range(0, words):
        held = tl.load(codes + word * (row * 0 + n) + row, mask=inside, other=0)
        for byte in tl.static_range(4):
            entry = (4 * word + byte) * 256 + ((held >> (8 * byte)) & 255)
            sums += tl.load(tables + entry, mask=inside, other=0).to(tl.int32)
    return sums


@triton.jit
def _score_of_sums(sums, step, base, FUSED: tl.constexpr):
    """Return scores of sums: rounded once, as 4-bit codes are scored, or twice, as 8-bit codes are."""
    numbers = sums.to(tl.float32)
    if FUSED:
        return tl.math.fma(numbers, step + numbers * 0.0, base + numbers * 0.0)
    return numbers * step + base


@triton.jit
def _score_and_append(
    codes, n, words, constants, mapping, tables, steps, biases, base, query, place, inside, allow, ranks, entries,
    counts, thresholds, capacity, FUSED: tl.constexpr, CONSTANTS: tl.constexpr, MAPPED: tl.constexpr,
    FILTERED: tl.constexpr,
):  # fmt: skip
    """Score the rows in some places for one query, and append those that reach its threshold; lists add ``base``."""
    sums = _sums(codes, n, words, place, inside, tables + query * words * 1024)
    scores = _score_of_sums(sums, tl.load(steps + query), tl.load(biases + query) + base, FUSED)
    row = place
    if MAPPED:
        row = tl.load(mapping + place, mask=inside, other=0).to(tl.int64)
    if CONSTANTS:
        scores += tl.load(constants + row, mask=inside, other=0.0)
    if FILTERED:
        inside = inside & (tl.load(allow + row, mask=inside, other=0) != 0)
    candidates = _packed(scores, tl.load(ranks + row, mask=inside, other=0))
    wanted = inside & (candidates >= tl.load(thresholds + query)) & (scores == scores)
    _append(candidates[None, :], wanted[None, :], query + tl.zeros([1], tl.int64), entries, counts, capacity)


@triton.jit
def scan_tables(
    codes, n, words, constants, mapping, tables, steps, biases, bases, nlist, asking, lists, begins, ends, visits,
    allow, ranks, entries, counts, thresholds, capacity, FUSED: tl.constexpr, CONSTANTS: tl.constexpr,
    MAPPED: tl.constexpr, FILTERED: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Scan rows of a list for one query, and append those that reach its threshold to the pool.

    Parameters
    ----------
    codes, n, words
        (words, n) int32.
    constants
        (n,) float32, added to the scores of rows, if CONSTANTS.
    mapping
        (n,) int32, the rows whose codes are in each place, if MAPPED; otherwise, place i has row i.
    tables, steps, biases
        (nq, 4 words, 256) uint8 or int16, (nq,) float32 and (nq,) float32: quantized tables.
    bases, nlist
        (nq, nlist) float32: what lists add to scores.
    asking, lists, begins, ends, visits
        `annvq.gpu.plan.Work` of one query per program.
    FUSED
        Whether the product with the step and the addition of the base are rounded once.
    allow, ranks, entries, counts, thresholds, capacity, FILTERED, ROWS
        The same as for `annvq.gpu.kernels.scan_rows.scan_rows`.

    """
    program = tl.program_id(0)
    query = tl.load(asking + tl.load(visits + program)).to(tl.int64)
    place, inside = _rows_of_program(begins, ends, ROWS)
    base = tl.load(bases + query * nlist + tl.load(lists + program))
    _score_and_append(
        codes, n, words, constants, mapping, tables, steps, biases, base, query, place, inside, allow, ranks, entries,
        counts, thresholds, capacity, FUSED, CONSTANTS, MAPPED, FILTERED,
    )  # fmt: skip


@triton.jit
def decide_tables(
    proposals, found, room, codes, n, words, constants, mapping, tables, steps, biases, bases, nlist, ranks, entries,
    counts, thresholds, capacity, FUSED: tl.constexpr, CONSTANTS: tl.constexpr, MAPPED: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """Score what `annvq.gpu.kernels.propose_tables` proposed, and append what reaches the thresholds to the pools.

    Parameters
    ----------
    proposals, found, room
        (nq, room) int64: the list in the upper half, the place in the lower; and how many there are, (nq,) int32.
    codes, n, words, constants, mapping, tables, steps, biases, bases, nlist, ranks, entries, counts, thresholds,
    capacity, FUSED, CONSTANTS, MAPPED, ROWS
        The same as for `scan_tables`.

    """
    query, first = tl.program_id(1).to(tl.int64), tl.program_id(0) * ROWS
    proposed = tl.minimum(tl.load(found + query), room)
    if first < proposed:
        number = first + tl.arange(0, ROWS)
        inside = number < proposed
        entry = tl.load(proposals + query * room + number, mask=inside, other=0)
        base = tl.load(bases + query * nlist + (entry >> 32), mask=inside, other=0.0)
        _score_and_append(
            codes, n, words, constants, mapping, tables, steps, biases, base, query, entry & 0xFFFFFFFF, inside, ranks,
            ranks, entries, counts, thresholds, capacity, FUSED, CONSTANTS, MAPPED, False,
        )  # fmt: skip


@triton.jit
def rescore_tables(
    codes, n, words, constants, tables, M, bases, places, places_of_query, base_row, scores, KSUB: tl.constexpr,
    CONSTANTS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Score the candidates of every query that lie among these rows by sums over float tables, in the order of codes.

    Parameters
    ----------
    tables, M
        (nq, M, KSUB) float32.
    bases
        (nq, places_of_query) float32, of the lists that the candidates lie in.
    codes, n, words, constants, CONSTANTS
        The same as for `scan_tables`.
    places, places_of_query, base_row, scores, ROWS
        The same as for `annvq.gpu.kernels.scan_rows.rescore_rows`.

    """
    query, at, row, inside = _candidates(places, places_of_query, n, base_row, ROWS)
    if tl.max(inside.to(tl.int32), axis=0) > 0:
        own = tables + query * M * KSUB
        total = tl.load(bases + at, mask=inside, other=0.0)
        for word in range(0, words):
            packed = tl.load(codes + word * (row * 0 + n) + row, mask=inside, other=0)
            for byte in tl.static_range(4):
                code = (packed >> (8 * byte)) & 255
                if KSUB == 256:
                    m = code * 0 + 4 * word + byte
                    total += tl.load(own + m * 256 + code, mask=inside & (m < M), other=-0.0)
                else:
                    m = code * 0 + 8 * word + 2 * byte
                    total += tl.load(own + m * 16 + (code & 15), mask=inside & (m < M), other=-0.0)
                    total += tl.load(own + (m + 1) * 16 + (code >> 4), mask=inside & (m + 1 < M), other=-0.0)
        if CONSTANTS:
            total += tl.load(constants + row, mask=inside, other=0.0)
        tl.store(scores + at, total, mask=inside)


@triton.jit
def rescore_sums(
    codes, n, words, constants, tables, steps, biases, bases, places, places_of_query, base_row, scores,
    FUSED: tl.constexpr, CONSTANTS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Give candidates the scores of `scan_tables`; the parameters are those of it and of `rescore_tables`."""
    query, at, row, inside = _candidates(places, places_of_query, n, base_row, ROWS)
    if tl.max(inside.to(tl.int32), axis=0) > 0:
        sums = _sums(codes, n, words, row, inside, tables + query * words * 1024)
        base = tl.load(biases + query) + tl.load(bases + at, mask=inside, other=0.0)
        found = _score_of_sums(sums, tl.load(steps + query), base, FUSED)
        if CONSTANTS:
            found += tl.load(constants + row, mask=inside, other=0.0)
        tl.store(scores + at, found, mask=inside)
