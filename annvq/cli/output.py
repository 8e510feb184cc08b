"""Results of commands: rows as files or lines, reports as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import typer

from annvq.bench.report import check_place
from annvq.cli.options import STDOUT
from annvq.io import rows
from annvq.io.replacing import replacing


def check_rows_path(out: Path | None) -> None:
    """Check that rows can be written in the format of this name (otherwise a usage error), at this place (OSError)."""
    if out is None or out == STDOUT:
        return
    if out.suffix.lower() not in rows.WRITERS:
        expected = ", ".join(rows.WRITERS)
        raise typer.BadParameter(
            f"{str(out)!r}: rows are written as {expected}, by the suffix, or to '-' as JSON lines"
        )
    check_place(out)


def write_rows(table: pa.Table | pa.RecordBatchReader, out: Path) -> int:
    """Write rows and return their number.

    A file is written in the format of its suffix, and appears whole or not at all; "-" gets JSON lines.

    Raises
    ------
    ParameterError
        The file is CSV, which cannot hold lists such as vectors.

    """
    reader = table.to_reader() if isinstance(table, pa.Table) else table
    if out != STDOUT:
        out.parent.mkdir(parents=True, exist_ok=True)
        return rows.write(reader, out)
    written = 0
    for batch in reader:
        written += len(batch)
        for line in rows.json_lines([batch]):
            sys.stdout.write(line + "\n")
    sys.stdout.flush()
    return written


def write_report(report: dict[str, Any], out: Path) -> None:
    """Write one JSON object to standard output, or to a file, which appears whole or not at all."""
    text = json.dumps(report, default=str)
    if out == STDOUT:
        typer.echo(text)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
