"""Where tables and lines are printed."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console

from annvq.cli.options import STDOUT

_WIDTH = 160


def screen(json: Path | None = None) -> Console:
    """Return stdout, or stderr where the JSON of a command goes to stdout.

    It is as wide as the terminal, and wide enough for every table in files and pipes. Names and paths are printed as
    they are: "[/b]" is no markup, ":x:" no picture.
    """
    to_stderr = json == STDOUT
    console = Console(markup=False, emoji=False, stderr=to_stderr)
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(width=_WIDTH, markup=False, emoji=False, stderr=to_stderr)


def say(console: Console, text: str) -> None:
    """Print lines as they are, however wide."""
    console.print(text, highlight=False, soft_wrap=True)


def one_line(text: str) -> str:
    """Return text as it is where a terminal shows it on one line, else quoted and escaped."""
    return text if text.isprintable() else repr(text)
