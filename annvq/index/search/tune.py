"""Tuning: measure recall and time on given queries, and take the fastest setting that is good enough."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from annvq.errors import ParameterError
from annvq.index.rows.snapshot import Snapshot
from annvq.index.search.params import SearchParams
from annvq.index.trained import Trained

_PASSES = 3
_RERANKS = (2, 3, 4, 8, 16, 32, 64)  # times k; `Index.search` takes no fewer unless told to
_NOISE = 0.05  # of a timing: settings this close to the fastest count as equally fast


@dataclass(frozen=True)
class Measured:
    """One setting: recall@k against exhaustive search, and queries per second with one query per call."""

    nprobe: int
    rerank: int
    recall: float
    qps: float


@dataclass(frozen=True)
class TuneReport:
    """What `Index.tune` measured.

    ``chosen`` is the fastest setting that reaches ``target`` (among those that timing cannot tell apart, the one
    that rescores least), or the one with the best recall if none does; ``reached`` is then False. Recall is
    measured against ``truth``, "refine store" or "codes", with which every row is scored. ``asked`` is "queries", or
    "rows" if rows of the index stood in for queries: those that are unlike the rows, such as questions among answers,
    have their neighbours in more lists, so that less is found.
    """

    chosen: Measured
    reached: bool
    target: float
    k: int
    queries: int
    truth: str
    measured: tuple[Measured, ...] = field(repr=False)
    asked: str = "queries"

    @property
    def params(self) -> SearchParams:
        """The chosen setting, as searches take it."""
        return SearchParams(self.chosen.nprobe, self.chosen.rerank)

    def to_dict(self) -> dict:
        """Return plain values."""
        return asdict(self)


def tune(
    trained: Trained,
    snapshot: Snapshot,
    queries: np.ndarray,
    k: int,
    target: float,
    threads: int,
    find: Callable[[np.ndarray, int, SearchParams, int], np.ndarray],
    own: np.ndarray | None = None,
) -> TuneReport:
    """Sweep nprobe and rerank on ``queries (nq, d)``, see `TuneReport`.

    For every number of candidates the smallest sufficient nprobe is found by doubling and bisection, because
    recall rises with both; of a graph, which has no lists, the shortest sufficient queue is. Where rows of the index
    are the queries, ``own`` (nq,) int64 says which, and none of them counts among its own neighbours. ``find`` returns
    the best k rows (nq, k) int64 of queries at a depth, with so many threads.

    Raises
    ------
    ParameterError
        The index holds k rows or fewer, so that every setting would find them all.

    """
    if k >= snapshot.live_count:
        message = f"tuning needs more rows than k: k={k}, the index holds {snapshot.live_count}"
        raise ParameterError(message)
    everything = SearchParams(trained.nlist, snapshot.live_count)

    def found(depth: SearchParams) -> np.ndarray:
        if own is None:
            return find(queries, k, depth, threads)
        return _without(find(queries, k + 1, depth, threads), own)

    truth = found(everything)
    measured: dict[SearchParams, Measured] = {}

    def recall_at(depth: SearchParams) -> float:
        if depth not in measured:
            measured[depth] = Measured(depth.nprobe, depth.rerank, recall_of(found(depth), truth), 0.0)
        return measured[depth].recall

    def is_enough(depth: SearchParams) -> bool:
        return recall_at(depth) >= target

    candidates = (_least_queue if trained.kind.is_graph else _least_probes)(is_enough, trained, snapshot, k)
    reached = bool(candidates)
    if not reached:
        best = max(measured.values(), key=lambda one: (one.recall, -one.nprobe, -one.rerank))
        candidates = [SearchParams(best.nprobe, best.rerank)]
    speeds = _queries_per_second(find, queries, k, candidates)
    for depth, qps in speeds.items():
        measured[depth] = replace(measured[depth], qps=qps)
    fast_enough = (1 - _NOISE) * max(speeds.values())
    chosen = measured[min((d for d, qps in speeds.items() if qps >= fast_enough), key=lambda d: d.rerank)]
    source = "refine store" if trained.refine is not None else "codes"
    asked = "queries" if own is None else "rows"
    return TuneReport(chosen, reached, target, k, len(queries), source, tuple(measured.values()), asked)


def _without(rows: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return rows (nq, k + 1) without ``own`` (nq,), and without the last where that is not among them."""
    behind = np.argsort(rows == own[:, None], axis=1, kind="stable")
    return np.take_along_axis(rows, behind, axis=1)[:, :-1]


def _least_probes(
    is_enough: Callable[[SearchParams], bool], trained: Trained, snapshot: Snapshot, k: int
) -> list[SearchParams]:
    """Return the least number of lists that is enough for each number of candidates with which there is one."""
    most = max(k, snapshot.live_count)
    # without a refine store there is nothing to rescore with
    reranks = sorted({min(k * times, most) for times in _RERANKS}) if trained.rescores else [k]
    found = [(_least(lambda n, r=r: is_enough(SearchParams(n, r)), 1, trained.nlist), r) for r in reranks]
    return [SearchParams(nprobe, rerank) for nprobe, rerank in found if nprobe is not None]


def _least_queue(
    is_enough: Callable[[SearchParams], bool], trained: Trained, snapshot: Snapshot, k: int
) -> list[SearchParams]:
    """Return the shortest queue of a graph that is enough, if there is one."""

    def depth(length: int) -> SearchParams:
        return SearchParams(trained.nlist, min(length, snapshot.live_count))

    shortest, longest = (min(k * times, snapshot.live_count) for times in (_RERANKS[0], _RERANKS[-1]))
    length = _least(lambda length: is_enough(depth(length)), shortest, longest)
    return [] if length is None else [depth(length)]


def _least(is_enough: Callable[[int], bool], first: int, most: int) -> int | None:
    """Return the least number from ``first`` to ``most`` for which ``is_enough``, or None."""
    high = first
    while not is_enough(high):
        if high == most:
            return None
        high = min(2 * high, most)
    low = max(high // 2, first - 1)  # not enough, or not asked for
    while high - low > max(1, high // 16):  # finer steps than this drown in the noise of timing
        middle = (low + high) // 2
        if is_enough(middle):
            high = middle
        else:
            low = middle
    return high


def recall_of(rows: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of the true rows (nq, k), -1 where missing, that were found."""
    wanted = (truth >= 0).sum()
    found = sum(np.isin(got[got >= 0], want).sum() for got, want in zip(rows, truth, strict=True))
    return float(found / wanted) if wanted else 1.0


def _queries_per_second(
    find: Callable[[np.ndarray, int, SearchParams, int], np.ndarray],
    queries: np.ndarray,
    k: int,
    depths: list[SearchParams],
) -> dict[SearchParams, float]:
    """Time one query per call on one thread: the best of some passes over at most 256 queries.

    Every pass covers all depths, so that a slow moment of the machine does not affect only one of them;
    the first pass only warms up.
    """
    some = queries[:256]
    best = {depth: math.inf for depth in depths}
    for turn in range(1 + _PASSES):
        for depth in depths:
            start = time.perf_counter()
            for q in range(len(some)):
                find(some[q : q + 1], k, depth, 1)
            if turn:
                best[depth] = min(best[depth], time.perf_counter() - start)
    return {depth: len(some) / seconds for depth, seconds in best.items()}


def best_of(call: Callable[[], object]) -> float:
    """Return the least time of some calls in seconds; the first does not count."""
    best = math.inf
    for turn in range(1 + _PASSES):
        start = time.perf_counter()
        call()
        if turn:
            best = min(best, time.perf_counter() - start)
    return best
