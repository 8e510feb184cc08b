"""``annvq info``: what an index is and takes."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.table import Table

import annvq
from annvq.cli.options import IndexPath
from annvq.cli.screen import one_line, screen


def command(
    index: IndexPath,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print figures about INDEX: number of vectors, recipe, bytes, search parameters."""
    with annvq.open(index) as opened:
        stats = opened.stats()
    if as_json:
        typer.echo(json.dumps(stats))
        return
    table = Table(show_header=False)
    for name, value in stats.items():
        table.add_row(name.replace("_", " "), _text(value))
    screen().print(table)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items())
    if isinstance(value, float):
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else one_line(str(value))
