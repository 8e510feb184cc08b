"""``annvq info``: figures about an index, and the devices that indexes are searched on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from annvq.bench.console import megabytes
from annvq.bench.machine import describe, gpus
from annvq.cli.opening import open_either
from annvq.cli.options import check_report, examples, local_path
from annvq.cli.output import write_report
from annvq.cli.screen import one_line, screen
from annvq.kernels.threads import resolve

EXAMPLES = examples("info my-index", "info my-index --json | jq .n", "info")


def command(
    index: Annotated[
        Path | None,
        typer.Argument(
            parser=local_path, metavar="INDEX", help="Folder that holds an index; without it, devices are named."
        ),
    ] = None,
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
    """Print figures about INDEX: its number of vectors, recipe, sizes and search parameters.

    Without INDEX, print what indexes can be searched on: the CPU and GPUs, or why there is no GPU.
    """
    if index is None:
        figures, table = _devices()
    else:
        with open_either(index) as opened:
            figures = opened.stats()
        table = _figures(figures)
    if json is not None:
        write_report(figures, json)
        return
    screen().print(table)


def _figures(stats: dict[str, Any]) -> Table:
    """Return figures about an index as a table."""
    table = Table(show_header=False)
    for name, value in stats.items():
        if name == "bytes":
            parts = {part: size for part, size in value.items() if size}
            table.add_row("size", megabytes(sum(parts.values())))
            table.add_row("of which", ", ".join(f"{part} {megabytes(size)}" for part, size in parts.items()))
        elif value != "":
            table.add_row(name.replace("_", " "), _text(value))
    return table


def _devices() -> tuple[dict[str, Any], Table]:
    """Return the CPU and the GPUs, or why there are none, as a JSON object and as a table."""
    machine, (found, reason) = describe(), gpus()
    cpu = {"name": machine["cpu"], "instruction_set": machine["isa"], "threads": resolve(None)}
    table = Table(show_header=False)
    table.add_row("cpu", f"{one_line(cpu['name'])}, {cpu['instruction_set']}, threads {cpu['threads']}")
    for gpu in found:
        memory = f"{megabytes(gpu['memory_free'])} of {megabytes(gpu['memory_total'])} free"
        capability = f"compute capability {gpu['compute_capability']}"
        table.add_row(gpu["device"], f"{one_line(gpu['name'])}, {memory}, {capability}")
    if not found:
        table.add_row("no GPU", one_line(reason))
    return {"cpu": cpu, "gpus": found, **({"no_gpu": reason} if reason else {})}, table


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items())
    if isinstance(value, float):
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else one_line(str(value))
