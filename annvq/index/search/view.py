"""The view that one search has of an index: all of its rows, or those that pass a filter."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from annvq.index.rows.snapshot import Snapshot
from annvq.index.search.fused import Fused
from annvq.index.trained import Trained


@dataclass(frozen=True)
class View:
    """An index's learned parts and a snapshot, whose segments may be narrowed by a filter."""

    trained: Trained
    snapshot: Snapshot

    @cached_property
    def fused(self) -> Fused | None:
        """What the search in one kernel call takes; None if the index is of another kind."""
        return Fused.of(self.trained, self.snapshot)
