"""A segment's rows stand in lists: what every scan asks about these.

Rows of list l are ``offsets[l]:offsets[l + 1]``. Packed codes are in blocks of `BLOCK` rows, and every list starts at a
new block.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from annvq.kernels.compile.jit import kernel

BLOCK = 32


class PackedCodes(NamedTuple):
    """A segment's codes in blocks, and what is known of its rows."""

    packed: np.ndarray  # flat uint8, blocks as `scan4.pack` or `scan8.pack` lays them out
    offsets: np.ndarray  # (nlist + 1,) int64, where lists begin in rows
    block_offsets: np.ndarray  # (nlist + 1,) int64, where they begin in blocks
    constants: np.ndarray  # (n,) float32, what is added to the score of a row, or empty
    allow: np.ndarray  # (n,) uint8, which rows may be returned, or empty for all
    mapping: np.ndarray  # (n,) uint32, the row whose code stands in a place, or empty where it is the place's own
    row_base: int  # index-wide number of row 0


class Visits(NamedTuple):
    """The lists that every query visits, and which part of each: work on one query can be shared among threads."""

    lists: np.ndarray  # (nq, nlist) int64, nearest first
    counts: np.ndarray  # (nq,) int64, how many of them
    part: int
    parts: int


def blocks_for(counts: np.ndarray) -> np.ndarray:
    """Return the first block of every list, and the end: (nlist + 1,) int64 from list sizes (nlist,)."""
    return np.concatenate([[0], np.cumsum((np.asarray(counts, np.int64) + BLOCK - 1) // BLOCK)]).astype(np.int64)


@kernel
def list_of(row, offsets):
    """Return the list that holds a segment's row (the last list that begins at or before it)."""
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
    """Return begin and end of one of ``parts`` parts of a list, cut at multiples of 64."""
    if parts == 1:
        return np.int64(0), np.int64(size)
    blocks = (size + 63) // 64
    return blocks * part // parts * 64, min(np.int64(size), blocks * (part + 1) // parts * 64)
