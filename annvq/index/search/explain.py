"""What a search did, and how long it took."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Explanation:
    """How a search found its hits, as `Index.search` with ``explain=True`` tells in ``hits.explain``.

    Parameters
    ----------
    strategy
        "lists": the nearest lists are scanned; "mask in lists": they are, but only rows that pass the filter are kept;
        "graph" and "mask in graph": the same of a graph that is walked; "exact over few rows": so few rows pass that
        each of them is scored, as precisely as the index can.
    lists
        Lists that a query looked into, on average.
    rows_scanned
        Rows of these lists per query, on average, whether or not they pass the filter; 0 if no list is scanned. Of a
        graph, the neighbours of the vertices that were visited.
    rows_rescored
        Rows per query, on average, that were scored precisely.
    seconds
        The time by stage: "filter" (finding the rows that pass), "prepare" (rotating queries, choosing lists, tables),
        "scan", "rescore" and "sort". Times of threads that work side by side are added up.

    """

    strategy: str
    lists: float
    rows_scanned: float
    rows_rescored: float
    seconds: dict[str, float]

    @classmethod
    def of(cls, strategy: str, traces: Sequence[Trace], queries: int) -> Explanation:
        """Sum up what was done for a number of queries."""
        seconds: dict[str, float] = {}
        for trace in traces:
            for stage, spent in trace.seconds.items():
                seconds[stage] = seconds.get(stage, 0.0) + spent
        each = max(1, queries)
        return cls(
            strategy,
            sum(trace.lists for trace in traces) / each,
            sum(trace.rows_scanned for trace in traces) / each,
            sum(trace.rows_rescored for trace in traces) / each,
            seconds,
        )


@dataclass
class Trace:
    """What was done in one place, such as for one block of queries; the first stage begins when it is made."""

    lists: int = 0
    rows_scanned: int = 0
    rows_rescored: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    _last: float = field(default_factory=time.perf_counter)

    def ends(self, stage: str) -> None:
        """Book the time since the last stage."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now
