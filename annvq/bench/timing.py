"""Timing of searches: whole batches, and one query per call."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

PASSES = 3
LONG = 60.0  # seconds: a pass that takes this long is not repeated
Search = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Timing:
    """What repeated passes over some queries took.

    Parameters
    ----------
    ids
        The ids (nq, k) that the search returned.
    seconds
        Wall time of the fastest pass; for one query per call, the sum of each call's fastest time, so that the moments
        in which another process had the core do not count, for whichever library they happened to come.
    cores_used
        CPU time divided by wall time of the fastest pass: about 1 if one thread did all the work.
    latencies
        (nq,) fastest time of each call, in seconds; empty if several queries went into a call.

    """

    ids: np.ndarray
    seconds: float
    cores_used: float
    latencies: np.ndarray

    @property
    def qps(self) -> float:
        """Queries per second."""
        return len(self.ids) / self.seconds


def time_batches(search: Search, queries: np.ndarray, passes: int = PASSES, size: int | None = None) -> Timing:
    """Search all queries, ``passes`` times unless that takes `LONG`, and keep the fastest pass.

    They go into one call, or ``size`` of them into each.
    """
    parts = [queries] if size is None else [queries[start : start + size] for start in range(0, len(queries), size)]

    def whole() -> tuple[np.ndarray, np.ndarray]:
        found = [search(part) for part in parts]
        return found[0] if len(found) == 1 else np.concatenate(found), np.empty(0)

    return min(_timed(whole, passes), key=_seconds)


def time_singles(search: Search, queries: np.ndarray, passes: int = PASSES) -> Timing:
    """Search one query per call, ``passes`` times over all unless that takes `LONG`, and keep each call's fastest."""

    def one_by_one() -> tuple[np.ndarray, np.ndarray]:
        found, latencies = [], np.empty(len(queries))
        for q in range(len(queries)):
            start = time.perf_counter()
            found.append(search(queries[q : q + 1]))
            latencies[q] = time.perf_counter() - start
        return np.concatenate(found), latencies

    timings = _timed(one_by_one, passes)
    fastest = np.min([timing.latencies for timing in timings], axis=0)
    return replace(min(timings, key=_seconds), seconds=float(fastest.sum()), latencies=fastest)


def _seconds(timing: Timing) -> float:
    return timing.seconds


def _timed(run: Callable[[], tuple[np.ndarray, np.ndarray]], passes: int) -> list[Timing]:
    """Return a timing for each pass."""
    timings: list[Timing] = []
    with _without_garbage_collection():
        for _ in range(passes):
            wall, cpu = time.perf_counter(), time.process_time()
            ids, latencies = run()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            timings.append(Timing(ids, wall, cpu / wall, latencies))
            if wall > LONG:
                break
    return timings


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
