"""Reading and writing vectors in the formats that others use.

    .npy .npz               NumPy; mapped
    .parquet .pq            Parquet, by row group
    .arrow .feather .ipc    Arrow IPC files and streams, by record batch
    .fvecs .ivecs .bvecs    TEXMEX; mapped
    .fbin .u8bin .i8bin .ibin    big-ann-benchmarks; mapped
    .hdf5 .h5               HDF5, also of ann-benchmarks (extra "hdf5")

Every format is one module, imported when it is needed, with ``open_file``, ``write_file`` and, if a file can hold an
array of one axis, ``read_single``.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.arguments import as_file
from annvq.errors import DtypeError, ParameterError, ShapeError
from annvq.io.source import ChunkedSource, MatrixSource, StreamSource, VectorSource

if TYPE_CHECKING:
    from annvq.io.ann_dataset import AnnDataset

__all__ = [
    "FORMATS",
    "ChunkedSource",
    "MatrixSource",
    "StreamSource",
    "VectorSource",
    "open_vectors",
    "read",
    "read_ann_dataset",
    "read_ground_truth",
    "read_queries",
    "write",
    "write_ground_truth",
]

FORMATS = {
    ".npy": "npy",
    ".npz": "npz",
    ".parquet": "arrow",
    ".pq": "arrow",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".fvecs": "vecs",
    ".ivecs": "vecs",
    ".bvecs": "vecs",
    ".fbin": "xbin",
    ".u8bin": "xbin",
    ".i8bin": "xbin",
    ".ibin": "xbin",
    ".hdf5": "hdf5",
    ".h5": "hdf5",
}


def open_vectors(
    path: str | os.PathLike[str], *, vector_column: str | None = None, id_column: str | None = None
) -> VectorSource:
    """Return the vectors of a file as a source of blocks, together with the ids that stand beside them.

    Parameters
    ----------
    path
        A file with one of the suffixes in `FORMATS`.
    vector_column
        The column (Arrow, Parquet), array (.npz) or dataset (HDF5); by default the only one that holds
        vectors, or "vectors", "base" or "train".
    id_column
        The same for ids; by default "id" (Arrow, Parquet) or "ids", if there is one.

    Raises
    ------
    ParameterError
        The path is not a path, its suffix is unknown, or there is no such column.
    DataFormatError
        The file is not what its suffix says, or is damaged; this is found before anything large is allocated.
    MissingExtraError
        The format's package is not installed.
    OSError
        The file cannot be opened.

    Examples
    --------
    >>> annvq.io.write("base.parquet", np.eye(4, dtype=np.float32), ids=["a", "b", "c", "d"])
    >>> source = annvq.io.open_vectors("base.parquet")
    >>> source.count, source.dim, source.ids().tolist()
    (4, 4, ['a', 'b', 'c', 'd'])

    """
    path = as_file(path)
    return _format_of(path).open_file(path, vector_column, id_column)


def read(path: str | os.PathLike[str], *, vector_column: str | None = None) -> np.ndarray:
    """Return all vectors of a file, (n, d), in the file's number type; they are mapped if the format allows it.

    Parameters and errors are those of `open_vectors`.

    Examples
    --------
    >>> annvq.io.write("base.fvecs", np.eye(4, dtype=np.float32))
    >>> annvq.io.read("base.fvecs").shape
    (4, 4)

    """
    source = open_vectors(path, vector_column=vector_column)
    if isinstance(source, MatrixSource):
        return source.matrix
    blocks = list(source.batches(max(1, source.count or 1)))
    return np.concatenate(blocks) if blocks else np.empty((0, source.dim), dtype=np.float32)


def read_queries(path: str | os.PathLike[str], *, vector_column: str | None = None) -> np.ndarray:
    """Return the queries of a file, (nq, d), as `read` does; an array saved as (d,) is one query.

    In Arrow and Parquet files, a column of floating-point numbers is one query if it is the only one or is named.

    Examples
    --------
    >>> np.save("query.npy", np.ones(4, np.float32))
    >>> annvq.io.read_queries("query.npy").shape
    (1, 4)

    """
    path = as_file(path)
    single = getattr(_format_of(path), "read_single", None)
    found = None if single is None else single(path, vector_column)
    return read(path, vector_column=vector_column) if found is None else found[None]


def write(path: str | os.PathLike[str], vectors: np.ndarray, ids: Any = None) -> None:
    """Write vectors, and ids if the format holds them; the file appears whole or not at all.

    Parameters
    ----------
    path
        The suffix chooses the format.
    vectors
        (n, d) numbers, which are written in their dtype.
    ids
        n integers or str.

    Raises
    ------
    ParameterError
        The suffix is unknown, or its format cannot hold ids.
    ShapeError, DtypeError
        The format cannot hold such arrays.
    MissingExtraError
        The format's package is not installed.

    Examples
    --------
    >>> annvq.io.write("base.parquet", np.eye(4, dtype=np.float32), ids=["a", "b", "c", "d"])
    >>> annvq.io.read("base.parquet").shape
    (4, 4)

    """
    path = as_file(path)
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise ShapeError(f"vectors of shape {vectors.shape}, expected (n, d)")
    if vectors.dtype.kind not in "fiu":
        raise DtypeError(f"vectors of dtype {vectors.dtype}, expected numbers")
    _format_of(path).write_file(path, vectors, None if ids is None else _as_ids(ids, len(vectors)))


def read_ann_dataset(path: str | os.PathLike[str]) -> AnnDataset:
    """Return base vectors, queries, metric and true neighbours; see `annvq.io.ann_dataset`.

    Examples
    --------
    >>> np.savez("small.npz", base=np.eye(4), query=np.ones((2, 4)), metric="ip")
    >>> annvq.io.read_ann_dataset("small.npz").base.shape
    (4, 4)

    """
    from annvq.io import ann_dataset

    return ann_dataset.read_ann_dataset(path)


def read_ground_truth(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the true neighbours of a big-ann-benchmarks file, whatever its suffix.

    Returns
    -------
    ids
        (nq, k) int64.
    distances
        (nq, k) float32 as they stand in the file, or None if it holds ids only.

    Raises
    ------
    DataFormatError
        The file's size is not what its header says; this is found before anything large is allocated.
    ParameterError, OSError
        The path is not a path, or the file cannot be opened.

    Examples
    --------
    >>> annvq.io.write_ground_truth("gt.ibin", [[0, 2], [1, 0]])
    >>> ids, distances = annvq.io.read_ground_truth("gt.ibin")
    >>> ids.tolist(), distances
    ([[0, 2], [1, 0]], None)

    """
    from annvq.io import xbin

    return xbin.read_ground_truth(as_file(path))


