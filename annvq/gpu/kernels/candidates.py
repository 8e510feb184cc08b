"""The candidates that a program scores again: some places of one query.

Programs are numbered along one axis, because a query may have more candidates than the second axis of a grid is long.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _candidates(places, places_of_query, n, base, ROWS: tl.constexpr):
    """Return the query of a program, where its candidates stand, their rows, and which of them lie among these rows.

    Parameters
    ----------
    places, places_of_query
        (nq, places_of_query) int64, the index-wide rows of candidates, -1 where there is none.
    n, base
        The number of rows, and the index-wide number of row 0.

    """
    blocks = (places_of_query + ROWS - 1) // ROWS
    query = (tl.program_id(0) // blocks).to(tl.int64)
    place = (tl.program_id(0) % blocks) * ROWS + tl.arange(0, ROWS)
    at = query * places_of_query + place
    row = tl.load(places + at, mask=place < places_of_query, other=-1) - base
    inside = (row >= 0) & (row < n) & (place < places_of_query)
    return query, at, tl.where(inside, row, 0), inside
