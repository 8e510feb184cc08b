"""Progress of a long task, which is reported as phases, one after another, each with a count that grows.

The code that works on the task reports to a `Progress`; the caller decides what is shown. `listening` makes a
`Progress` of what users pass as ``progress=``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from annvq.errors import ParameterError

_SECONDS_A_LINE = 10.0  # between lines about one phase, when no bar can be drawn


class Progress:
    """Receives reports of a task's progress in a ``with`` block and ignores them; other classes derive from it."""

    def begin(self, phase: str, total: int | None = None) -> None:
        """Take note that a phase of ``total`` units begins; None if their number is not known."""

    def at(self, done: int) -> None:
        """Take note that ``done`` units of the phase are done."""

    def note(self, text: str) -> None:
        """Take a line of text about what was found so far."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        """Take note that the task has ended, by itself or by an error."""


class Rows(Progress):
    """Calls a function with the number of vectors encoded and their total (None if that is not known)."""

    def __init__(self, call: Callable[[int, int | None], object]) -> None:
        self._call = call
        self._total: int | None = None
        self._counts = False

    def begin(self, phase: str, total: int | None = None) -> None:
        """Count the phase only if it is the encoding."""
        self._total, self._counts = total, phase == ENCODING

    def at(self, done: int) -> None:
        """Pass the count on to the function."""
        if self._counts:
            self._call(done, self._total)


class Lines(Progress):
    """Prints a line on stderr for every phase, and more lines for long ones; meant for files, pipes and logs."""

    def __init__(self) -> None:
        self._phase, self._total = "", None
        self._started = self._told = time.monotonic()

    def begin(self, phase: str, total: int | None = None) -> None:
        """Print the name of the phase."""
        self._phase, self._total, self._told = phase, total, time.monotonic()
        self.note(phase)

    def at(self, done: int) -> None:
        """Print how far the phase is, if nothing was printed for some seconds."""
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
        """Draw a bar for the phase in place of the previous one."""
        if self._task is not None:
            self._drawn.remove_task(self._task)
        self._total = total
        self._task = self._drawn.add_task(phase, total=total, counts="")

    def at(self, done: int) -> None:
        """Draw how far the phase is."""
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
    """Return a `Progress` that draws bars if stderr is a terminal or a notebook, and prints lines otherwise."""
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
    """Yield the `Progress` that a task reports to while the block runs.

    Parameters
    ----------
    progress
        False or None shows nothing, and True what `shown` shows; a function is called with the number of rows encoded
        and their total (or None); a `Progress` may serve other tasks before and after.

    Raises
    ------
    ParameterError
        ``progress`` is none of these.

    """
    if isinstance(progress, Progress):
        yield progress
        return
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise ParameterError(f"progress is True, False, a function of (done, total) or a Progress, not {progress!r}")
    with shown() if progress is True else Rows(progress) if callable(progress) else Progress() as made:
        yield made
