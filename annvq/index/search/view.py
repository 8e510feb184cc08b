"""The view that one search has of an index: all of its rows, or those that pass a filter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from annvq.index.rows.snapshot import Snapshot
from annvq.index.search.fused import Fused
from annvq.index.trained import Trained
from annvq.kernels.graph.walk import queue_length

# Nanoseconds, as measured with bench/filter_speed.py on one thread of an AMD EPYC of the fourth generation.
_CHOICE = 50_000  # to choose lists and fill tables for a query
_PER_ROW = 20  # to find a row among others and score it, besides its bytes
_BYTES_SCORED = 4  # bytes of scattered rows, or
_BYTES_SCANNED = 16  # of codes that lie one after the other, per nanosecond
_WIDENING = 0.45  # the least exponent for which recall does not fall on any of the data measured (docs/design.md)


@dataclass(frozen=True)
class View:
    """An index's learned parts and a snapshot, whose segments may be narrowed by a filter.

    ``whole`` is the number of rows before a filter was applied, or None without one.
    """

    trained: Trained
    snapshot: Snapshot
    whole: int | None = None

    @cached_property
    def few(self) -> np.ndarray | None:
        """The rows that pass a filter (m,) int64, if scoring each of them costs less than a scan; otherwise None."""
        if self.whole is None or self.whole == (count := self.snapshot.searchable_count):
            return None
        row_cost, scan_cost = self._costs
        if count * row_cost > scan_cost:
            return None
        rows = [segment.allowed() + segment.base for segment in self.snapshot.segments]
        return np.concatenate([np.empty(0, np.int64), *rows])

    @property
    def _costs(self) -> tuple[float, float]:
        """The nanoseconds to score one row precisely; and to choose and scan the lists that are searched by default."""
        trained = self.trained
        if trained.kind.is_graph:
            return self._costs_of_graph
        sizes = {name: section.bytes_per_row for name, section in trained.layout.items()}
        refined = sizes.pop("refine", 0)
        coded = sum(sizes.values())
        codes = self.snapshot.rows * self.lists(trained.default_depth.nprobe) / trained.nlist
        return _PER_ROW + (refined or coded) / _BYTES_SCORED, _CHOICE + codes * coded / _BYTES_SCANNED

    @property
    def _costs_of_graph(self) -> tuple[float, float]:
        """Do what `_costs` does; the fewer rows pass, the more vertices are visited (`queue_length`)."""
        trained, count = self.trained, self.snapshot.searchable_count
        vector = trained.kind.telling_bytes(trained.recipe.codebook, trained.dim)
        visited = queue_length(trained.default_depth.rerank, self.snapshot.rows, max(1, count))
        visit_cost = _PER_ROW + trained.bytes_per_vector / _BYTES_SCORED
        return _PER_ROW + vector / _BYTES_SCORED, _CHOICE + visited * visit_cost

    @property
    def strategy(self) -> str:
        """What a search does, as `annvq.index.search.explain.Explanation` calls it."""
        if self.few is not None:
            return "exact over few rows"
        where = "graph" if self.trained.kind.is_graph else "lists"
        return where if self.whole is None else f"mask in {where}"

    @cached_property
    def widening(self) -> float:
        """By how much more lists are searched, and candidates rescored, than without a filter.

        The best of the rows that pass lie farther away, in more lists, the fewer pass; and there, codes tell the near
        from the far less well. A graph is searched further by itself (`queue_length`).
        """
        if self.whole is None or self.trained.kind.is_graph:
            return 1.0
        return (self.whole / max(1, self.snapshot.searchable_count)) ** _WIDENING

    def lists(self, nprobe: int) -> int:
        """Return how many lists are searched where ``nprobe`` were asked for."""
        return nprobe if self.whole is None else min(self.trained.nlist, math.ceil(nprobe * self.widening))

    def candidates(self, rerank: int) -> int:
        """Return how many candidates are rescored where ``rerank`` were asked for, at most as many as pass."""
        if self.whole is None:
            return rerank
        return min(math.ceil(rerank * self.widening), self.snapshot.searchable_count)

    @cached_property
    def fused(self) -> Fused | None:
        """What the search in one kernel call takes; None if the search is of another kind."""
        return None if self.few is not None else Fused.of(self.trained, self.snapshot, self.widening)
