"""Fixed-dimensional encodings of sets of vectors (MUVERA, Dhulipala et al. 2024, section 2).

In every repetition, hyperplanes divide the space into cells. The encoding holds, for each cell of each repetition, the
sum or the mean of the projections of the vectors that lie in the cell.
"""

from __future__ import annotations

import numpy as np

from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import empty
from annvq.kernels.registers.tiles import LANES, ROWS
from annvq.kernels.vectors.gemm import fill_products

_ROWS_AT_ONCE = 64  # vectors of a set at a time; their products stay in the second-level cache


@kernel
def _cell_of(products, row, first, bits):
    """Return the cell that the signs of ``bits`` products select, numbered as a Gray code."""
    cell = np.int64(0)
    for i in range(bits):
        sign = np.int64(1) if products[row, first + i] > np.float32(0.0) else np.int64(0)
        cell = 2 * cell + (sign ^ (cell & 1))
    return cell


@kernel
def _spread(nearest, bits):
    """Find for every cell the nearest cell that has vectors; the distance is the number of signs that differ.

    ``nearest`` is (cells, 2) int64. On entry, a cell with vectors holds the place of its first vector in the set, and
    its own number; an empty cell holds `_FAR` instead of the place. On return, the first number is `_STEP` times the
    distance to the nearest cell, plus the place of that cell's first vector, and the second is the number of that cell.
    Of equally near vectors, the one that comes first in the set is taken. The cells are corners of a cube, so that the
    distances are found one dimension of the cube after the other.
    """
    for bit in range(bits):
        for cell in range(nearest.shape[0]):
            binary = cell ^ (cell >> 1)
            other = binary ^ (np.int64(1) << np.int64(bit))
            if other < binary:
                continue
            across, shift = other, np.int64(1)
            while shift < bits:  # from the signs back to the number of the cell
                across ^= across >> shift
                shift *= 2
            here, there = nearest[cell, 0], nearest[across, 0]
            if there + _STEP < here:
                nearest[cell, 0], nearest[cell, 1] = there + _STEP, nearest[across, 1]
            elif here + _STEP < there:
                nearest[across, 0], nearest[across, 1] = here + _STEP, nearest[cell, 1]


_STEP = np.int64(1) << np.int64(40)  # one bit of distance outweighs any place in a set
_FAR = np.int64(1) << np.int64(60)


@kernel
def _finish(sums, sizes, firsts, places, bits, fill, nearest):
    """Divide the sums of one repetition by the sizes of the cells; if ``fill``, give empty cells the nearest vector.

    That is the first vector of the nearest cell that has any.

    Parameters
    ----------
    sums, sizes
        (cells, width) float32 and (cells,) int64, of which the sums are replaced.
    firsts, places
        (cells, width) float32 and (cells,) int64: the projection of each cell's first vector, and its place in the set.
    bits
        Number of hyperplanes.
    fill
        Whether empty cells are filled.
    nearest
        Scratch, (cells, 2) int64.

    """
    cells, width = sums.shape
    for cell in range(cells):
        nearest[cell, 0], nearest[cell, 1] = _FAR, cell
        if sizes[cell] > 0:
            nearest[cell, 0] = places[cell]
            share = np.float32(1.0) / np.float32(sizes[cell])
            for i in range(width):
                sums[cell, i] = sums[cell, i] * share
    if not fill:
        return
    _spread(nearest, bits)
    for cell in range(cells):
        if sizes[cell] == 0:
            for i in range(width):
                sums[cell, i] = firsts[nearest[cell, 1], i]


@kernel
def _gather(products, count, place, bits, width, sums, sizes, firsts, places):
    """Add the projections of ``count`` vectors to the sums of their cells, in every repetition.

    ``products`` holds the products of the vectors with all hyperplanes, followed by those with all projections;
    ``place`` is the place of the first of them in the set. The other parameters are those of `_finish`, with an
    additional axis of repetitions.
    """
    repetitions = sums.shape[0]
    for row in range(count):
        for r in range(repetitions):
            cell = _cell_of(products, row, r * bits, bits)
            column = repetitions * bits + r * width
            if sizes[r, cell] == 0:
                places[r, cell] = place + row
                for i in range(width):
                    firsts[r, cell, i] = products[row, column + i]
            sizes[r, cell] += 1
            for i in range(width):
                sums[r, cell, i] += products[row, column + i]


@kernel
def encode(vectors, offsets, panels, repetitions, bits, width, average, fill, buckets, signs, out):
    """Encode sets of vectors.

    Parameters
    ----------
    vectors, offsets
        (n, d) float32, and (m + 1,) int64: set i is ``vectors[offsets[i]:offsets[i + 1]]``.
    panels
        A matrix (repetitions * (bits + width), d), packed by `annvq.kernels.vectors.gemm.pack`: the hyperplanes of all
        repetitions, followed by their projections.
    repetitions, bits, width
        There are 2**bits cells per repetition, with ``width`` numbers each.
    average, fill
        Whether the vectors of a cell are averaged rather than summed; whether, if they are averaged, empty cells are
        filled.
    buckets, signs
        (repetitions * 2**bits * width,) int64 and float32: the count sketch, which adds every number, times its sign,
        to its bucket; empty if there is none.
    out
        Output, (m, repetitions * 2**bits * width or the size of the sketch) float32; zeros for an empty set.

    """
    cells = 1 << bits
    columns = repetitions * (bits + width)
    tile = empty(ROWS * LANES, np.float32)
    products = empty((_ROWS_AT_ONCE, columns), np.float32)
    sums = empty((repetitions, cells, width), np.float32)
    firsts = empty((repetitions, cells, width), np.float32)
    sizes = empty((repetitions, cells), np.int64)
    places = empty((repetitions, cells), np.int64)
    nearest = empty((cells, 2), np.int64)
    for m in range(offsets.size - 1):
        sums[:] = np.float32(0.0)
        sizes[:] = 0
        begin, end = offsets[m], offsets[m + 1]
        for start in range(begin, end, _ROWS_AT_ONCE):
            count = min(np.int64(_ROWS_AT_ONCE), end - start)
            fill_products(vectors[start : start + count], panels, columns, tile, products[:count])
            _gather(products, count, start - begin, bits, width, sums, sizes, firsts, places)
        if average and end > begin:
            for r in range(repetitions):
                _finish(sums[r], sizes[r], firsts[r], places[r], bits, fill, nearest)
        flat = sums.reshape(repetitions * cells * width)
        if buckets.size == 0:
            out[m, :] = flat
        else:
            out[m, :] = np.float32(0.0)
            for i in range(flat.size):
                out[m, buckets[i]] += signs[i] * flat[i]
