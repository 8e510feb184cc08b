"""``annvq info``: figures about an index."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from annvq.bench.console import megabytes
from annvq.cli.opening import open_either
from annvq.cli.options import IndexPath, check_report, examples, local_path
from annvq.cli.output import write_report
from annvq.cli.screen import one_line, screen

EXAMPLES = examples("info my-index", "info my-index --json | jq .n")


def command(
    index: IndexPath,
    json: Annotated[
        Path | None,
        typer.Option(
            "--json",
            parser=local_path,
            callback=check_report,
            metavar="[FILE]",
            help="Write one JSON object, with sizes in bytes, to standard output or, if it ends in .json, to FILE.",
        ),
    ] = None,
) -> None:
    """Print figures about INDEX: its number of vectors, recipe, sizes and search parameters."""
    with open_either(index) as opened:
        stats = opened.stats()
    if json is not None:
        write_report(stats, json)
        return
    table = Table(show_header=False)
    for name, value in stats.items():
        if name == "bytes":
            parts = {part: size for part, size in value.items() if size}
            table.add_row("size", megabytes(sum(parts.values())))
            table.add_row("of which", ", ".join(f"{part} {megabytes(size)}" for part, size in parts.items()))
        elif value != "":
            table.add_row(name.replace("_", " "), _text(value))
    screen().print(table)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items())
    if isinstance(value, float):
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else one_line(str(value))
