"""Results of commands: rows as files or lines, reports as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import typer

from annvq.bench.report import check_place
from annvq.cli.options import STDOUT
from annvq.errors import ParameterError
from annvq.io.replacing import replacing


def check_rows_path(out: Path | None) -> None:
    """Check that rows can be written in the format of this name (otherwise a usage error), at this place (OSError)."""
    if out is None or out == STDOUT:
        return
    if out.suffix.lower() not in _WRITERS:
        expected = ", ".join(_WRITERS)
        raise typer.BadParameter(
            f"{str(out)!r}: rows are written as {expected}, by the suffix, or to '-' as JSON lines"
        )
    check_place(out)


def write_rows(rows: pa.Table | pa.RecordBatchReader, out: Path) -> int:
    """Write rows and return their number.

    A file is written in the format of its suffix, and appears whole or not at all; "-" gets JSON lines.

    Raises
    ------
    ParameterError
        The file is CSV, which cannot hold lists such as vectors.

    """
    reader = rows.to_reader() if isinstance(rows, pa.Table) else rows
    written = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal written
        for batch in reader:
            written += len(batch)
            yield batch

    if out == STDOUT:
        for line in _json_lines(batches()):
            sys.stdout.write(line + "\n")
        sys.stdout.flush()
        return written
    writer = _WRITERS[out.suffix.lower()]
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as temporary:
        writer(temporary, reader.schema, batches())
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


def _write_parquet(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    with pq.ParquetWriter(path, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _write_arrow(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _write_csv(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    nested = [field.name for field in schema if pa.types.is_nested(field.type)]
    if nested:
        raise ParameterError(f"CSV cannot hold lists: column {nested[0]!r} needs another format, or --no-vectors")
    with pa.csv.CSVWriter(path, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _write_json_lines(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        _write_separated(file, _json_lines(batches), "\n")
        file.write("\n")


def _write_json(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write("[\n")
        _write_separated(file, _json_lines(batches), ",\n")
        file.write("\n]\n")


def _write_separated(file: IO[str], lines: Iterable[str], separator: str) -> None:
    for number, line in enumerate(lines):
        file.write(separator * (number > 0) + line)


def _json_lines(batches: Iterable[pa.RecordBatch]) -> Iterator[str]:
    for batch in batches:
        for row in batch.to_pylist():
            yield json.dumps({name: _plain(value) for name, value in row.items()}, ensure_ascii=False, default=str)


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold: null for NaN and infinity, and bytes in hexadecimal."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.hex() if isinstance(value, bytes) else value


_Writer = Callable[[Path, pa.Schema, Iterable[pa.RecordBatch]], None]
_WRITERS: dict[str, _Writer] = {
    ".parquet": _write_parquet,
    ".pq": _write_parquet,
    ".arrow": _write_arrow,
    ".feather": _write_arrow,
    ".csv": _write_csv,
    ".json": _write_json,
    ".jsonl": _write_json_lines,
}
