"""Which rows of a segment a search may return: from a mask to the order of the lists, counted by list."""

from __future__ import annotations

import numpy as np

from annvq.kernels.compile.jit import kernel


@kernel
def fill_allow(mask, places, live, allow):
    """Write which rows may be returned, a byte each.

    Parameters
    ----------
    mask
        (live rows,) uint8, not 0 where a row passes, in the order of insertion.
    places
        (n,) uint32, every row's place in ``mask``; any place there is for rows that are removed.
    live
        (n,) uint8, 0 for rows that are removed; empty when none is.
    allow
        Output, (n,) uint8.

    """
    for row in range(places.size):
        allow[row] = np.uint8(mask[places[row]] != 0)
    for row in range(live.size):
        allow[row] &= np.uint8(live[row] != 0)


@kernel
def count_per_list(allow, offsets, counts):
    """Write how many of every list's rows are allowed; ``offsets (nlist + 1,)``, ``counts (nlist,)`` int64."""
    for l in range(counts.size):
        rows = allow[offsets[l] : offsets[l + 1]]
        count = np.int32(0)
        for i in range(rows.size):
            count += np.int32(rows[i] != 0)
        counts[l] = count
