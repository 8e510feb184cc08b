"""Where tables are printed."""

from __future__ import annotations

import os

from rich.console import Console

_WIDTH = 160


def screen() -> Console:
    """Return stdout: as wide as the terminal, and wide enough for every table in files and pipes."""
    console = Console()
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(width=_WIDTH)
