"""Scores of candidates by rows in locally adaptive codes, as `annvq.kernels.vectors.lvq` makes them.

Rows are padded to whole words of four bytes, so that their heads are float32 numbers in the same memory.
"""

from __future__ import annotations

import triton
import triton.language as tl

from annvq.gpu.kernels.candidates import _candidates
from annvq.gpu.kernels.order import _hsum


@triton.jit
def sum_queries(queries, width, mean, totals, products):
    """Write the sum of every query, and its inner product with the mean, both in 16 lanes.

    ``queries`` is (nq, width) float32, padded with zeros to a multiple of 16, as ``mean`` (width,) is; ``totals`` and
    ``products`` (nq,) float32 are outputs.
    """
    query = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, 16)
    total = tl.zeros([1, 16], tl.float32)
    product = tl.zeros([1, 16], tl.float32)
    for i in range(0, width, 16):
        x = tl.load(queries + query * width + i + lanes)[None, :]
        total = total + x
        product = tl.math.fma(x, tl.load(mean + i + lanes)[None, :], product)
    one = query + tl.zeros([1], tl.int64)
    tl.store(totals + one, _hsum(total, 1))
    tl.store(products + one, _hsum(product, 1))


@triton.jit
def propose_local_rows(
    upper, lower, units, totals, rows, heads, n, d, stride, places, places_of_query, base, scores, HEAD: tl.constexpr,
    L2: tl.constexpr, ROWS: tl.constexpr, DIMS: tl.constexpr,
):  # fmt: skip
    """Score candidates by their first codes, with exact products of bytes.

    Parameters
    ----------
    upper, lower, units, totals
        (nq, d) int8, the query's levels are 256 times the one plus the other; (nq,) float32, what a level stands for,
        and the sum of the query.
    rows, heads, stride
        (n, stride) uint8, and the same memory as float32.
    n, d
        The number of rows, and of their dimensions.
    places, places_of_query, base, scores, ROWS
        The same as for `annvq.gpu.kernels.scan_rows.rescore_rows`.
    HEAD
        The bytes of a row before its codes.
    L2
        Whether scores are minus squared distances, without what is the same for all rows.
    DIMS
        Dimensions that are multiplied at a time.

    """
    query, at, row, inside = _candidates(places, places_of_query, n, base, ROWS)
    if tl.max(inside.to(tl.int32), axis=0) > 0:
        dims = tl.arange(0, DIMS)
        high = tl.zeros([ROWS, DIMS], tl.int32)
        low = tl.zeros([ROWS, DIMS], tl.int32)
        for i in range(0, d, DIMS):
            held = i + dims < d
            own = rows + (row * stride + HEAD)[:, None] + (i + dims)[None, :]
            codes = tl.load(own, mask=inside[:, None] & held[None, :], other=0).to(tl.int32)
            high += codes * tl.load(upper + query * d + i + dims, mask=held, other=0).to(tl.int32)[None, :]
            low += codes * tl.load(lower + query * d + i + dims, mask=held, other=0).to(tl.int32)[None, :]
        product = tl.sum(high, axis=1).to(tl.float64) * 256.0 + tl.sum(low, axis=1).to(tl.float64)
        head = heads + row * (stride // 4)
        lowest = tl.load(head, mask=inside, other=0.0).to(tl.float64)
        step = tl.load(head + 1, mask=inside, other=0.0).to(tl.float64)
        unit, total = tl.load(units + query).to(tl.float64), tl.load(totals + query).to(tl.float64)
        score = lowest * total + step * unit * product
        if L2:
            score = 2.0 * score - tl.load(head + 2, mask=inside, other=0.0).to(tl.float64)
        tl.store(scores + at, score.to(tl.float32), mask=inside)


@triton.jit
def rescore_local_rows(
    queries, width, products, rows, heads, n, d, stride, places, places_of_query, base, scores, HEAD: tl.constexpr,
    LEVELS: tl.constexpr, L2: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Score candidates by all that is stored of them, in 16 lanes.

    Parameters
    ----------
    queries, width
        (nq, width) float32, less the mean under L2, padded with zeros to a multiple of 16.
    products
        (nq,) float32: the inner products with the mean, which are not used under L2.
    LEVELS
        1 or 2.
    rows, heads, n, d, stride, places, places_of_query, base, scores, HEAD, L2, ROWS
        The same as for `propose_local_rows`.

    """
    query, at, row, inside = _candidates(places, places_of_query, n, base, ROWS)
    if tl.max(inside.to(tl.int32), axis=0) > 0:
        lanes = tl.arange(0, 16)
        head = heads + row * (stride // 4)
        low = tl.load(head, mask=inside, other=0.0)
        step = tl.load(head + 1, mask=inside, other=0.0)
        if LEVELS == 2:
            low = low - 0.5 * step
            step = step * 0.00390625
        total = tl.zeros([ROWS, 16], tl.float32)
        lows, steps = low[:, None] + total, step[:, None] + total
        for i in range(0, d, 16):
            held = inside[:, None] & (i + lanes < d)[None, :]
            own = rows + (row * stride + HEAD)[:, None] + (i + lanes)[None, :]
            codes = tl.load(own, mask=held, other=0).to(tl.float32)
            if LEVELS == 2:
                codes = tl.math.fma(codes, 256.0 + total * 0.0, tl.load(own + d, mask=held, other=0).to(tl.float32))
            x = tl.load(queries + query * width + i + lanes)[None, :] + total * 0.0
            value = tl.math.fma(codes, steps, lows)
            if L2:
                value = tl.where((i + lanes < d)[None, :], x - value, 0.0)
                x = value
            total = tl.math.fma(x, value, total)
        score = _hsum(total, ROWS)
        if L2:
            score = -score + 0.0
        else:
            score = score + tl.load(products + query)
        tl.store(scores + at, score, mask=inside)
