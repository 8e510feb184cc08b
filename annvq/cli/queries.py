"""Queries from files and from standard input, with their ids if they have some."""

from __future__ import annotations

import io as streams
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from annvq import io
from annvq.cli.options import STDOUT
from annvq.errors import AnnvqError, DataFormatError
from annvq.io.npy import map_array
from annvq.multivector.source import open_documents
from annvq.progress import shown

_NPY = b"\x93NUMPY"
_VECTOR_KEYS = ("vector", "vectors", "embedding")


@dataclass(frozen=True)
class Queries:
    """Vectors (nq, d), or sets of vectors for an index of documents, and nq ids or None."""

    vectors: Any
    ids: list[Any] | None

    def __len__(self) -> int:
        return len(self.vectors)


def read_queries(path: Path, *, vector_column: str | None, id_column: str | None, documents: bool = False) -> Queries:
    """Return the queries of a file or, for "-", of standard input.

    ``documents`` asks for sets of vectors.

    Raises
    ------
    DataFormatError
        A line is not a query, or the file is damaged.
    ParameterError, MissingExtraError, OSError
        The file cannot be read, as for `annvq.io.open_vectors`.

    """
    if path == STDOUT:
        return _from_stdin(documents)
    if documents:
        return _sets(path, vector_column, id_column)
    vectors = io.read_queries(path, vector_column=vector_column)
    return Queries(vectors, _ids_beside(path, vector_column, id_column, len(vectors)))


def _ids_beside(path: Path, vector_column: str | None, id_column: str | None, count: int) -> list[Any] | None:
    try:
        ids = io.open_vectors(path, vector_column=vector_column, id_column=id_column).ids()
    except AnnvqError as error:
        if id_column is not None:
            raise
        if "id" in str(error).split("'"):
            with shown() as progress:
                progress.note(f"ids of the queries are not taken: {error}")
        return None
    return ids.tolist() if ids is not None and len(ids) == count else None


def _from_stdin(documents: bool) -> Queries:
    content = sys.stdin.buffer.read()
    if content.startswith(_NPY):
        try:
            array = np.load(streams.BytesIO(content), allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise DataFormatError(f"standard input: {error}") from error
        single = array.ndim == (2 if documents else 1)
        return Queries(array[np.newaxis] if single else array, None)
    vectors, ids = [], []
    for number, line in enumerate(content.splitlines(), 1):
        if line.strip():
            vector, key = _query(line, number)
            vectors.append(np.asarray(vector, dtype=np.float32) if documents else vector)
            ids.append(key)
    if not vectors:
        raise DataFormatError("standard input: no queries; expected a JSON list of numbers per line, or an npy file")
    if all(key is None for key in ids):
        return Queries(vectors, None)
    if len({type(key) for key in ids}) > 1:
        raise DataFormatError("standard input: either all queries have ids of one type, or none has an id")
    return Queries(vectors, ids)


def _query(line: bytes, number: int) -> tuple[list[Any], Any]:
    """Return the vector and the id of a line, which is a list, or an object with "vector" and perhaps "id"."""
    try:
        given = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataFormatError(f"standard input, line {number}: {error}") from None
    key = given.get("id") if isinstance(given, dict) else None
    if isinstance(given, dict):
        given = next((given[name] for name in _VECTOR_KEYS if name in given), None)
    if not isinstance(given, list) or not given:
        raise DataFormatError(
            f'standard input, line {number}: expected a list of numbers, or an object {{"id": ..., "vector": [...]}}'
        )
    if key is not None and (isinstance(key, bool) or not isinstance(key, int | str)):
        raise DataFormatError(f"standard input, line {number}: id {key!r}, expected an integer or a string")
    return given, key


def _sets(path: Path, vector_column: str | None, id_column: str | None) -> Queries:
    """Return sets of vectors from what `open_documents` reads, or one set from an npy array (t, d)."""
    if path.suffix.lower() == ".npy" and (array := map_array(path)).ndim == 2:
        return Queries(array[np.newaxis], None)
    given = open_documents(path, vector_column=vector_column, id_column=id_column)
    ids = given.ids()
    return Queries(given.read(), None if ids is None else ids.tolist())
