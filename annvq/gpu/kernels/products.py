"""Products of queries with matrices, as in `annvq.kernels.vectors.gemm` and `annvq.kernels.vectors.bytematrix`."""

from __future__ import annotations

import triton
import triton.language as tl

from annvq.gpu.kernels.order import _hsum, _packed


@triton.jit
def multiply_in_order(
    rows, n, d, matrix, k, squares_of_rows, squares, out, L2: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Multiply rows with a matrix; every product is one fused multiply-add per dimension, in their order.

    Parameters
    ----------
    rows
        (d, n) float32: the rows, transposed, so that neighbouring ones lie side by side.
    matrix
        (d, k) float32.
    squares_of_rows, squares
        (n,) and (k,) float32 under L2: the results are then minus squared distances.
    out
        Output, (n, k) float32.

    """
    row = tl.program_id(1).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    is_row, is_column = row < n, column < k
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    x, y = rows + row, matrix + column
    whole = d - d % 4
    for _ in range(0, whole, 4):  # loads of four dimensions are under way together
        a = tl.load(x, mask=is_row, other=0.0)
        b = tl.load(x + n, mask=is_row, other=0.0)
        c = tl.load(x + 2 * n, mask=is_row, other=0.0)
        e = tl.load(x + 3 * n, mask=is_row, other=0.0)
        s = tl.load(y, mask=is_column, other=0.0)
        t = tl.load(y + k, mask=is_column, other=0.0)
        u = tl.load(y + 2 * k, mask=is_column, other=0.0)
        v = tl.load(y + 3 * k, mask=is_column, other=0.0)
        total = tl.math.fma(a[:, None] + tl.zeros_like(total), s[None, :] + tl.zeros_like(total), total)
        total = tl.math.fma(b[:, None] + tl.zeros_like(total), t[None, :] + tl.zeros_like(total), total)
        total = tl.math.fma(c[:, None] + tl.zeros_like(total), u[None, :] + tl.zeros_like(total), total)
        total = tl.math.fma(e[:, None] + tl.zeros_like(total), v[None, :] + tl.zeros_like(total), total)
        x += 4 * n
        y += 4 * k
    for _ in range(whole, d):
        a = tl.load(x, mask=is_row, other=0.0)
        s = tl.load(y, mask=is_column, other=0.0)
        total = tl.math.fma(a[:, None] + tl.zeros_like(total), s[None, :] + tl.zeros_like(total), total)
        x += n
        y += k
    if L2:
        square = tl.load(squares_of_rows + row, mask=is_row, other=0.0)[:, None]
        total = 2.0 * total - (square + tl.load(squares + column, mask=is_column, other=0.0)[None, :])
    tl.store(out + row[:, None] * k + column[None, :], total, mask=is_row[:, None] & is_column[None, :])


@triton.jit
def quantize_rows(
    rows, n, d, shift, levels, width, units, common, COMMON: tl.constexpr, ROWS: tl.constexpr, DIMS: tl.constexpr
):  # fmt: skip
    """Write rows, less ``shift``, as signed bytes with a step for each row.

    Parameters
    ----------
    rows, shift
        (n, d) and (d,) float32.
    levels, width
        Output, (n, width) int8; zero beyond d.
    units
        Output, (n,) float32: the steps.
    common
        Output, (n,) float32: minus the squared length of what is written if COMMON is 2, its inner product with
        ``shift`` if COMMON is 1, both in 16 lanes.
    ROWS, DIMS
        Rows of a program, and dimensions that are read at a time.

    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    is_row = row < n
    dims = tl.arange(0, DIMS)
    most = tl.zeros([ROWS, DIMS], tl.float32)
    for i in range(0, d, DIMS):
        held = is_row[:, None] & (i + dims < d)[None, :]
        x = tl.load(rows + row[:, None] * d + (i + dims)[None, :], mask=held, other=0.0)
        y = tl.load(shift + i + dims, mask=i + dims < d, other=0.0)[None, :] + tl.zeros_like(most)
        most = tl.maximum(most, tl.abs(tl.where(held, x - y, 0.0)))
    ones = tl.zeros([ROWS], tl.float32) + 1.0
    step = tl.math.div_rn(tl.maximum(tl.max(most, axis=1), 1e-30), 127.0 * ones)
    scale = tl.math.div_rn(ones, step)[:, None] + tl.zeros_like(most)
    for i in range(0, width, DIMS):
        held = is_row[:, None] & (i + dims < d)[None, :]
        x = tl.load(rows + row[:, None] * d + (i + dims)[None, :], mask=held, other=0.0)
        y = tl.load(shift + i + dims, mask=i + dims < d, other=0.0)[None, :] + tl.zeros_like(most)
        places = tl.math.fma(tl.where(held, x - y, 0.0), scale, 128.5 + tl.zeros_like(most)).to(tl.int32)
        at = levels + row[:, None] * width + (i + dims)[None, :]
        tl.store(at, (places - 128).to(tl.int8), mask=is_row[:, None] & (i + dims < width)[None, :])
    tl.store(units + row, step, mask=is_row)
    if COMMON > 0:
        lanes = tl.arange(0, 16)
        total = tl.zeros([ROWS, 16], tl.float32)
        for i in range(0, d, 16):
            held = is_row[:, None] & (i + lanes < d)[None, :]
            y = tl.load(shift + i + lanes, mask=i + lanes < d, other=0.0)[None, :] + tl.zeros_like(total)
            x = tl.load(rows + row[:, None] * d + (i + lanes)[None, :], mask=held, other=0.0)
            x = tl.where(held, x - y, 0.0)
            if COMMON == 2:
                y = x
            total = tl.math.fma(x, y, total)
        sums = _hsum(total, ROWS)
        if COMMON == 2:
            sums = sums * -1.0
        tl.store(common + row, sums, mask=is_row)


@triton.jit
def multiply_bytes(
    levels, units, common, n, width, matrix, steps, adds, k, out, COMMON: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, DIMS: tl.constexpr,
):  # fmt: skip
    """Multiply rows with a matrix, both in bytes.

    Parameters
    ----------
    levels, units, common
        What `quantize_rows` wrote; ``units`` times a factor, and ``common`` is added to all products of a row if
        COMMON is true.
    matrix, width
        (k, width) int8: the columns of the matrix; the width is a multiple of DIMS.
    steps, adds
        (k,) float32: what 1 stands for in each column, and what is added to the products with it.
    out
        Output, (n, k) float32.

    """
    row = tl.program_id(1).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    is_row, is_column = row < n, column < k
    dims = tl.arange(0, DIMS)
    total = tl.zeros([ROWS, COLUMNS], tl.int32)
    for i in range(0, width, DIMS):
        x = tl.load(levels + row[:, None] * width + (i + dims)[None, :], mask=is_row[:, None], other=0)
        y = tl.load(matrix + column[:, None] * width + (i + dims)[None, :], mask=is_column[:, None], other=0)
        total = tl.dot(x, tl.trans(y), total, out_dtype=tl.int32)
    step = tl.load(units + row, mask=is_row, other=0.0)
    unit = tl.load(steps + column, mask=is_column, other=0.0)[None, :] * step[:, None]
    added = tl.load(adds + column, mask=is_column, other=0.0)[None, :] + tl.zeros_like(unit)
    product = tl.math.fma(total.to(tl.float32), unit, added)
    if COMMON:
        product = product + tl.load(common + row, mask=is_row, other=0.0)[:, None]
    tl.store(out + row[:, None] * k + column[None, :], product, mask=is_row[:, None] & is_column[None, :])


@triton.jit
def order_lists(scores, live, nlist, keys, LISTS: tl.constexpr):
    """Write candidates of all lists, ``keys (nq, nlist)`` int64, whose rank is the list; none without ``live`` rows.

    ``scores`` is (nq, nlist) float32, ``live`` (nlist,) int64.
    """
    query = tl.program_id(1).to(tl.int64)
    number = tl.program_id(0) * LISTS + tl.arange(0, LISTS)
    inside = number < nlist
    score = tl.load(scores + query * nlist + number, mask=inside, other=0.0)
    rows = tl.load(live + number, mask=inside, other=0)
    nothing = tl.full([LISTS], -(1 << 63), tl.int64)
    tl.store(keys + query * nlist + number, tl.where(rows > 0, _packed(score, number), nothing), mask=inside)
