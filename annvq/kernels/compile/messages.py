"""Messages about the compilation of kernels: first what they are for, then how many there were and how long it took.

Kernels are compiled when they are first called, one after the other. Kernels that follow within a second of each other
are reported together. Messages go to the logger "annvq"; if it has no handler, they appear on stderr.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

compiled = 0  # kernels that this process compiled and did not find in the cache

_PAUSE = 1.0  # seconds without a new kernel after which the compiled ones are reported
_FRONTS = ("annvq.cli", "annvq.bench", "annvq.demo", "annvq.kernels")  # these call what users call, or are called by it
_log = logging.getLogger("annvq")


@dataclass
class _Burst:
    """Kernels that are compiled shortly after one another."""

    purposes: list[str] = field(default_factory=list)
    kernels: int = 0
    seconds: float = 0.0
    began: float | None = None
    timer: threading.Timer | None = None


_lock = threading.Lock()
_burst: _Burst | None = None
_told = False  # whether it has been said where kernels are kept


def begin(where: Callable[[], tuple[str | None, str]]) -> None:
    """Note that a kernel is about to be compiled.

    ``where`` returns the folder that will keep it, or None and the reason why there is no such folder.
    """
    global _burst, _told
    purpose = _purpose()
    with _lock:
        if _burst is None:
            _burst = _Burst()
            of = f" for {purpose}" if purpose else ""
            _log.warning("annvq: compiling kernels%s%s", of, "" if _told else f" ({_kept(*where())})")
            _told = True
        if purpose and purpose not in _burst.purposes:
            _burst.purposes.append(purpose)
        if _burst.timer is not None:
            _burst.timer.cancel()
        _burst.began = time.perf_counter()


def end() -> None:
    """Note that a kernel has been compiled, if `begin` was called for one."""
    global compiled
    with _lock:
        if _burst is None or _burst.began is None:
            return
        compiled += 1
        _burst.kernels += 1
        _burst.seconds += time.perf_counter() - _burst.began
        _burst.began = None
        _burst.timer = threading.Timer(_PAUSE, _tell)
        _burst.timer.daemon = True
        with contextlib.suppress(RuntimeError):  # the interpreter is shutting down
            _burst.timer.start()


def _tell() -> None:
    global _burst
    with _lock:
        if _burst is None or _burst.began is not None:
            return
        done, _burst = _burst, None
    plural = "" if done.kernels == 1 else "s"
    of = f" for {' and '.join(done.purposes)}" if done.purposes else ""
    _log.warning("annvq: compiled %d kernel%s%s in %.1f s", done.kernels, plural, of, done.seconds)


def _kept(folder: str | None, reason: str) -> str:
    if folder is None:
        return f"not kept for other processes: {reason}"
    return f"once on this machine, or ahead of use with annvq warmup; kept in {folder}"


def _purpose() -> str:
    """Return the outermost function of the library that this thread is in, such as "build" or "Index.search".

    The result is empty in the library's own threads.
    """
    purpose, outermost = "", ""
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("annvq."):
            outermost = module
            if not module.startswith(_FRONTS):
                purpose = getattr(frame.f_code, "co_qualname", frame.f_code.co_name)
        frame = frame.f_back
    return "" if outermost == "annvq.kernels.threads" else purpose


def _forget() -> None:
    """Start afresh in a forked child: the parent reports its own kernels, and no timer runs in the child."""
    global _burst, _lock
    _burst, _lock = None, threading.Lock()


atexit.register(_tell)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
