"""Coordinate descent on the anisotropic loss, as in `annvq.kernels.codes.noise_shaping`."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def divide_by_lengths(directions, n, d, units, ROWS: tl.constexpr):
    """Scale directions to unit norm, in float64; those of zero stay zero.

    Parameters
    ----------
    directions
        (d, n) float32: one in each column.
    units
        Output, (at least d, n) float32.

    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    total = tl.zeros([ROWS], tl.float64)
    at = row
    for _ in range(0, d):
        x = tl.load(directions + at, mask=row < n, other=0.0).to(tl.float64)
        total += x * x
        at += n
    length = tl.where(total > 0.0, tl.sqrt(total), 1.0)
    at = row
    for _ in range(0, d):
        x = tl.load(directions + at, mask=row < n, other=0.0).to(tl.float64)
        tl.store(units + at, (x / length).to(tl.float32), mask=row < n)
        at += n


@triton.jit
def _products_of_code(points, units, entries, bias, code, m, n, ksub, dsub, row, ROWS: tl.constexpr):
    """Return the scores of a sub-space's entries that codes select, and these entries' dots, both (ROWS,)."""
    score = tl.zeros([ROWS], tl.float32)
    dot = tl.zeros([ROWS], tl.float32)
    entry = m * ksub + code
    for i in range(0, dsub):
        at = row + (row * 0 + m * dsub + i) * n
        value = tl.load(entries + entry * dsub + i)
        score = tl.math.fma(tl.load(points + at, mask=row < n, other=0.0), value, score)
        dot = tl.math.fma(tl.load(units + at, mask=row < n, other=0.0), value, dot)
    return score + tl.load(bias + entry), dot


@triton.jit
def shape_noise(
    points, units, n, M, entries, bias, ksub, dsub, weight, rounds, codes, ROWS: tl.constexpr, ENTRIES: tl.constexpr
):
    """Improve codes by coordinate descent.

    Parameters
    ----------
    points, units
        (M * dsub, n) float32: shifted vectors, one in each column, and their directions.
    M, entries, bias, ksub, dsub
        The shape of the codebooks, (M, ksub, dsub) and (M, ksub) float32.
    weight
        eta - 1.
    rounds
        Number of rounds over the M sub-spaces.
    codes
        (M, n) uint8: at first the nearest entries, at last the result.
    ROWS, ENTRIES
        Vectors of a program, and entries that it compares at a time.

    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    held = row < n
    projection = tl.zeros([ROWS], tl.float32)
    for m in range(0, M):
        code = tl.load(codes + row + (row * 0 + m) * n, mask=held, other=0).to(tl.int32)
        for i in range(0, dsub):
            at = row + (row * 0 + m * dsub + i) * n
            value = tl.load(entries + (m * ksub + code) * dsub + i)
            left = tl.load(points + at, mask=held, other=0.0) - value
            projection += tl.load(units + at, mask=held, other=0.0) * left
    for _ in range(0, rounds):
        tl.debug_barrier()  # other threads of the program may have written the codes that are read here
        for m in range(0, M):
            place = codes + row + (row * 0 + m) * n
            pick = tl.load(place, mask=held, other=0).to(tl.int32)
            score, its = _products_of_code(points, units, entries, bias, pick, m, n, ksub, dsub, row, ROWS)
            rest = projection + its
            par = rest - its
            best = weight * par * par - 2.0 * score
            for first in range(0, ksub, ENTRIES):
                entry = first + tl.arange(0, ENTRIES)
                scores = tl.zeros([ROWS, ENTRIES], tl.float32)
                dots = tl.zeros([ROWS, ENTRIES], tl.float32)
                for i in range(0, dsub):
                    at = row + (row * 0 + m * dsub + i) * n
                    value = tl.load(entries + (m * ksub + entry) * dsub + i)[None, :] + tl.zeros_like(scores)
                    x = tl.load(points + at, mask=held, other=0.0)[:, None] + tl.zeros_like(scores)
                    g = tl.load(units + at, mask=held, other=0.0)[:, None] + tl.zeros_like(scores)
                    scores = tl.math.fma(x, value, scores)
                    dots = tl.math.fma(g, value, dots)
                scores += tl.load(bias + m * ksub + entry)[None, :]
                pars = rest[:, None] - dots
                losses = weight * pars * pars - 2.0 * scores
                least = tl.min(losses, axis=1)
                where = tl.min(tl.where(losses == least[:, None], entry[None, :], 0x7FFFFFFF), axis=1)
                dot = tl.sum(tl.where(entry[None, :] == where[:, None], dots, 0.0), axis=1)
                is_better = least < best
                pick = tl.where(is_better, where, pick)
                its = tl.where(is_better, dot, its)
                best = tl.where(is_better, least, best)
            projection = rest - its
            tl.store(place, pick.to(tl.uint8), mask=held)