def write_ground_truth(path: str | os.PathLike[str], ids: Any, distances: Any = None) -> None:
    """Write true neighbours as big-ann-benchmarks does; the file appears whole or not at all.

    Parameters
    ----------
    path
        The file; the format needs no suffix, and .ibin is usual.
    ids
        (nq, k) integers from 0 to 4,294,967,295.
    distances
        (nq, k) float32; without them, the file holds ids only.

    Raises
    ------
    ShapeError, DtypeError, ParameterError
        The format cannot hold such arrays.

    Examples
    --------
    >>> annvq.io.write_ground_truth("gt.ibin", [[0, 2], [1, 0]], np.array([[0, 1], [0, 2]], np.float32))
    >>> annvq.io.read_ground_truth("gt.ibin")[1]
    array([[0., 1.],
           [0., 2.]], dtype=float32)

    """
    from annvq.io import xbin

    xbin.write_ground_truth(as_file(path), np.asarray(ids), None if distances is None else np.asarray(distances))


def _format_of(path: Path) -> ModuleType:
    name = FORMATS.get(path.suffix.lower())
    if name is None:
        raise ParameterError(f"{path}: suffix {path.suffix!r}, expected one of {', '.join(FORMATS)}")
    return importlib.import_module(f"annvq.io.{name}")


def _as_ids(ids: Any, n: int) -> np.ndarray:
    """Return ids as an int64 array or an object array of str."""
    # Ids are kept as objects, because a NumPy string would lose NULs at the end of an id.
    array = ids if isinstance(ids, np.ndarray) else np.array(ids, dtype=object)
    if array.shape != (n,):
        raise ShapeError(f"{array.shape} ids for {n} vectors")
    kinds = set(map(type, array.tolist())) if array.dtype.kind in "UO" else {array.dtype.type}
    if all(issubclass(kind, int | np.integer) and kind is not bool for kind in kinds):
        try:  # uint64 goes through objects, because it would wrap around
            return (array.astype(object) if array.dtype == np.uint64 else array).astype(np.int64)
        except OverflowError as error:
            raise DtypeError("ids hold an integer outside -2^63 to 2^63 - 1") from error
    if not all(issubclass(kind, str) for kind in kinds):
        raise DtypeError(f"ids are {', '.join(sorted(kind.__name__ for kind in kinds))}, expected integers or str")
    return array.astype(object)
