"""Rows of columns as files: Parquet, Arrow, CSV, JSON and JSON lines, by the suffix."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from annvq.errors import ParameterError
from annvq.io.replacing import replacing

if TYPE_CHECKING:
    import pyarrow as pa


def write(reader: pa.RecordBatchReader, path: Path) -> int:
    """Write rows to a file, which appears whole or not at all; return their number.

    Raises
    ------
    ParameterError
        The suffix is none of `WRITERS`, or the file is CSV, which cannot hold lists such as vectors.

    """
    if path.suffix.lower() not in WRITERS:
        raise ParameterError(f"{path}: suffix {path.suffix!r}, rows are written as {', '.join(WRITERS)}")
    written = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal written
        for batch in reader:
            written += len(batch)
            yield batch

    with replacing(path) as temporary:
        WRITERS[path.suffix.lower()](temporary, reader.schema, batches())
    return written


def _write_parquet(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _write_arrow(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    import pyarrow as pa

    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _write_csv(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    import pyarrow as pa
    import pyarrow.csv

    nested = [field.name for field in schema if pa.types.is_nested(field.type)]
    if nested:
        raise ParameterError(f"CSV cannot hold lists: column {nested[0]!r} needs another format, or no vectors")
    with pa.csv.CSVWriter(path, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _write_json_lines(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        _write_separated(file, json_lines(batches), "\n")
        file.write("\n")


def _write_json(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write("[\n")
        _write_separated(file, json_lines(batches), ",\n")
        file.write("\n]\n")


def _write_separated(file: IO[str], lines: Iterable[str], separator: str) -> None:
    for number, line in enumerate(lines):
        file.write(separator * (number > 0) + line)


def json_lines(batches: Iterable[pa.RecordBatch]) -> Iterator[str]:
    """Yield every row as a JSON object on one line."""
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


_Writer = Callable[[Path, Any, Iterable[Any]], None]
WRITERS: dict[str, _Writer] = {
    ".parquet": _write_parquet,
    ".pq": _write_parquet,
    ".arrow": _write_arrow,
    ".feather": _write_arrow,
    ".csv": _write_csv,
    ".json": _write_json,
    ".jsonl": _write_json_lines,
}
