"""The console on which tables and lines are printed."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console

from annvq.cli.options import STDOUT

_WIDTH = 160


def screen(json: Path | None = None) -> Console:
    """Return a console on stdout, or on stderr if the JSON of a command goes to stdout.

    It is as wide as the terminal or, in files and pipes, wide enough for every table. Names and paths are printed as
    they are: "[/b]" is not taken for markup, nor ":x:" for an emoji.
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
    """Return text as it is if a terminal shows it on one line; otherwise, it is quoted and escaped."""
    return text if text.isprintable() else repr(text)
