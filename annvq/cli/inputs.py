"""What commands read: vectors of one file or many with ids and attributes, and what is said about them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import typer

from annvq import io
from annvq.errors import DtypeError, ParameterError
from annvq.io import arrow, columns
from annvq.io.many import files_of, joined
from annvq.progress import Progress

_ID_LIKE = re.compile(r"(^|_)(id|ids|key|uuid|guid|pk)$|(?<=[a-z])(Id|ID)$|^(isbn|doi|url|sku)$", re.ASCII)
_LOOKED_AT = 1000  # vectors, of which lengths are compared
_UNIT = 0.01  # what lengths may differ from 1


@dataclass(frozen=True)
class Embeddings:
    """Vectors with their ids as a source, and an Arrow table of attributes or None."""

    source: io.VectorSource
    attributes: pa.Table | None


def open_embeddings(
    given: Sequence[Path],
    vector_column: str | None,
    id_column: str | None,
    attributes: str | None,
    progress: Progress,
) -> Embeddings:
    """Open files, folders and patterns as one source, and say which columns are left out.

    ``attributes`` are columns separated by commas, or "all".

    Raises
    ------
    ParameterError, DataFormatError, ShapeError, DtypeError, OSError
        What is given cannot be read as vectors, ids and attributes of one kind.

    """
    files = files_of(given, tuple(io.FORMATS))
    sources = [io.open_vectors(file, vector_column=vector_column, id_column=id_column) for file in files]
    source = joined(sources, [str(file) for file in files])
    return Embeddings(source, _attributes(files, vector_column, id_column, attributes, progress))


def _attributes(
    files: Sequence[Path], vector_column: str | None, id_column: str | None, wanted: str | None, progress: Progress
) -> pa.Table | None:
    """Return the attributes of all files, and say what is dropped of the first."""
    tabular = [file for file in files if io.FORMATS.get(file.suffix.lower()) == "arrow"]
    if wanted is not None and len(tabular) < len(files):
        other = next(file for file in files if file not in tabular)
        raise ParameterError(f"{other}: attributes are read from Parquet and Arrow files only")
    if not tabular:
        return None
    schema = arrow.schema_of(tabular[0])
    vectors, ids = columns.vector_column_of(schema, vector_column), columns.id_column_of(schema, id_column)
    others = [field.name for field in schema if field.name not in (vectors, ids)]
    if ids is None:
        likely = [name for name in others if _ID_LIKE.search(name) and columns.is_id_type(schema.field(name).type)]
        if likely:
            progress.note(f"row numbers are the ids; column {likely[0]!r} looks like ids: --id-column {likely[0]}")
    names = [] if wanted is None else others if wanted == "all" else _names(wanted)
    if dropped := [name for name in others if name not in names]:
        more = f" and {len(dropped) - 8} more" if len(dropped) > 8 else ""
        progress.note(f"columns that are not kept: {', '.join(dropped[:8])}{more} (--attributes all, or some of them)")
    if not names:
        return None
    tables = [arrow.read_columns(file, names) for file in tabular]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise DtypeError(f"attributes: {error}") from error


def _names(wanted: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in wanted.split(",") if name.strip()))
    if not names:
        raise typer.BadParameter("--attributes: expected names of columns, separated by commas, or 'all'")
    return names


def say_if_lengths_count(source: io.VectorSource, progress: Progress) -> None:
    """Say that inner products rank long vectors first, where the first vectors are not all of length one."""
    block = next(source.batches(_LOOKED_AT), None)
    if block is None or not len(block):
        return
    rows = np.asarray(block[:_LOOKED_AT], dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1)
    if np.isfinite(lengths).all() and np.abs(lengths - 1).max() > _UNIT:
        progress.note(
            f"metric ip, and vectors are {lengths.min():.3g} to {lengths.max():.3g} long: longer ones come first. "
            "--metric cosine compares directions, --metric l2 distances; --metric ip says that this is meant"
        )
