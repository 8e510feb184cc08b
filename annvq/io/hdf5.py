"""HDF5 files (with h5py): matrices by name, mapped if they are stored contiguously."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from annvq.errors import AnnvqError, DataFormatError, MissingExtraError, ParameterError
from annvq.io.hdf5_strings import read_strings
from annvq.io.replacing import replacing
from annvq.io.source import ChunkedSource, MatrixSource, VectorSource

_PREFERRED = ("vectors", "train")
_IDS = "ids"
_SPAN_BYTES = 1 << 24  # decoded at a time
_MAX_RATIO = 200  # of compression, see annvq.io.npz
_SMALL = 1 << 24


def open_file(path: Path, vector_column: str | None, id_column: str | None) -> VectorSource:
    """Return one matrix of an HDF5 file as a source.

    Parameters
    ----------
    path
        The file.
    vector_column
        The name of the dataset; by default "vectors", "train", or the only dataset besides "ids".
    id_column
        The name of the ids' dataset; by default "ids", if there is one.

    Raises
    ------
    DataFormatError
        The file is damaged, or its data lies outside it.
    ParameterError
        There is no such dataset, or there are several to choose from.
    MissingExtraError
        h5py is not installed.

    """
    names = _names(path)
    vectors = _choose(names, vector_column, path)
    ids = id_column or (_IDS if _IDS in names else None)
    if ids is not None and ids not in names:
        raise ParameterError(f"{path}: no dataset {ids!r}; datasets: {', '.join(names)}")
    return matrix_source(path, vectors, ids)


def read_single(path: Path, vector_column: str | None) -> np.ndarray | None:
    """Return the numbers (d,) of the dataset that `open_file` takes, if it is of one axis, or None."""
    name = _choose(_names(path), vector_column, path)
    with opened(path) as file:
        dataset = dataset_of(file, name, path)
        return dataset[:] if len(dataset.shape) == 1 and dataset.dtype.kind in "fiu" else None


def _names(path: Path) -> list[str]:
    with opened(path) as file:
        return [name for name in file if _is_local(file, name) and isinstance(file.get(name), _h5py().Dataset)]


def write_file(path: Path, vectors: np.ndarray, ids: np.ndarray | None) -> None:
    """Write the datasets "vectors" and, if ids are given, "ids", contiguously so that they can be mapped.

    Raises
    ------
    ParameterError
        A str id holds NUL, which HDF5 takes for the end of the string.

    """
    h5py = _h5py()
    if ids is not None and ids.dtype == object and any("\0" in key for key in ids):
        raise ParameterError("ids that hold NUL do not fit HDF5; write .parquet or .arrow")
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file["vectors"] = vectors
        if ids is not None:
            file.create_dataset(_IDS, data=ids, dtype=h5py.string_dtype() if ids.dtype == object else ids.dtype)


def matrix_source(path: Path, name: str, ids: str | None = None) -> VectorSource:
    """Return a dataset (n, d) as a source, which is mapped if stored contiguously, and else read by spans of rows."""

    def load_ids() -> np.ndarray | None:
        return None if ids is None else _read_ids(path, ids)

    with opened(path) as file:
        dataset = dataset_of(file, name, path)
        if len(dataset.shape) != 2 or dataset.dtype.kind not in "fiu":
            raise DataFormatError(f"{path}: {name} is {dataset.dtype} {dataset.shape}, expected (n, d) numbers")
        n, d = dataset.shape
        span = max(1, _SPAN_BYTES // max(1, d * dataset.dtype.itemsize))
        matrix = _mapped(dataset, path)
    if matrix is not None:
        return MatrixSource(matrix, load_ids)

    def read(chunk: int, rows: int) -> Iterator[np.ndarray]:
        stop = min(n, (chunk + 1) * span)
        with opened(path) as file:
            for start in range(chunk * span, stop, rows):
                yield dataset_of(file, name, path)[start : min(stop, start + rows)]

    return ChunkedSource([min(span, n - start) for start in range(0, n, span)], d, read, load_ids)


def dataset_of(file: Any, name: str, path: Path) -> Any:
    """Return a dataset of an open file.

    Raises
    ------
    DataFormatError
        It does not exist, its data is in another file, or its size is not plausible for the bytes
        that the file holds for it.

    """
    h5py = _h5py()
    dataset: Any = file[name] if _is_local(file, name) else None
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        raise DataFormatError(f"{path}: no dataset {name!r} in the file itself")
    if dataset.external or dataset.is_virtual:
        raise DataFormatError(f"{path}: the data of {name!r} lie in other files")
    declared = math.prod(dataset.shape) * dataset.dtype.itemsize
    stored = dataset.id.get_storage_size()
    if stored > path.stat().st_size or declared > max(_SMALL, _MAX_RATIO * stored):
        raise DataFormatError(f"{path}: {name} claims {declared} bytes, the file holds {stored} for it")
    return dataset


def _is_local(file: Any, name: str) -> bool:
    """Return whether a name is that of a dataset or group, not of a link, which may lead into another file."""
    return isinstance(file.get(name, getlink=True), _h5py().HardLink)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a file for reading; what h5py raises for a damaged file becomes DataFormatError."""
    h5py = _h5py()
    with open(path, "rb"):  # a missing file stays a FileNotFoundError
        pass
    try:
        with h5py.File(path, "r") as file:
            yield file
    except AnnvqError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise DataFormatError(f"{path}: {error}") from error


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise MissingExtraError("h5py", "hdf5") from None
    return h5py


def _mapped(dataset: Any, path: Path) -> np.ndarray | None:
    """Return the dataset mapped, or None if it is chunked, compressed or not yet written."""
    offset = dataset.id.get_offset()
    if offset is None:
        return None
    if offset + math.prod(dataset.shape) * dataset.dtype.itemsize > path.stat().st_size:
        raise DataFormatError(f"{path}: truncated in {dataset.name}")
    return np.memmap(path, dataset.dtype, mode="r", offset=offset, shape=dataset.shape)


def _read_ids(path: Path, name: str) -> np.ndarray:
    with opened(path) as file:
        dataset = dataset_of(file, name, path)
        if len(dataset.shape) != 1:
            raise DataFormatError(f"{path}: {name} has shape {dataset.shape}, expected (n,)")
        if dataset.dtype.kind in "iu":
            ids = dataset[:]
            if ids.dtype == np.uint64 and (ids > np.iinfo(np.int64).max).any():
                raise DataFormatError(f"{path}: an id above 2^63 - 1")
            return ids.astype(np.int64)
        kind = _h5py().check_string_dtype(dataset.dtype)
        if kind is None:
            raise DataFormatError(f"{path}: {name} is {dataset.dtype}, expected int64 or str")
        try:
            texts = read_strings(dataset, path) if kind.length is None else dataset[:].tolist()
            return np.array([*(text.decode() for text in texts), None], object)[:-1]
        except UnicodeDecodeError as error:
            raise DataFormatError(f"{path}: {name} are not UTF-8 text: {error}") from error


def _choose(names: list[str], wanted: str | None, path: Path) -> str:
    if wanted is not None:
        if wanted not in names:
            raise ParameterError(f"{path}: no dataset {wanted!r} in the file itself; datasets: {', '.join(names)}")
        return wanted
    others = [name for name in names if name != _IDS]
    found = next((name for name in _PREFERRED if name in names), others[0] if len(others) == 1 else None)
    if found is None:
        raise ParameterError(f"{path}: datasets {', '.join(names) or 'none'}; name one with vector_column")
    return found
