"""One thread pool for serial kernels that release the GIL.

A call to `run` works through its tasks in the calling thread and in up to ``threads - 1`` helpers from
the pool. The caller never waits for a helper that has not started, so a busy pool, or one that can start
no thread, costs time and cannot deadlock. Results come back in the order of the tasks: which thread ran
what is not seen.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from annvq.errors import ParameterError

Task = TypeVar("Task")
Result = TypeVar("Result")

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0
_inside = threading.local()  # `.run` is set while this thread works on a task


def resolve(threads: int | None) -> int:
    """Return the number of threads to use.

    Parameters
    ----------
    threads
        ``None`` for as many as there are CPUs that this process may run on.

    Raises
    ------
    ParameterError
        If ``threads`` is not a whole number of at least 1.

    """
    if threads is None:
        if hasattr(os, "sched_getaffinity"):
            return max(1, len(os.sched_getaffinity(0)))
        return os.cpu_count() or 1
    if isinstance(threads, bool) or not hasattr(threads, "__index__") or int(threads) < 1:
        raise ParameterError(f"threads must be None or a whole number of at least 1, not {threads!r}")
    return int(threads)


def slices(n: int, parts: int) -> list[slice]:
    """Cut ``range(n)`` into at most ``parts`` non-empty slices whose lengths differ by at most one."""
    parts = min(n, parts)
    return [slice(n * part // parts, n * (part + 1) // parts) for part in range(parts)]


class _Work:
    """Tasks that several threads take from, and their results."""

    def __init__(self, function: Callable, tasks: Sequence) -> None:
        self.function = function
        self.tasks = tasks
        self.results: list = [None] * len(tasks)
        self.error: BaseException | None = None
        self._next = iter(range(len(tasks)))
        self._lock = threading.Lock()

    def _take(self) -> int | None:
        with self._lock:
            return None if self.error else next(self._next, None)

    def drain(self) -> None:
        """Work until no task is left or one has failed."""
        _inside.run = True
        try:
            while (place := self._take()) is not None:
                self.results[place] = self.function(self.tasks[place])
        except BaseException as error:
            with self._lock:
                self.error = self.error or error
        finally:
            _inside.run = False


def _start_helpers(drain: Callable[[], None], count: int) -> list[Future]:
    """Return up to ``count`` helpers; fewer, and a new pool next time, where no thread can be started."""
    global _pool, _pool_size
    started: list[Future] = []
    with _lock:  # growing replaces the pool: nobody may submit to the one that is shut down
        if _pool is None or _pool_size < count:
            if _pool is not None:
                _pool.shutdown(wait=False)  # what was submitted to it still runs
            _pool, _pool_size = ThreadPoolExecutor(count, thread_name_prefix="annvq"), count
        try:
            while len(started) < count:
                started.append(_pool.submit(drain))
        except RuntimeError:  # the main thread has ended, or the system is at its limit: the caller works alone
            _pool.shutdown(wait=False)  # it may hold a task that it found no thread for
            _pool, _pool_size = None, 0
    return started


def run(function: Callable[[Task], Result], tasks: Sequence[Task], threads: int) -> list[Result]:
    """Return ``[function(task) for task in tasks]``, computed by up to ``threads`` threads.

    Parameters
    ----------
    function
        Called once for each task; to gain from threads it has to release the GIL.
    tasks
        In any number; each is taken by the next free thread.
    threads
        At least 1. With 1, with one task, or inside a task of another `run`, all is done in the caller.

    Raises
    ------
    BaseException
        The first error that a task raised; tasks not yet started are then left out. The pool stays usable.

    """
    helpers = min(threads, len(tasks)) - 1
    if helpers < 1 or getattr(_inside, "run", False):
        return [function(task) for task in tasks]
    work = _Work(function, tasks)
    futures = _start_helpers(work.drain, helpers)
    work.drain()
    for future in futures:
        if not future.cancel():
            future.result()
    if work.error is not None:
        raise work.error
    return work.results


def _forget_pool() -> None:
    global _lock, _pool, _pool_size, _inside
    _lock, _pool, _pool_size, _inside = threading.Lock(), None, 0, threading.local()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)  # a child has the pool object, but none of its threads
