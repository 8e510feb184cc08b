"""``annvq table export``: rows of an embedding table in float32."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import typer

from annvq import io, tables
from annvq.cli.options import STDOUT, at_least, examples, local_path
from annvq.cli.output import check_rows_path, write_rows
from annvq.cli.screen import say, screen
from annvq.cli.table.options import TablePath

EXAMPLES = examples(
    "table export table.safetensors -o weight.npy",
    "table export table.safetensors 3 14 15 -o rows.parquet",
)
_ROWS = 1 << 14  # decoded at a time


def command(
    table: TablePath,
    ids: Annotated[
        list[int] | None, typer.Argument(parser=at_least(0), metavar="ID", help="Rows to write; by default all.")
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            parser=local_path,
            metavar="FILE",
            help="npy, Parquet, Arrow, JSON or JSON lines, by the suffix; '-' is standard output, as JSON lines.",
        ),
    ] = STDOUT,
) -> None:
    """Write rows of TABLE as vectors, with their numbers as ids (npy holds no ids)."""
    is_npy = out.suffix.lower() == ".npy"
    if not is_npy:
        check_rows_path(out)
    opened = tables.open(table)
    wanted = np.arange(len(opened)) if not ids else np.array(ids, np.int64)
    if is_npy:
        io.write(out, opened(wanted))
    else:
        write_rows(_rows_of(opened, wanted), out)
    if out != STDOUT:
        say(screen(), f"{out}: {len(wanted):,} rows")


def _rows_of(table: tables.FrozenTable, ids: np.ndarray) -> pa.RecordBatchReader:
    kind = pa.list_(pa.float32(), table.embedding_dim)
    schema = pa.schema([("id", pa.int64()), ("vector", kind)])

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(ids), _ROWS):
            taken = ids[start : start + _ROWS]
            vectors = pa.FixedSizeListArray.from_arrays(table(taken).reshape(-1), table.embedding_dim)
            yield pa.record_batch([pa.array(taken), vectors.cast(kind)], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())
