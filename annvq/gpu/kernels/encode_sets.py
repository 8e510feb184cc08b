"""Fixed-dimensional encodings of sets of vectors, as `annvq.kernels.documents.fde` makes them."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def find_cells(products, n, columns, repetitions, bits, cells, ROWS: tl.constexpr):
    """Write the cell of each vector in each repetition.

    Parameters
    ----------
    products, n, columns
        (n, columns) float32: products with all hyperplanes, ``bits`` for each repetition, and with the projections.
    cells
        Output, (n, repetitions) int32: what the signs select, numbered as a Gray code.

    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    repetition = tl.program_id(1)
    cell = tl.zeros([ROWS], tl.int32)
    for i in range(0, bits):
        product = tl.load(products + row * columns + repetition * bits + i, mask=row < n, other=0.0)
        cell = 2 * cell + ((product > 0.0).to(tl.int32) ^ (cell & 1))
    tl.store(cells + row * repetitions + repetition, cell, mask=row < n)


@triton.jit
def sum_cells(
    products, columns, cells, repetitions, bits, width, count, offsets, out, AVERAGE: tl.constexpr, FILL: tl.constexpr,
    CELLS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Sum the projections of each set's vectors, cell by cell, in the order of the vectors.

    Parameters
    ----------
    products, columns, cells, repetitions, bits
        See `find_cells`, of the vectors of all sets; projections are in the columns from ``repetitions * bits`` on.
    width, count
        Numbers of a projection, and cells of a repetition.
    offsets
        (m + 1,) int64: where the vectors of each set begin.
    out
        Output, (m, repetitions, count, width) float32.
    AVERAGE, FILL
        Whether sums are divided by the sizes of the cells; whether an empty cell then takes the projection of the
        vector whose signs are nearest to it, of equally near ones the first.
    CELLS, WIDTH
        Cells of a program, and at least ``width``, both powers of two.

    """
    blocks = (count + CELLS - 1) // CELLS
    program = tl.program_id(0).to(tl.int64)
    block = program % blocks
    repetition = program // blocks % repetitions
    own = program // (blocks * repetitions)
    begin, end = tl.load(offsets + own), tl.load(offsets + own + 1)
    cell = block.to(tl.int32) * CELLS + tl.arange(0, CELLS)
    dims = tl.arange(0, WIDTH)
    values = products + repetitions * bits + repetition * width
    total = tl.zeros([CELLS, WIDTH], tl.float32)
    size = tl.zeros([CELLS], tl.int32)
    nearest = tl.full([CELLS], 0x7FFFFFFFFFFFFFFF, tl.int64)
    for row in range(begin, end):
        at = tl.load(cells + row * repetitions + repetition)
        value = tl.load(values + row * columns + dims, mask=dims < width, other=0.0)
        total = tl.where((cell == at)[:, None], total + value[None, :], total)
        size += (cell == at).to(tl.int32)
        if FILL:
            signs = (cell ^ (cell >> 1)) ^ (at ^ (at >> 1))
            signs = signs - ((signs >> 1) & 0x55555555)
            signs = (signs & 0x33333333) + ((signs >> 2) & 0x33333333)
            differing = (((signs + (signs >> 4)) & 0x0F0F0F0F) * 0x01010101) >> 24
            nearest = tl.minimum(nearest, (differing.to(tl.int64) << 40) + (row - begin))
    if AVERAGE:
        ones = tl.zeros([CELLS], tl.float32) + 1.0
        share = tl.math.div_rn(ones, tl.maximum(size, 1).to(tl.float32))
        total = tl.where((size > 0)[:, None], total * share[:, None], total)
        if FILL:
            is_empty = (size == 0) & (nearest < 0x7FFFFFFFFFFFFFFF)
            row = begin + (nearest & 0xFFFFFFFFFF)
            held = is_empty[:, None] & (dims < width)[None, :]
            near = tl.load(values + row[:, None] * columns + dims[None, :], mask=held, other=0.0)
            total = tl.where(is_empty[:, None], near, total)
    place = ((own * repetitions + repetition) * count + cell)[:, None] * width + dims[None, :]
    tl.store(out + place, total, mask=(cell < count)[:, None] & (dims < width)[None, :])


@triton.jit
def sketch_numbers(numbers, length, order, starts, signs, buckets, out, BUCKETS: tl.constexpr):
    """Add every number of an encoding, times its sign, to its bucket, in the order of the numbers.

    Parameters
    ----------
    numbers, length
        (m, length) float32.
    order, starts, signs
        (length,) int64, the numbers sorted by their buckets; (buckets + 1,) int64, where those of each bucket begin;
        and (length,) float32.
    buckets
        How many there are.
    out
        Output, (m, buckets) float32.

    """
    own = tl.program_id(1).to(tl.int64)
    bucket = tl.program_id(0) * BUCKETS + tl.arange(0, BUCKETS)
    is_bucket = bucket < buckets
    begin = tl.load(starts + bucket, mask=is_bucket, other=0)
    end = tl.load(starts + bucket + 1, mask=is_bucket, other=0)
    total = tl.zeros([BUCKETS], tl.float32)
    for number in range(0, tl.max(end - begin, axis=0)):
        held = begin + number < end
        place = tl.load(order + begin + number, mask=held, other=0)
        sign = tl.load(signs + place, mask=held, other=0.0)
        total = tl.where(held, total + sign * tl.load(numbers + own * length + place, mask=held, other=0.0), total)
    tl.store(out + own * buckets + bucket, total, mask=is_bucket)
