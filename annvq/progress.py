"""How far a long task is: phases, one after another, each with a count that grows.

What works on the task tells a `Progress`; who asked for it decides what is shown. `listening` makes one of what users
give as ``progress=``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from annvq.errors import ParameterError

_SECONDS_A_LINE = 10.0  # between lines about one phase, where no bar can be drawn


class Progress:
    """Hears how far a task is, and does nothing about it; others derive from it. Used in a ``with`` block."""

    def begin(self, phase: str, total: int | None = None) -> None:
        """Hear that a phase begins, of ``total`` units; None where their number is not known."""

    def at(self, done: int) -> None:
        """Hear that so many units of the phase are done."""

    def note(self, text: str) -> None:
        """Hear a line about what was found so far."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        """Hear that the task has ended, by itself or by an error."""


class Rows(Progress):
    """Calls a function with the vectors encoded and with all there are (None where that is not known)."""

    def __init__(self, call: Callable[[int, int | None], object]) -> None:
        self._call = call
        self._total: int | None = None
        self._counts = False

    def begin(self, phase: str, total: int | None = None) -> None:
        """Listen to the encoding only."""
        self._total, self._counts = total, phase == ENCODING

    def at(self, done: int) -> None:
        """Pass it on."""
        if self._counts:
            self._call(done, self._total)


class Lines(Progress):
    """Prints a line on stderr for every phase, and for long ones more of them: for files, pipes and logs."""

    def __init__(self) -> None:
        self._phase, self._total = "", None
        self._started = self._told = time.monotonic()

    def begin(self, phase: str, total: int | None = None) -> None:
        """Print the phase."""
        self._phase, self._total, self._told = phase, total, time.monotonic()
        self.note(phase)

    def at(self, done: int) -> None:
        """Print how far it is, where nothing was said for some seconds."""
        if time.monotonic() - self._told >= _SECONDS_A_LINE:
            self._told = time.monotonic()
            self.note(f"{self._phase}: {done:,}" + ("" if self._total is None else f" of {self._total:,}"))

    def note(self, text: str) -> None:
        """Print a line, with the seconds since the task began."""
        seconds = time.monotonic() - self._started
        if sys.stderr is not None:  # print would take stdout
            print(f"annvq: {seconds:7.1f} s  {text}", file=sys.stderr, flush=True)  # noqa: T201


class Bars(Progress):
    """Draws a bar on a terminal or in a notebook, with rich; it disappears when the task has ended."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Drawn

        counts = TextColumn("{task.fields[counts]}", markup=False)
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), counts)
        self._drawn = Drawn(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True)
        self._task: Any = None
        self._total: int | None = None

    def begin(self, phase: str, total: int | None = None) -> None:
        """Draw a bar for the phase in the place of the one before."""
        if self._task is not None:
            self._drawn.remove_task(self._task)
        self._total = total
        self._task = self._drawn.add_task(phase, total=total, counts="")

    def at(self, done: int) -> None:
        """Draw how far it is."""
        counts = f"{done:,}" + ("" if self._total is None else f"/{self._total:,}")
        self._drawn.update(self._task, completed=done, counts=counts)

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self._drawn.console.print(text, markup=False, highlight=False)

    def __enter__(self) -> Progress:
        self._drawn.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Remove the bar."""
        self._drawn.stop()


READING, ENCODING, WRITING = "reading", "encoding", "writing"


def shown() -> Progress:
    """Return what draws a bar where stderr is a terminal or a notebook, and prints lines elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal and not console.is_dumb_terminal:
        return Bars()
    if console.is_jupyter:
        try:
            import ipywidgets  # noqa: F401  what rich draws with in a notebook
        except ImportError:
            return Lines()
        return Bars()
    return Lines()


@contextmanager
def listening(progress: Any) -> Iterator[Progress]:
    """Yield what hears of a task's progress while the block runs.

    Parameters
    ----------
    progress
        False for nobody; True for `shown`; a function of (rows encoded, rows in all or None); or a `Progress`, which
        may hear of other tasks before and after.

    Raises
    ------
    ParameterError
        Something else.

    """
    if isinstance(progress, Progress):
        yield progress
        return
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise ParameterError(f"progress is True, False, a function of (done, total) or a Progress, not {progress!r}")
    with shown() if progress is True else Rows(progress) if callable(progress) else Progress() as made:
        yield made
