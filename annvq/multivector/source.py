"""Documents of several vectors in files, read batch by batch.

.parquet .pq .arrow .feather .ipc    a column of lists of vectors
.npz                                 "vectors" (n, d) with "offsets" (m + 1,)
.npy                                 (m, t, d), documents of t vectors each
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from annvq import io
from annvq.arguments import as_file
from annvq.errors import DataFormatError, ShapeError
from annvq.multivector.ragged import Ragged, concatenated

_OFFSETS = "offsets"
_DOCUMENTS = 1024  # decoded at a time


@dataclass(frozen=True)
class DocumentSource:
    """Documents that can be read in batches, any number of times.

    Parameters
    ----------
    count
        The number of documents m.
    batches
        Returns an iterator over all documents in their order.
    ids
        Returns the ids that stand beside the documents, (m,) int64 or object array of str, or None.

    """

    count: int
    batches: Callable[[], Iterator[Ragged]]
    ids: Callable[[], np.ndarray | None]

    def read(self) -> Ragged:
        """Return all documents; ShapeError if there are none, for then nothing tells the dimension."""
        parts = list(self.batches())
        if not parts:
            raise ShapeError("no documents, expected at least one")
        return concatenated(parts)


def open_documents(
    path: str | os.PathLike[str], *, vector_column: str | None = None, id_column: str | None = None
) -> DocumentSource:
    """Return the documents of a file.

    Parameters
    ----------
    path
        A file with one of the suffixes that the module lists.
    vector_column
        The column of lists of vectors, by default the only one, or the array (.npz), by default "vectors".
    id_column
        The column or array of ids, by default "id" (Parquet, Arrow) or "ids" (.npz), if there is one.

    Raises
    ------
    DataFormatError
        The file is damaged, or holds no documents of several vectors.
    ParameterError
        There is no such column, or there are several to choose from.
    OSError
        The file cannot be opened.

    """
    path = as_file(path)
    kind = io.FORMATS.get(path.suffix.lower())
    if kind == "arrow":
        return _of_arrow(path, vector_column, id_column)
    if kind == "npz":
        return _of_npz(path, vector_column, id_column)
    if kind == "npy":
        return _of_npy(path)
    raise DataFormatError(f"{path}: documents of several vectors are read from Parquet, Arrow, npz and npy files")


def holds_documents(path: Path, vector_column: str | None = None) -> bool:
    """Return whether a file that exists holds documents of several vectors; parameters as for `open_documents`."""
    kind = io.FORMATS.get(as_file(path).suffix.lower())
    if kind == "arrow":
        from annvq.io import arrow, columns

        return columns.holds_documents(arrow.schema_of(path), vector_column)
    if kind == "npz":
        from annvq.io import npz

        return _OFFSETS in npz.array_names(path)
    if kind == "npy":
        from annvq.io import npy

        return npy.map_array(path).ndim == 3
    return False


def joined(sources: Sequence[DocumentSource], names: Sequence[str]) -> DocumentSource:
    """Return the documents of several sources, which messages call ``names``, one source after the other."""
    from annvq.io.many import joined_ids

    return DocumentSource(
        sum(source.count for source in sources),
        lambda: chain.from_iterable(source.batches() for source in sources),
        lambda: joined_ids([source.ids() for source in sources], names),
    )


def _of_arrow(path: Path, vector_column: str | None, id_column: str | None) -> DocumentSource:
    from annvq.io import arrow, columns

    schema = arrow.schema_of(path)
    vectors, ids = columns.document_column_of(schema, vector_column), columns.id_column_of(schema, id_column)

    def batches() -> Iterator[Ragged]:
        done, dim = 0, None
        for part in arrow.column_parts(path, vectors, _DOCUMENTS):
            sets = Ragged.of(part, dim=dim, name=f"{path}: column {vectors!r}", first=done)
            done, dim = done + len(sets), sets.dim
            yield sets

    def load_ids() -> np.ndarray | None:
        return None if ids is None else columns.ids_of(arrow.read_columns(path, [ids])[ids], ids)

    return DocumentSource(arrow.row_count(path), batches, load_ids)


def _of_npz(path: Path, vector_column: str | None, id_column: str | None) -> DocumentSource:
    from annvq.io import npz

    names = npz.array_names(path)
    if _OFFSETS not in names:
        raise DataFormatError(f'{path}: arrays {", ".join(names)}; documents need "offsets" (m + 1,) beside "vectors"')
    sets = Ragged.of(npz.read_array(path, vector_column or "vectors"), npz.read_array(path, _OFFSETS), name=str(path))
    return DocumentSource(len(sets), lambda: _slices(sets), npz.ids_loader(path, names, id_column))


def _of_npy(path: Path) -> DocumentSource:
    from annvq.io import npy

    array = npy.map_array(path)
    if array.ndim != 3 or 0 in array.shape[1:]:
        raise DataFormatError(f"{path}: array of shape {array.shape}, expected (documents, vectors, dimension)")
    flat = array.reshape(-1, array.shape[2])
    sets = Ragged.of(flat, np.arange(len(array) + 1) * array.shape[1], name=str(path))
    return DocumentSource(len(sets), lambda: _slices(sets), lambda: None)


def _slices(sets: Ragged) -> Iterator[Ragged]:
    for start in range(0, len(sets), _DOCUMENTS):
        yield sets[start : start + _DOCUMENTS]
