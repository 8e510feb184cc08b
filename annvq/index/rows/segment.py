"""An immutable piece of an index: rows in list order, their codes, ids and attributes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from annvq.arrays import frozen
from annvq.errors import CorruptIndexError
from annvq.index.rows.ids import IdColumn
from annvq.kernels.scan import allow as kernels
from annvq.kernels.scan.lists import blocks_for

if TYPE_CHECKING:
    import pyarrow as pa


NO_MASK = frozen(np.empty(0, np.uint8))


@dataclass(frozen=True)
class Segment:
    """Rows that were written together.

    Parameters
    ----------
    offsets
        (nlist + 1,) int64: rows of list l are ``offsets[l]:offsets[l + 1]``.
    arrays
        Codes, constants and refine rows by section name, in list order.
    ids
        The rows' ids.
    positions
        (n,) int64, each row's place in the order of insertion into this segment.
    attributes
        Arrow table of n rows, or None.
    live
        (n,) uint8, which is 0 where a row was removed; empty if none was.
    base
        Index-wide number of row 0.
    allow
        (n,) uint8, rows that a search may return; empty if all may. Equals ``live`` unless a
        search narrows it with a filter.
    few
        (m,) int64 ascending: the rows that ``allow`` lets pass, where a filter left few; otherwise None.
    name
        Name of the segment's container in the store, or None while it is only in memory.
    found
        What searches found out about the rows, by name; it is not written to files.

    """

    offsets: np.ndarray
    arrays: dict[str, np.ndarray]
    ids: IdColumn
    positions: np.ndarray
    attributes: pa.Table | None = None
    live: np.ndarray = field(default_factory=lambda: NO_MASK)
    base: int = 0
    allow: np.ndarray = field(default_factory=lambda: NO_MASK)
    few: np.ndarray | None = None
    name: str | None = None
    live_name: str | None = None
    found: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Rows, removed ones included."""
        return int(self.offsets[-1])

    @cached_property
    def block_offsets(self) -> np.ndarray:
        """(nlist + 1,) int64: first block of 32 of every list."""
        return blocks_for(np.diff(self.offsets))

    @cached_property
    def spill_block_offsets(self) -> np.ndarray:
        """(nlist + 1,) int64: first block of second codes of every list, see `annvq.index.codes.spill`."""
        return blocks_for(np.diff(self.arrays["spill.offsets"]))

    @cached_property
    def live_count(self) -> int:
        """Rows that are not removed."""
        return int(np.count_nonzero(self.live)) if len(self.live) else self.n

    def insertion_order(self) -> np.ndarray:
        """Return the live rows in the order in which they were inserted, int64 (CorruptIndexError)."""
        order = np.full(self.n, -1, np.int64)
        if self.n:
            if self.positions.max() >= self.n:
                raise CorruptIndexError(f"section positions: {self.positions.max()} among {self.n} rows")
            order[self.positions] = np.arange(self.n)
            if order.min() < 0:
                raise CorruptIndexError("section positions: two rows have the same")
        return order[self.live[order] == 1] if len(self.live) else order

    @cached_property
    def places(self) -> np.ndarray:
        """(n,) uint32: every live row's place in `insertion_order`; 0 for rows that are removed."""
        places = np.zeros(self.n, np.uint32)
        places[self.insertion_order()] = np.arange(self.live_count, dtype=np.uint32)
        return frozen(places)

    def allowed_per_list(self) -> np.ndarray:
        """Return how many rows of every list a search may return, (nlist,) int64."""
        if not len(self.allow):
            return np.diff(self.offsets)
        if self.few is not None:
            lists = np.searchsorted(self.offsets, self.few, side="right") - 1
            return np.bincount(lists, minlength=len(self.offsets) - 1)
        counts = np.empty(len(self.offsets) - 1, np.int64)
        kernels.count_per_list(self.allow, self.offsets, counts)
        return counts

    def allowed(self) -> np.ndarray:
        """Return the rows that a search may return, int64, ascending."""
        if self.few is not None:
            return self.few
        return np.flatnonzero(self.allow != 0) if len(self.allow) else np.arange(self.n)

    def labels(self) -> np.ndarray:
        """Return every row's list, (n,) int64."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def at(self, base: int) -> Segment:
        """Return the same segment with its rows numbered from ``base``."""
        return self if base == self.base else replace(self, base=base)

    def without(self, rows: np.ndarray) -> Segment:
        """Return the segment with ``rows`` removed."""
        live = self.live.copy() if len(self.live) else np.ones(self.n, np.uint8)
        live[rows] = 0
        live = frozen(live)
        return replace(self, live=live, allow=live, live_name=None)

    def narrowed(self, allow: np.ndarray) -> Segment:
        """Return the segment as a search with a filter sees it; ``allow`` (n,) bool or uint8, also of removed rows."""
        allow = allow.view(np.uint8)
        return replace(self, allow=frozen(allow & self.live if len(self.live) else allow))

    def narrowed_to(self, rows: np.ndarray) -> Segment:
        """Return what `narrowed` does for few rows (m,) int64, ascending, in a time that depends on their number."""
        if len(self.live):
            rows = rows[self.live[rows] == 1]
        allow = np.zeros(self.n, np.uint8)  # memory that the system clears as it is touched
        allow[rows] = 1
        return replace(self, allow=frozen(allow), few=rows)

    def narrowed_by_mask(self, mask: np.ndarray) -> Segment:
        """Return the segment as a search with a mask sees it; (live rows,) bool, in the order of insertion."""
        if not len(mask):
            return replace(self, allow=frozen(np.zeros(self.n, np.uint8)))
        allow = np.empty(self.n, np.uint8)
        kernels.fill_allow(frozen(mask).view(np.uint8), self.places, self.live, allow)
        return replace(self, allow=frozen(allow))
