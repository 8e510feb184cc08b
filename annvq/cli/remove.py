"""``annvq remove``: fewer vectors or documents in an index."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import annvq
from annvq import io
from annvq.cli.opening import open_either
from annvq.cli.options import STDOUT, IdColumn, IndexPath, JsonFile, Where, examples, local_path
from annvq.cli.output import write_report
from annvq.cli.screen import say, screen
from annvq.errors import DataFormatError, DtypeError
from annvq.io import arrow
from annvq.io.columns import id_column_of, ids_of
from annvq.multivector import MultiVectorIndex

EXAMPLES = examples(
    "remove my-index doc-17 doc-18",
    "remove my-index --from old.txt",
    "remove my-index --filter 'year < 2000'",
)


def command(
    index: IndexPath,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids to remove.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--from",
            parser=local_path,
            metavar="FILE",
            help="File with ids to remove: Parquet, Arrow, or text with one id per line; '-' is standard input.",
        ),
    ] = None,
    id_column: IdColumn = None,
    where: Where = None,
    json: JsonFile = None,
) -> None:
    """Remove rows from INDEX: those whose ids are given or stand in a file, or those that a filter finds.

    If INDEX does not hold one of the ids, the command fails and removes nothing.
    """
    if sum(given is not None for given in (ids or None, file, where)) != 1:
        raise typer.BadParameter("give exactly one of these: ids, --from FILE, --filter EXPR")
    with open_either(index, "rw") as opened:
        before = len(opened)
        if where is not None:
            opened.remove(opened.to_arrow(filter=where, vectors=False).read_all()["id"].to_pylist())
        else:
            _remove(opened, list(ids or []) if file is None else _read_ids(file, id_column))
        stats = opened.stats()
    removed = before - stats["n"]
    if json is not None:
        write_report({"removed": removed, **stats}, json)
    say(screen(json), f"{index}: {removed:,} removed, {stats['n']:,} left, version {stats['version']}")


def _read_ids(file: Path, id_column: str | None) -> Sequence[Any]:
    if io.FORMATS.get(file.suffix.lower()) == "arrow":
        column = id_column_of(arrow.schema_of(file), id_column)
        if column is None:
            raise DataFormatError(f"{file}: no column 'id'; name the column of ids with --id-column")
        return ids_of(arrow.read_columns(file, [column])[column], column).tolist()
    try:
        text = sys.stdin.read() if file == STDOUT else file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataFormatError(f"{file}: not a text in UTF-8 ({error})") from error
    return [line for line in text.splitlines() if line]


def _remove(opened: annvq.Index | MultiVectorIndex, ids: Sequence[Any]) -> None:
    """Remove ids; words of a command line become integers if the index's ids are integers."""
    try:
        opened.remove(ids)
    except DtypeError:
        if not ids or not isinstance(ids[0], str):
            raise
        try:
            numbers = [int(key) for key in ids]
        except ValueError:
            wrong = next(key for key in ids if not key.lstrip("-").isdigit())
            raise DataFormatError(f"id {wrong!r}: the ids of the index are integers") from None
        opened.remove(numbers)
