"""Where tables are printed."""

from __future__ import annotations

import os

from rich.console import Console

_WIDTH = 160


def screen() -> Console:
    """Return stdout: as wide as the terminal, and wide enough for every table in files and pipes.

    Names and paths are printed as they are: "[/b]" is no markup, ":x:" no picture.
    """
    console = Console(markup=False, emoji=False)
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(width=_WIDTH, markup=False, emoji=False)


def one_line(text: str) -> str:
    """Return text as it is where a terminal shows it on one line, else quoted and escaped."""
    return text if text.isprintable() else repr(text)
