"""fbin, u8bin, i8bin and ibin files: two uint32, the number of rows n and their length d, then n * d values.

This is the format of the big-ann-benchmarks (https://big-ann-benchmarks.com). Numbers are little-endian. True
neighbours have the same header (the number of queries and of neighbours per query), then all ids as uint32 and, in most
files, all distances as float32; their files end in .ibin, .bin or nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from annvq.errors import DataFormatError, DtypeError, ParameterError, ShapeError
from annvq.io.replacing import replacing
from annvq.io.source import MatrixSource, VectorSource
from annvq.io.vecs import MAX_DIM, no_columns, stored_dtype

DTYPES = {".fbin": np.dtype("<f4"), ".u8bin": np.dtype("u1"), ".i8bin": np.dtype("i1"), ".ibin": np.dtype("<i4")}
_ID, _DISTANCE = np.dtype("<u4"), np.dtype("<f4")
_HEADER_BYTES = 8
_MOST = (1 << 32) - 1  # what a uint32 holds
_BLOCK_ROWS = 4096


def open_file(path: Path, vector_column: str | None, id_column: str | None) -> VectorSource:
    """Return the mapped rows of a file as a source (DataFormatError; ParameterError for any column)."""
    no_columns(path, vector_column, id_column)
    dtype = DTYPES[path.suffix.lower()]
    n, d, size = _read_header(path)
    if size != n * d * dtype.itemsize:
        hint = "; these may be true neighbours, for annvq.io.read_ground_truth" if size == n * d * 8 else ""
        raise DataFormatError(f"{path}: {size} bytes after the header, expected {_expected(n, d, dtype)}{hint}")
    return MatrixSource(_mapped(path, dtype, 0, n, d))


def write_file(path: Path, vectors: np.ndarray, ids: np.ndarray | None) -> None:
    """Write a matrix whose values the file's number type holds exactly.

    Raises
    ------
    ParameterError
        Ids are given, which the format cannot hold.
    DtypeError
        The dtype does not fit, for instance float32 for .u8bin.
    ShapeError
        There are more rows than a uint32 counts.

    """
    dtype = stored_dtype(path, DTYPES, vectors, ids)
    _write(path, vectors.shape, [(vectors, dtype)])


def read_ground_truth(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Return ids (nq, k) int64 and distances (nq, k) float32, or None for these if the file holds ids only."""
    nq, k, size = _read_header(path)
    ids_bytes = nq * k * _ID.itemsize
    if size not in (ids_bytes, ids_bytes + nq * k * _DISTANCE.itemsize):
        raise DataFormatError(
            f"{path}: {size} bytes after the header, expected {_expected(nq, k, _ID)}, or twice as many with distances"
        )
    ids = _mapped(path, _ID, 0, nq, k).astype(np.int64)
    if size == ids_bytes:
        return ids, None
    return ids, np.array(_mapped(path, _DISTANCE, ids_bytes, nq, k), np.float32)


def write_ground_truth(path: Path, ids: np.ndarray, distances: np.ndarray | None) -> None:
    """Write ids and, unless they are None, distances, both (nq, k) (ShapeError, DtypeError, ParameterError)."""
    if ids.ndim != 2 or ids.shape[1] == 0:
        raise ShapeError(f"ids of shape {ids.shape}, expected (nq, k)")
    if ids.dtype.kind not in "iu":
        raise DtypeError(f"ids of dtype {ids.dtype}, expected integers")
    if ids.size and (ids.min() < 0 or ids.max() > _MOST):
        raise ParameterError(f"ids {ids.min()} to {ids.max()}, expected 0 to {_MOST}, which the format holds")
    parts: list[tuple[np.ndarray, np.dtype[Any]]] = [(ids, _ID)]
    if distances is not None:
        if distances.shape != ids.shape:
            raise ShapeError(f"distances of shape {distances.shape}, expected {ids.shape} as the ids")
        if not np.can_cast(distances.dtype, _DISTANCE):
            raise DtypeError(f"distances of dtype {distances.dtype}, expected float32")
        parts.append((distances, _DISTANCE))
    _write(path, ids.shape, parts)


def _read_header(path: Path) -> tuple[int, int, int]:
    """Return the number of rows, their length, and how many bytes come after the header."""
    with open(path, "rb") as file:
        header = file.read(_HEADER_BYTES)
        size = os.fstat(file.fileno()).st_size
    if len(header) < _HEADER_BYTES:
        raise DataFormatError(f"{path}: {size} bytes, expected a header of {_HEADER_BYTES} at least")
    n, d = int.from_bytes(header[:4], "little"), int.from_bytes(header[4:], "little")
    if not 1 <= d <= MAX_DIM:
        raise DataFormatError(f"{path}: rows of {d} values in the header, expected 1 to {MAX_DIM}")
    return n, d, size - _HEADER_BYTES


def _expected(n: int, d: int, dtype: np.dtype) -> str:
    return f"{n * d * dtype.itemsize} ({n} rows of {d} {dtype})"


def _mapped(path: Path, dtype: np.dtype, offset: int, n: int, d: int) -> np.ndarray:
    """Map (n, d) values that begin ``offset`` bytes after the header of a file known to be long enough."""
    if n == 0:  # nothing to map
        return np.empty((0, d), dtype)
    return np.memmap(path, dtype, mode="r", offset=_HEADER_BYTES + offset, shape=(n, d))


def _write(path: Path, shape: tuple[int, ...], parts: list[tuple[np.ndarray, np.dtype]]) -> None:
    if max(shape) > _MOST:
        raise ShapeError(f"{path}: an array of shape {shape}, but the format counts to {_MOST}")
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(np.array(shape, "<u4").tobytes())
        for matrix, dtype in parts:
            for start in range(0, len(matrix), _BLOCK_ROWS):
                file.write(np.ascontiguousarray(matrix[start : start + _BLOCK_ROWS], dtype=dtype).tobytes())
