"""fvecs, ivecs and bvecs files, where every row is an int32 dimension, then float32, int32 or uint8 values.

This is the format of the TEXMEX data sets (http://corpus-texmex.irisa.fr). Numbers are little-endian.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from annvq.errors import DataFormatError, DtypeError, ParameterError
from annvq.io.replacing import replacing
from annvq.io.source import VectorSource, sample_rows

DTYPES = {".fvecs": np.dtype("<f4"), ".ivecs": np.dtype("<i4"), ".bvecs": np.dtype("u1")}
MAX_DIM = 1 << 20
_BLOCK_ROWS = 4096


class VecsSource:
    """Rows of a mapped fvecs, ivecs or bvecs file.

    The size of the file is checked when it is opened, and the dimension of every row when the row is read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._dtype = DTYPES[path.suffix.lower()]
        self.dim = _read_dim(path)
        self._row_bytes = 4 + self.dim * self._dtype.itemsize
        size = path.stat().st_size
        if size % self._row_bytes:
            raise DataFormatError(
                f"{path}: {size} bytes are no multiple of the {self._row_bytes} of a row of dimension "
                f"{self.dim}; truncated, or rows of different dimensions"
            )
        self.count = size // self._row_bytes
        self._rows = np.memmap(path, np.uint8, mode="r", shape=(self.count, self._row_bytes))

    def _take(self, which: slice | np.ndarray) -> np.ndarray:
        """Return rows as a new array, because the mapped ones are not aligned."""
        rows = self._rows[which]
        dims = np.ascontiguousarray(rows[:, :4]).view("<i4")[:, 0]
        if (dims != self.dim).any():
            wrong = int(np.argmax(dims != self.dim))
            row = which.start + wrong if isinstance(which, slice) else int(which[wrong])
            raise DataFormatError(f"{self._path}: row {row} has dimension {dims[wrong]}, row 0 has {self.dim}")
        return np.ascontiguousarray(rows[:, 4:]).view(self._dtype)

    def batches(self, rows: int) -> Iterator[np.ndarray]:
        """Yield blocks of at most ``rows`` rows."""
        for start in range(0, self.count, rows):
            yield self._take(slice(start, start + rows))

    def sample(self, rows: int, seed: int) -> np.ndarray:
        """Return the chosen rows; no others are read."""
        return self._take(sample_rows(self.count, rows, seed))

    def ids(self) -> np.ndarray | None:
        """Return ``None``: the format holds no ids."""
        return None


def open_file(path: Path, vector_column: str | None, id_column: str | None) -> VectorSource:
    """Return the rows of a file as a source (DataFormatError; ParameterError for any column)."""
    no_columns(path, vector_column, id_column)
    return VecsSource(path)


def no_columns(path: Path, vector_column: str | None, id_column: str | None) -> None:
    """Raise ParameterError if a column of a file without columns is named."""
    if vector_column or id_column:
        raise ParameterError(f"{path}: a {path.suffix} file has no columns, but one was named")


def write_file(path: Path, vectors: np.ndarray, ids: np.ndarray | None) -> None:
    """Write a matrix whose values the file's number type holds exactly.

    Raises
    ------
    ParameterError
        Ids are given, which the format cannot hold.
    DtypeError
        The dtype does not fit, for instance float32 for .bvecs.

    """
    dtype = stored_dtype(path, DTYPES, vectors, ids)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        for start in range(0, len(vectors), _BLOCK_ROWS):
            block = np.ascontiguousarray(vectors[start : start + _BLOCK_ROWS], dtype=dtype)
            dims = np.full((len(block), 1), vectors.shape[1], dtype="<i4")
            file.write(np.hstack([dims.view(np.uint8), block.view(np.uint8).reshape(len(block), -1)]).tobytes())


def stored_dtype(path: Path, dtypes: Mapping[str, np.dtype], vectors: np.ndarray, ids: np.ndarray | None) -> np.dtype:
    """Return the number type that a file's suffix names, which must hold the vectors exactly and can hold no ids."""
    dtype = dtypes[path.suffix.lower()]
    if ids is not None:
        raise ParameterError(f"a {path.suffix} file holds no ids; write .npz, .parquet, .arrow or .hdf5")
    if not np.can_cast(vectors.dtype, dtype):
        raise DtypeError(f"{vectors.dtype} vectors do not fit {path.suffix}, which holds {dtype}")
    return dtype


def _read_dim(path: Path) -> int:
    with open(path, "rb") as file:
        dim = int.from_bytes(file.read(4), "little", signed=True)
    if not 1 <= dim <= MAX_DIM:
        found = "empty, so the dimension is not known" if path.stat().st_size == 0 else f"dimension {dim} in row 0"
        raise DataFormatError(f"{path}: {found}; expected 1 to {MAX_DIM}")
    return dim
