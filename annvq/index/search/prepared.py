"""A filter made ready once, for many searches."""

from __future__ import annotations

from typing import Any

import numpy as np

from annvq.errors import FilterError, StateError
from annvq.index.filters.given import Filter
from annvq.index.rows.snapshot import Snapshot
from annvq.index.search.view import View


class PreparedFilter:
    """The result of `Index.prepare_filter`, which a search takes as ``filter`` at no further cost.

    It follows the index as that changes. Ids and expressions are then applied once more, to the rows that are there;
    a mask is valid only for the rows that it was made for, so it raises FilterError once rows are added or removed.
    It keeps the version to which it was last applied, with the mapped files, even after the index is closed. It can be
    neither copied nor pickled (StateError).
    """

    def __init__(self, given: Any, view: View) -> None:
        """Apply a filter to the rows of ``view``, an index's (FilterError)."""
        parsed = Filter.parse(given, view.snapshot)
        if isinstance(parsed.allowed, np.ndarray):
            parsed = Filter(parsed.allowed.copy())  # it is applied again after the index changes
        self._filter = parsed
        self._applied = view.snapshot, narrowed(view, parsed)

    @property
    def count(self) -> int:
        """The number of rows that passed when the filter was last applied."""
        return self._applied[1].snapshot.searchable_count

    def __repr__(self) -> str:
        return f"PreparedFilter(count={self.count})"

    def __reduce__(self) -> tuple:
        raise StateError("a prepared filter holds rows of its index, and is not copied or sent: prepare it there")

    def on(self, view: View) -> View:
        """Return the rows of ``view``, an index's, that pass (FilterError if a mask is not for these rows)."""
        whole, passing = self._applied  # read together, because another thread may search another version
        if whole is not view.snapshot:
            if isinstance(self._filter.allowed, np.ndarray) and not _have_same_rows(whole, view.snapshot):
                raise FilterError(
                    "the mask was prepared for other rows: vectors were added or removed since, prepare it again"
                )
            passing = narrowed(view, self._filter)
            self._applied = view.snapshot, passing
        return passing


def narrowed(view: View, passing: Filter) -> View:
    """Return a view of the rows that pass a filter."""
    return View(view.trained, passing.narrowed(view.snapshot), view.snapshot.live_count)


def _have_same_rows(a: Snapshot, b: Snapshot) -> bool:
    """Return whether two versions hold the same ids in the same order of insertion."""
    if a.live_count != b.live_count:
        return False
    if a.live_count == 0:
        return True
    before, after = a.ids_in_order(), b.ids_in_order()
    assert before is not None
    assert after is not None
    parts = zip(before.sections().values(), after.sections().values(), strict=True)
    return before.kind == after.kind and all(np.array_equal(one, other) for one, other in parts)
