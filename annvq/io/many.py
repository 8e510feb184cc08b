"""Several files as one source of vectors."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from annvq.errors import DataFormatError, DtypeError, ParameterError, ShapeError
from annvq.io.source import ChunkedSource, VectorSource

_Read = Callable[[int, int], Iterator[np.ndarray]]


def files_of(given: Sequence[Path], suffixes: Sequence[str]) -> list[Path]:
    """Return the files that paths stand for: a folder for its files with one of the suffixes, a pattern for matches.

    Files of a folder or a pattern are in the order of their names, and a path that exists is not taken as a pattern.

    Raises
    ------
    ParameterError
        A folder holds no such file, or a pattern matches nothing.

    """
    files: list[Path] = []
    for path in given:
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.suffix.lower() in suffixes and file.is_file())
        elif not path.exists() and glob.has_magic(str(path)):
            found = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
        else:
            found = [path]
        if not found:
            raise ParameterError(f"{path}: no file with vectors there ({', '.join(suffixes)})")
        files += found
    return files


def joined(sources: Sequence[VectorSource], names: Sequence[str]) -> VectorSource:
    """Return the vectors of several sources, one source after the other.

    Parameters
    ----------
    sources
        At least one. Each can be read again and knows how many vectors it has, as sources of files do.
    names
        What messages call the sources.

    Raises
    ------
    ShapeError
        The vectors of two sources differ in dimension.

    """
    if len(sources) == 1:
        return sources[0]
    for source, name in zip(sources, names):
        if source.dim != sources[0].dim:
            raise ShapeError(f"{name}: dimension {source.dim}, but that of {names[0]} is {sources[0].dim}")
    chunks = [chunk for source in sources for chunk in _chunks_of(source)]

    def read(chunk: int, rows: int) -> Iterator[np.ndarray]:
        return chunks[chunk][1](rows)

    return ChunkedSource(
        [length for length, _ in chunks],
        sources[0].dim,
        read,
        lambda: joined_ids([source.ids() for source in sources], names),
    )


def _chunks_of(source: VectorSource) -> list[tuple[int, Callable[[int], Iterator[np.ndarray]]]]:
    """Return the length and reader of every chunk, so that a sample decodes only the chunks that hold its rows."""
    if isinstance(source, ChunkedSource):
        return [(length, _reader(source.read, chunk)) for chunk, length in enumerate(source.lengths)]
    assert source.count is not None
    return [(source.count, source.batches)]


def _reader(read: _Read, chunk: int) -> Callable[[int], Iterator[np.ndarray]]:
    return lambda rows: read(chunk, rows)


def joined_ids(ids: Sequence[np.ndarray | None], names: Sequence[str]) -> np.ndarray | None:
    """Return the ids of several files, which messages call ``names``, one after the other; None if no file has any.

    Raises
    ------
    DataFormatError
        Only some of the files have ids.
    DtypeError
        The ids are integers in some files and strings in others.

    """
    given = [column for column in ids if column is not None]
    if not given:
        return None
    if len(given) < len(ids):
        without = next(name for name, column in zip(names, ids) if column is None)
        raise DataFormatError(f"{without}: no ids there, but other files have them")
    if len({column.dtype for column in given}) > 1:
        raise DtypeError(f"ids are integers in some files and strings in others: {', '.join(names)}")
    return np.concatenate(given)
