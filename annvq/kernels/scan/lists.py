"""A segment's rows stand in lists: what every scan asks about these.

Rows of list l are ``offsets[l]:offsets[l + 1]``. Packed codes are in blocks of `BLOCK` rows, and every list starts at a
new block.
"""

from __future__ import annotations

import numpy as np

from annvq.kernels.compile.jit import kernel

BLOCK = 32


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
