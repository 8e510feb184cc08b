"""One thread pool for serial kernels that release the GIL.

A call of `run` works through its tasks in the calling thread and in up to ``threads - 1`` helper threads of the pool.
The caller never waits for a helper that has not started. A pool that is busy, or that can start no thread, therefore
costs time but cannot cause a deadlock. Results come back in the order of the tasks, so that they do not show which
thread ran which task.
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
_inside = threading.local()  # `.run` is true while this thread works on tasks


def resolve(threads: int | None) -> int:
    """Return the number of threads to use.

    Parameters
    ----------
    threads
        A number of at least 1, or ``None`` for as many threads as there are CPUs that this process may run on.

    Raises
    ------
    ParameterError
        If ``threads`` is neither None nor a whole number of at least 1.

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
    """Tasks that several threads take one by one, and the results of these."""

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
        """Work until no task is left or a task has failed."""
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
    """Submit ``drain`` to up to ``count`` helpers of the pool, and return their futures.

    If no thread can be started, there are fewer futures, and the next call makes a new pool.
    """
    global _pool, _pool_size
    started: list[Future] = []
    with _lock:  # a larger pool replaces the old one, to which nobody may submit any more
        if _pool is None or _pool_size < count:
            if _pool is not None:
                _pool.shutdown(wait=False)  # tasks that were submitted to it still run
            _pool, _pool_size = ThreadPoolExecutor(count, thread_name_prefix="annvq"), count
        try:
            while len(started) < count:
                started.append(_pool.submit(drain))
        except RuntimeError:  # the main thread has ended, or the system allows no more: the caller works alone
            _pool.shutdown(wait=False)  # it may hold a task for which it found no thread
            _pool, _pool_size = None, 0
    return started


def run(function: Callable[[Task], Result], tasks: Sequence[Task], threads: int) -> list[Result]:
    """Return ``[function(task) for task in tasks]``, computed by up to ``threads`` threads.

    Parameters
    ----------
    function
        It is called once per task. Several threads are faster only if it releases the GIL.
    tasks
        Any number of tasks; each is taken by the next free thread.
    threads
        At least 1. The caller does all the work if ``threads`` is 1, if there is only one task, or if the call is made
        inside a task of another `run`.

    Raises
    ------
    BaseException
        The first error that a task raised. Tasks that have not started by then are not run. The pool stays usable.

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
    os.register_at_fork(after_in_child=_forget_pool)  # a forked child has the pool object, but none of its threads
