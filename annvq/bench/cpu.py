"""The CPU during a measurement: one thread stays on one, and what others took of the machine is recorded."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_STEAL, _OTHERS = 0.02, 0.2  # beyond which the machine was busy


@contextmanager
def one_cpu(threads: int) -> Iterator[None]:
    """Keep this thread on one CPU if ``threads`` is 1 and the system lets it; afterwards all CPUs are its own again.

    A thread that moves to another CPU leaves its caches behind. The last CPU is taken, because the first one often
    serves the devices.
    """
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if threads > 1 or len(before) < 2:
        yield
        return
    try:
        os.sched_setaffinity(0, {max(before)})
    except OSError:  # a sandbox may forbid it
        yield
        return
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True)
class Use:
    """What others took of the machine; None where the system does not say.

    Parameters
    ----------
    steal
        Share of the CPUs' time for which a virtual machine waited for its host, from 0 to 1.
    others
        CPUs that other processes kept busy, on average.
    load
        Load average of the last minute, this process included.

    """

    steal: float | None = None
    others: float | None = None
    load: float | None = None

    @property
    def is_busy(self) -> bool:
        """Whether others took so much that speeds may be wrong."""
        return (self.steal or 0.0) > _STEAL or (self.others or 0.0) > _OTHERS

    def __str__(self) -> str:
        """Return what is known, as "other processes took 0.8 CPUs, steal 3%, load 2.1"."""
        known = (
            f"other processes took {self.others:.1f} CPUs" if self.others is not None else "",
            f"steal {self.steal:.0%}" if self.steal is not None else "",
            f"load {self.load:.1f}" if self.load is not None else "",
        )
        return ", ".join(text for text in known if text)


class Watch:
    """Watches the machine from the moment it is made."""

    def __init__(self) -> None:
        self._start = _ticks()

    def use(self) -> Use:
        """Return what others took since then."""
        if self._start is None or (end := _ticks()) is None:
            return Use(load=_load())
        wall, total, busy, steal = (after - before for before, after in zip(self._start, end))
        others = max(busy, 0.0) / wall if wall > 0 else 0.0
        return Use(round(steal / total, 4) if total > 0 else 0.0, round(others, 3), _load())


def _ticks() -> tuple[float, float, float, float] | None:
    """Return seconds: wall clock; all CPUs together, idle or not; busy for other processes; stolen."""
    try:
        with open("/proc/stat") as lines:
            times = [int(field) / os.sysconf("SC_CLK_TCK") for field in next(lines).split()[1:9]]
        user, nice, system, idle, iowait, irq, softirq, steal = times
    except (OSError, ValueError, StopIteration):
        return None
    busy = user + nice + system + irq + softirq
    return time.perf_counter(), busy + idle + iowait + steal, busy - time.process_time(), steal


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):  # AttributeError: Windows
        return None
