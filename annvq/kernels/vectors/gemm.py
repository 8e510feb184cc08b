"""Inner products of many rows with many rows: a matrix product whose results do not depend on the batch.

Every product is summed in the order of the dimensions (see `annvq.kernels.registers.tiles`).
"""

from __future__ import annotations

import numpy as np

from annvq.kernels import threads as pool
from annvq.kernels.compile.jit import kernel
from annvq.kernels.registers.tiles import LANES, ROWS, WIDE, aligned, readonly, store_row, store_tile, store_wide_row

_ROWS_A_TASK = 256


def to_bfloat16(rows: np.ndarray) -> np.ndarray:
    """Return finite float32 numbers rounded to the nearest bfloat16 numbers, ties to even, as float32.

    bfloat16 numbers are the float32 numbers whose lower 16 bits are zero.
    """
    bits = np.ascontiguousarray(rows, np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32)


def is_bfloat16(rows: np.ndarray) -> bool:
    """Return whether all float32 numbers in ``rows`` are bfloat16 numbers, as `to_bfloat16` returns them."""
    return not (rows.view(np.uint32) & np.uint32(0xFFFF)).any()


def pack(rows: np.ndarray, *, halved: bool = False) -> np.ndarray:
    """Lay rows out as panels for `products`.

    Parameters
    ----------
    rows
        (k, d) float32.
    halved
        Whether to keep only the upper 16 bits of every number, so that there is half as much to read. Nothing is lost
        if `is_bfloat16` holds for the rows.

    Returns
    -------
    panels
        (ceil(k / LANES), d, LANES) float32, read-only; row ``j`` is ``panels[j // LANES, :, j % LANES]``, and lanes
        beyond the last row are zero. If ``halved``, the panels are uint16: the upper halves of the bits of these
        numbers.

    """
    k, d = rows.shape
    count = -(-k // LANES)
    if halved:
        rows = (rows.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    panels = aligned(count * d * LANES, rows.dtype).reshape(count, d, LANES)
    panels[-1:] = 0
    for panel in range(count):
        part = rows[panel * LANES : (panel + 1) * LANES]
        panels[panel, :, : len(part)] = part.T
    return readonly(panels)


@kernel
def fill_products(rows, panels, k, tile, out):
    """Fill ``out (n, k)`` with the inner products of ``rows (n, d)`` and the k rows packed in ``panels``.

    ``rows`` and ``out`` are float32; ``tile`` is scratch, (ROWS * LANES,) float32.
    """
    n, d = rows.shape
    whole = n - n % ROWS
    for panel in range(panels.size // max(1, d * LANES)):
        at = panel * d * LANES
        column = panel * LANES
        fits = column + LANES <= k
        for row in range(0, whole, ROWS):
            if fits:
                store_tile(rows, row * d, d, panels, at, LANES, d, out, row * k + column, k)
            else:
                store_tile(rows, row * d, d, panels, at, LANES, d, tile, 0, LANES)
                for r in range(ROWS):
                    for lane in range(k - column):
                        out[row + r, column + lane] = tile[r * LANES + lane]
    for row in range(whole, n):
        column = np.int64(0)
        while column + WIDE * LANES <= k:
            store_wide_row(rows, row * d, d, panels, column * d, LANES, d, out, row * k + column, k)
            column += WIDE * LANES
        while column < k:
            store_row(rows, row * d, d, panels, column * d, LANES, d, tile, 0, LANES)
            for lane in range(min(LANES, k - column)):
                out[row, column + lane] = tile[lane]
            column += LANES


def products(rows: np.ndarray, panels: np.ndarray, k: int, *, threads: int = 1) -> np.ndarray:
    """Return the inner products of ``rows`` with the ``k`` rows packed in ``panels``.

    Parameters
    ----------
    rows
        (n, d) float32, C-contiguous.
    panels
        The packed rows, as `pack` returns them.
    k
        Number of packed rows.
    threads
        Number of threads; the result does not depend on it.

    Returns
    -------
    products
        (n, k) float32.

    """
    out = np.empty((len(rows), k), np.float32)
    if rows.shape[1] == 0:
        out[:] = 0
        return out

    def fill(part: slice) -> None:
        fill_products(readonly(rows[part]), panels, k, aligned(ROWS * LANES), out[part])

    pool.run(fill, pool.slices(len(rows), -(-len(rows) // _ROWS_A_TASK)), threads)
    return out
