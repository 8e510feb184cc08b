"""The lists of a segment, as every scan uses them.

The rows of list l are ``offsets[l]:offsets[l + 1]``. Packed codes are stored in blocks of `BLOCK` rows, and every list
starts at a new block.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from annvq.kernels.compile.jit import kernel

BLOCK = 32


class PackedCodes(NamedTuple):
    """A segment's codes in blocks, and what else a scan needs to know of its rows."""

    packed: np.ndarray  # flat uint8: blocks, packed by `annvq.kernels.scan.scan4` or `annvq.kernels.scan.scan8`
    offsets: np.ndarray  # (nlist + 1,) int64, the first row of every list, and the end
    block_offsets: np.ndarray  # (nlist + 1,) int64, the first block of every list, and the end
    constants: np.ndarray  # (n,) float32, added to the scores of the rows; or empty
    allow: np.ndarray  # (n,) uint8, not 0 for rows that may be returned; empty if all may
    mapping: np.ndarray  # (n,) uint32, the row whose code is in each place; empty if place i has row i
    row_base: int  # the index-wide number of row 0


class Visits(NamedTuple):
    """The lists that every query visits, and the part of each list: threads can share the work on one query."""

    lists: np.ndarray  # (nq, nlist) int64, nearest first
    counts: np.ndarray  # (nq,) int64, the number of lists that a query visits
    part: int  # the number of the part, 0 .. parts - 1
    parts: int  # how many parts every list is cut into


def blocks_for(counts: np.ndarray) -> np.ndarray:
    """Return the first block of every list, and the end, (nlist + 1,) int64, from the sizes of the lists (nlist,)."""
    return np.concatenate([[0], np.cumsum((np.asarray(counts, np.int64) + BLOCK - 1) // BLOCK)]).astype(np.int64)


@kernel
def list_of(row, offsets):
    """Return the list that holds a row of the segment: the last list that begins at or before it."""
    low, high = np.int64(0), np.int64(offsets.size - 1)
    while high - low > 1:
        middle = (low + high) // 2
        if offsets[middle] <= row:
            low = middle
        else:
            high = middle
    return low


@kernel
def part_of(size, part, parts):
    """Return begin and end of part ``part`` of a list.

    A list of ``size`` rows is cut into ``parts`` parts at multiples of 64.
    """
    if parts == 1:
        return np.int64(0), np.int64(size)
    blocks = (size + 63) // 64
    return blocks * part // parts * 64, min(np.int64(size), blocks * (part + 1) // parts * 64)
