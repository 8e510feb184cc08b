"""A table of figures that a script measured: printed, and kept as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from annvq.bench.machine import describe


def machine_line(**versions: str) -> str:
    """Return one line that describes the machine."""
    found = describe()
    libraries = [f"{name} {version}" for name, version in versions.items()]
    return ", ".join([found["cpu"], f"{found['cores']} cores", found["isa"], *libraries])


class Figures:
    """Rows under headings."""

    def __init__(self, name: str, headings: list[str]) -> None:
        self.name, self.headings = name, headings
        self.rows: list[list[Any]] = []

    def add(self, *values: Any) -> None:
        """Add a row and print it at once, so that a long run that is ended has printed what it measured."""
        self.rows.append(list(values))
        print(*(_text(value) for value in values), sep=" | ", file=sys.stderr, flush=True)

    def show(self, subtitle: str, arguments: list[str]) -> None:
        """Print the table, and write it as JSON if ``--json FILE`` is among the arguments."""
        parser = argparse.ArgumentParser()
        parser.add_argument("--json", type=Path)
        target = parser.parse_args(arguments).json
        table = Table(*self.headings, title=self.name, caption=subtitle)
        for row in self.rows:
            table.add_row(*(_text(value) for value in row))
        Console(width=140).print(table)
        if target is not None:
            rows = [dict(zip(self.headings, row, strict=True)) for row in self.rows]
            target.write_text(json.dumps({"name": self.name, "machine": describe(), "rows": rows}, indent=2))


def _text(value: Any) -> str:
    return f"{value:,.3g}" if isinstance(value, float) else str(value)
