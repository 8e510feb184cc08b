"""Linear algebra of NumPy with one thread.

The threads of OpenBLAS, which NumPy's wheels bring with them, wait for each other in busy loops at every step of a
factorization. Matrices of a few hundred rows have so little work per step that this takes longer than the work, and a
hundred times longer if other programs use the CPUs. With one thread, results also depend on no number of threads.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import numpy as np

_PREFIXES, _SUFFIXES = ("scipy_", ""), ("64_", "")  # of OpenBLAS's functions, in NumPy's wheels and elsewhere
_lock = threading.Lock()
_inside, _threads = 0, 1  # calls that now want one thread, and the number of threads before them


class _OpenBLAS(NamedTuple):
    get: Callable[[], int]
    set: Callable[[int], object]


@cache
def _openblas() -> _OpenBLAS | None:
    """Return how OpenBLAS is told its number of threads, or None if NumPy uses another library."""
    try:
        library = ctypes.CDLL(np.linalg._umath_linalg.__file__)  # symbols are looked for in what it is linked with, too
    except (AttributeError, OSError):
        return None
    for prefix in _PREFIXES:
        for suffix in _SUFFIXES:
            names = [f"{prefix}openblas_{verb}_num_threads{suffix}" for verb in ("get", "set")]
            if all(hasattr(library, name) for name in names):
                return _OpenBLAS(*(getattr(library, name) for name in names))
    return None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let OpenBLAS, if NumPy uses it, work with one thread."""
    global _inside, _threads
    blas = _openblas()
    if blas is None:
        yield
        return
    with _lock:  # the first call in remembers the number, the last one out restores it
        if _inside == 0:
            _threads = blas.get()
            blas.set(1)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                blas.set(_threads)
