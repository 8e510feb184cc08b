"""Rows that may be among the best, proposed by products of bfloat16 numbers on tensor cores.

A product of two numbers that are rounded to 8 bits is off by 2^-7 + 2^-16 of it at most, and what tensor cores lose
when they add d products is below d 2^-21 of the sum of their absolute values, which is at most |q| |x|. So the score
has a bound, and only rows whose bound reaches the threshold are proposed;
`annvq.gpu.kernels.scan_rows.rescore_rows` decides.
"""

from __future__ import annotations

import triton
import triton.language as tl

from annvq.gpu.kernels.append import _append
from annvq.gpu.kernels.order import _packed
from annvq.gpu.kernels.scan_rows import _numbers
from annvq.gpu.kernels.tile import _tile

ROUNDING = 2.0**-7 + 2.0**-15  # of products, relative
ADDING = 2.0**-21  # of a sum, relative to the sum of absolute values, for every number that is added
LEAST = 1e-30  # more than is lost among numbers that are nearly zero


@triton.jit
def propose_rows(
    queries, query_norms, width, rows, row_norms, d, minimum, step, asking, begins, ends, visits, visit_ends, allow,
    ranks, entries, counts, thresholds, capacity, rounding, adding, least, CODED: tl.constexpr, L2: tl.constexpr,
    FILTERED: tl.constexpr, QUERIES: tl.constexpr, ROWS: tl.constexpr, DIMS: tl.constexpr,
):  # fmt: skip
    """Append the rows whose scores may reach the thresholds, with bounds of their scores.

    Parameters
    ----------
    query_norms, row_norms
        (nq,) and (n,) float32: their lengths, but for rounding, which `ROUNDING` and `ADDING` leave room for.
    rounding, adding, least
        `ROUNDING`, `ADDING` times d, `LEAST`.
    DIMS
        Dimensions that are multiplied at a time; those beyond d count as zeros.
    queries, width, rows, d, minimum, step, asking, begins, ends, visits, visit_ends, allow, ranks, entries, counts,
    thresholds, capacity, CODED, L2, FILTERED, QUERIES, ROWS
        The same as for `annvq.gpu.kernels.scan_rows.scan_rows`; QUERIES, ROWS and DIMS are at least 16.

    """
    query, asked, row, inside = _tile(asking, begins, ends, visits, visit_ends, QUERIES, ROWS)
    dims = tl.arange(0, DIMS)
    products = tl.zeros([QUERIES, ROWS], tl.float32)
    for i in range(0, d, DIMS):
        held = i + dims < d
        x = tl.load(queries + (query * width)[:, None] + (i + dims)[None, :], mask=held[None, :], other=0.0)
        y = _numbers(rows, row * d, dims, i, d, minimum, step, CODED)
        products = tl.dot(x.to(tl.bfloat16), tl.trans(y.to(tl.bfloat16)), products)
    of_query = tl.load(query_norms + query, mask=asked, other=0.0)[:, None]
    of_row = tl.load(row_norms + row, mask=inside, other=0.0)[None, :]
    margin = (rounding + adding) * of_query * of_row + least
    bound = products + margin
    if L2:
        bound = 2.0 * bound - (1.0 - adding) * (of_query * of_query + of_row * of_row)
    if FILTERED:
        inside = inside & (tl.load(allow + row, mask=inside, other=0) != 0)
    candidates = _packed(bound, tl.load(ranks + row, mask=inside, other=0)[None, :])
    threshold = tl.load(thresholds + query, mask=asked, other=0)
    _append(candidates, asked[:, None] & inside[None, :] & (candidates >= threshold[:, None]), query, entries, counts,
            capacity)  # fmt: skip


@triton.jit
def fill_norms(rows, n, d, minimum, step, norms, CODED: tl.constexpr, ROWS: tl.constexpr, DIMS: tl.constexpr):
    """Fill ``norms`` (n,) float32 with the lengths of ``rows (n, d)``, as `propose_rows` takes them.

    ROWS and DIMS are how many rows, and dimensions of them, are read at a time; ``minimum``, ``step`` and CODED are
    those of `annvq.gpu.kernels.scan_rows.scan_rows`.
    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = row < n
    row = tl.where(inside, row, 0)
    dims = tl.arange(0, DIMS)
    squares = tl.zeros([ROWS, DIMS], tl.float32)
    for i in range(0, d, DIMS):
        y = _numbers(rows, row * d, dims, i, d, minimum, step, CODED)
        squares += y * y
    tl.store(norms + row, tl.sqrt(tl.sum(squares, axis=1)), mask=inside)
