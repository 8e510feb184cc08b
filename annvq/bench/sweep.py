"""One index measured over all its search parameters.

Queries are split into two halves: parameters are chosen on the tuning half, and figures are reported from
the other, so that no index profits from the luck of its best of many settings.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, product
from typing import Any

import numpy as np

from annvq.bench.cpu import one_cpu
from annvq.bench.peers import Params, Peer
from annvq.bench.timing import Search, Timing, time_batches, time_singles
from annvq.evaluation import exact_scores, recall_with_ties

TARGETS = (0.90, 0.95, 0.99)  # recalls at which indexes are compared
SATURATED = 0.998  # beyond the targets; closer to 1, searches are slow and say little
_LEAST_GAIN = 0.0005  # recall gained by one step of a series, below which it may have ended
_FAR = 1.5  # times as fast at no less recall: a setting beaten by this in one mode is not measured in others
_HALVINGS = 2  # of the step in which a series reaches a target: before, settings are 1.4 times apart
_LATENCY_QUERIES = 500  # measured one by one when throughput is measured in batches
_WARM_QUERIES = 16

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Half:
    """Queries (nq, d) and the scores (nq, k) float64 of their exact neighbours."""

    queries: np.ndarray
    exact: np.ndarray


@dataclass(frozen=True)
class Problem:
    """The problem that every index has to solve: neighbours of queries among ``base`` (n, d) float32."""

    base: np.ndarray
    metric: str
    k: int
    tuning: Half
    reporting: Half


@dataclass(frozen=True)
class Mode:
    """How queries are submitted: one per call, all at once or so many per call, and on how many threads."""

    single: bool
    threads: int
    batch: int | None = None

    def __str__(self) -> str:
        calls = "one batch" if self.batch is None else f"batches of {self.batch:,}"
        return f"{'one query per call' if self.single else calls}, threads {self.threads}"

    def row(self) -> dict[str, Any]:
        """Return the mode as keys of a row; the size of a batch only if one is set."""
        batch = {} if self.batch is None else {"batch": self.batch}
        return {"single": self.single, "threads": self.threads, **batch}


@dataclass(frozen=True)
class Point:
    """One setting of one index, measured on both halves."""

    lib: str
    recipe: str
    mode: Mode
    params: Params
    tuning_recall: float
    tuning_qps: float
    recall: float
    qps: float
    latency_ms_mean: float
    latency_ms_p50: float
    latency_ms_p99: float
    build_s: float
    bytes_per_vector: float
    cores_used: float

    def row(self) -> dict[str, Any]:
        """Return the point as a row of `bench ann`: the reporting half only."""
        return {
            "recipe": self.recipe,
            "lib": self.lib,
            "recall": round(self.recall, 5),
            "qps": round(self.qps, 1),
            "latency_ms_mean": round(self.latency_ms_mean, 4),
            "latency_ms_p50": round(self.latency_ms_p50, 4),
            "latency_ms_p99": round(self.latency_ms_p99, 4),
            "build_s": round(self.build_s, 3),
            "bytes_per_vector": round(self.bytes_per_vector, 1),
            "params": self.params,
            **self.mode.row(),
        }


def sweep(
    peer: Peer,
    problem: Problem,
    modes: Sequence[Mode],
    build_threads: int,
    started: Callable[[int], None],
    advance: Advance,
) -> list[Point]:
    """Build an index and measure it at each of its settings in the first mode, at the good ones in the others.

    A series of settings ends early once its recall is above 0.998 or has stopped growing. When it passes one of
    `TARGETS`, settings in between are measured too, for every library alike.

    Parameters
    ----------
    peer
        The index, not built yet.
    problem, modes
        What to search, and how.
    build_threads
        Threads to build with.
    started
        Called with the number of settings ahead once the index is built, and again whenever there are more.
    advance
        Called with the number of settings measured or skipped.

    """
    begin = time.perf_counter()
    peer.build(problem.base, problem.metric, build_threads)
    build_s = time.perf_counter() - begin
    size = peer.bytes_per_vector()

    def measure(mode: Mode, params: Params) -> Point:
        advance(1)
        return _measure(peer, problem, mode, params, build_s, size)

    first, *others = modes
    series = peer.settings(problem.k)
    started(sum(len(settings) for settings in series))
    curves: list[list[Point]] = []
    for settings in series:
        curve: list[Point] = []
        for params in settings:
            curve.append(measure(first, params))
            if _has_ended([point.tuning_recall for point in curve]):
                break
        advance(len(settings) - len(curve))
        curves.append(curve)

    def measure_between(params: Params) -> Point:
        started(1)
        return measure(first, params)

    for curve, target in product(curves, TARGETS):
        _refine(curve, target, near_front(list(chain(*curves))), measure_between)
    points = list(chain(*curves))
    worth = near_front(points)
    started(len(others) * len(worth))
    return points + [measure(mode, point.params) for mode, point in product(others, worth)]


def _refine(curve: list[Point], target: float, good: Sequence[Point], measure: Callable[[Params], Point]) -> None:
    """Halve the step in which a series reaches a target, if that is not far from the fastest way to reach it."""
    for halving in range(_HALVINGS):
        at = next((i for i, point in enumerate(curve) if point.tuning_recall >= target), 0)
        if at == 0 or (halving == 0 and curve[at] not in good):
            return
        params = _between(curve[at - 1].params, curve[at].params)
        if params is None:
            return
        curve.insert(at, measure(params))


def _between(low: Params, high: Params) -> Params | None:
    """Return the setting half-way between two of a series, or None if there is none."""
    middle = {name: (low[name] + high[name]) // 2 for name in high}
    return None if middle == low else middle


def _has_ended(recalls: Sequence[float]) -> bool:
    if recalls[-1] > SATURATED:
        return True
    return len(recalls) > 2 and recalls[-1] > 0.5 and recalls[-1] - recalls[-3] < 2 * _LEAST_GAIN


def _measure(peer: Peer, problem: Problem, mode: Mode, params: Params, build_s: float, size: float) -> Point:
    (tuning, reporting), latencies = _timed(peer, problem, mode, params, (problem.tuning, problem.reporting))
    return Point(
        lib=peer.lib,
        recipe=peer.recipe,
        mode=mode,
        params=params,
        tuning_recall=_recall(tuning, problem, problem.tuning),
        tuning_qps=tuning.qps,
        build_s=build_s,
        bytes_per_vector=size,
        cores_used=max(tuning.cores_used, reporting.cores_used),
        **_reported(reporting, latencies, problem),
    )


def measure_again(peer: Peer, point: Point, problem: Problem) -> Point:
    """Return a point with its figures of the reporting half measured anew."""
    (reporting,), latencies = _timed(peer, problem, point.mode, point.params, (problem.reporting,))
    return replace(point, **_reported(reporting, latencies, problem))


def _timed(
    peer: Peer, problem: Problem, mode: Mode, params: Params, halves: Sequence[Half]
) -> tuple[list[Timing], np.ndarray]:
    """Return a timing per half, and the latencies (seconds) of single queries of the last half."""

    def search(queries: np.ndarray) -> np.ndarray:
        return peer.search(queries, problem.k, mode.threads)

    with one_cpu(mode.threads):
        peer.set(params)
        for q in range(_WARM_QUERIES):  # caches, lazily compiled code, thread pools
            search(problem.tuning.queries[q % len(problem.tuning.queries)][None])
        search(problem.tuning.queries[: mode.batch or _WARM_QUERIES])
        timings = [_whole(search, half.queries, mode) for half in halves]
        if mode.single:
            return timings, timings[-1].latencies
        return timings, time_singles(search, halves[-1].queries[:_LATENCY_QUERIES], passes=1).latencies


def _whole(search: Search, queries: np.ndarray, mode: Mode) -> Timing:
    """Return what it takes to search all queries in the calls of a mode."""
    return time_singles(search, queries) if mode.single else time_batches(search, queries, size=mode.batch)


def _reported(timing: Timing, latencies: np.ndarray, problem: Problem) -> dict[str, float]:
    p50, p99 = np.percentile(latencies * 1000.0, [50, 99])
    return {
        "recall": _recall(timing, problem, problem.reporting),
        "qps": timing.qps,
        "latency_ms_mean": float(latencies.mean() * 1000.0),
        "latency_ms_p50": float(p50),
        "latency_ms_p99": float(p99),
    }


def _recall(timing: Timing, problem: Problem, half: Half) -> float:
    scores = exact_scores(problem.base, half.queries, timing.ids, problem.metric)
    return recall_with_ties(timing.ids, scores, half.exact, problem.k)


def near_front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats by more than half in speed at no less recall, on the tuning half.

    Between settings of one index, the way in which queries are submitted changes relative speeds by less than that.
    """
    return [
        point
        for point in points
        if point.tuning_qps * _FAR > max(p.tuning_qps for p in points if p.tuning_recall >= point.tuning_recall)
    ]


def pareto(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats in both recall and queries per second, by rising recall."""
    return _front(points, lambda point: (point.recall, point.qps))


def chosen(points: Sequence[Point], target: float) -> Point | None:
    """Return the setting with which a recall is reported, or None if none reaches it.

    The tuning half chooses: a setting that no other beats there in both recall and speed is the fastest for its own
    recall, and all such settings that reach ``target`` qualify. The one that is fastest on the reporting half is
    returned. So a lower target is never reported as slower than a higher one, however noisy the timing.
    """
    reaching = [point for point in tuning_front(points) if point.tuning_recall >= target]
    return max(reaching, key=lambda point: point.qps, default=None)


def tuning_front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats in both recall and speed on the tuning half, by rising recall."""
    return _front(points, lambda point: (point.tuning_recall, point.tuning_qps))


def _front(points: Sequence[Point], figures: Callable[[Point], tuple[float, float]]) -> list[Point]:
    """Return the points whose ``figures``, recall and speed, no other beats in both, by rising recall."""
    front: list[Point] = []
    for point in sorted(points, key=figures, reverse=True):
        if not front or figures(point)[1] > figures(front[-1])[1]:
            front.append(point)
    return front[::-1]
