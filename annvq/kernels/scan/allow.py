"""The rows of a segment that a search may return.

They are brought from the order of a mask into the order of the lists, and counted per list.
"""

from __future__ import annotations

import numpy as np

from annvq.kernels.compile.jit import kernel


@kernel
def fill_allow(mask, places, live, allow):
    """Write for every row whether it may be returned, as one byte.

    Parameters
    ----------
    mask
        (live rows,) uint8 in the order of insertion; not 0 for a row that passes the filter.
    places
        (n,) uint32: the place of every row in ``mask``; any valid place for a row that has been removed.
    live
        (n,) uint8, 0 for rows that have been removed; empty if there are none.
    allow
        Output, (n,) uint8.

    """
    for row in range(places.size):
        allow[row] = np.uint8(mask[places[row]] != 0)
    for row in range(live.size):
        allow[row] &= np.uint8(live[row] != 0)


@kernel
def count_per_list(allow, offsets, counts):
    """Write the number of allowed rows of every list to ``counts (nlist,)`` int64.

    ``allow`` is (n,) uint8, in which rows that are not 0 are allowed; ``offsets`` is (nlist + 1,) int64.
    """
    for l in range(counts.size):
        rows = allow[offsets[l] : offsets[l + 1]]
        count = np.int32(0)
        for i in range(rows.size):
            count += np.int32(rows[i] != 0)
        counts[l] = count
