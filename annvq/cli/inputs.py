"""What commands read: vectors or documents of one file or many, with ids and attributes; what is said about them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import typer

from annvq import io
from annvq.errors import DtypeError, ParameterError
from annvq.io import arrow, columns
from annvq.io.many import files_of, joined
from annvq.multivector import source as document_files
from annvq.multivector.source import DocumentSource
from annvq.progress import Progress

_ID_LIKE = re.compile(r"(^|_)(id|ids|key|uuid|guid|pk)$|(?<=[a-z])(Id|ID)$|^(isbn|doi|url|sku)$", re.ASCII)
_LOOKED_AT = 1000  # vectors, of which lengths are compared
_UNIT = 0.01  # what lengths may differ from 1


@dataclass(frozen=True)
class Embeddings:
    """Vectors with their ids as a source, and an Arrow table of attributes or None."""

    source: io.VectorSource
    attributes: pa.Table | None


@dataclass(frozen=True)
class Documents:
    """Documents of several vectors with their ids as a source, and an Arrow table of attributes or None."""

    source: DocumentSource
    attributes: pa.Table | None


@dataclass(frozen=True)
class Columns:
    """What an input is and which of its columns are taken, as the options of a command name them.

    ``attributes`` are columns separated by commas, or "all".
    """

    paths: Sequence[Path]
    vectors: str | None
    ids: str | None
    attributes: str | None

    def files(self) -> list[Path]:
        """Return the files that the paths stand for (ParameterError)."""
        return files_of(self.paths, tuple(io.FORMATS))


def has_documents(given: Columns) -> bool:
    """Return whether the first file holds documents of several vectors (DataFormatError, OSError)."""
    return document_files.holds_documents(given.files()[0], given.vectors)


def open_embeddings(given: Columns, progress: Progress) -> Embeddings:
    """Open files, folders and patterns as one source of vectors, and say which columns are left out.

    Raises
    ------
    ParameterError, DataFormatError, ShapeError, DtypeError, OSError
        What is given cannot be read as vectors, ids and attributes of one kind.

    """
    files = given.files()
    sources = [io.open_vectors(file, vector_column=given.vectors, id_column=given.ids) for file in files]
    source = joined(sources, [str(file) for file in files])
    return Embeddings(source, _attributes(files, given, columns.vector_column_of, progress))


def open_documents(given: Columns, progress: Progress) -> Documents:
    """Open files, folders and patterns as one source of documents; all else is the same as for `open_embeddings`."""
    files = given.files()
    sources = [document_files.open_documents(file, vector_column=given.vectors, id_column=given.ids) for file in files]
    documents = document_files.joined(sources, [str(file) for file in files])
    return Documents(documents, _attributes(files, given, columns.document_column_of, progress))


def _attributes(
    files: Sequence[Path], given: Columns, vector_column_of: Callable[[pa.Schema, str | None], str], progress: Progress
) -> pa.Table | None:
    """Return the attributes of all files, and say what is dropped of the first."""
    wanted = given.attributes
    tabular = [file for file in files if io.FORMATS.get(file.suffix.lower()) == "arrow"]
    if wanted is not None and len(tabular) < len(files):
        other = next(file for file in files if file not in tabular)
        raise ParameterError(f"{other}: attributes are read from Parquet and Arrow files only")
    if not tabular:
        return None
    schema = arrow.schema_of(tabular[0])
    vectors, ids = vector_column_of(schema, given.vectors), columns.id_column_of(schema, given.ids)
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
    """Say that inner products rank long vectors first, if the first vectors are not all of length one."""
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
