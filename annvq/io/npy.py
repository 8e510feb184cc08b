"""NumPy .npy files, mapped into memory.

The header is parsed here and compared with the size of the file before anything is allocated:
`numpy.load` believes a header of 80 bytes that declares a terabyte. Objects (pickles) are never read.
"""

from __future__ import annotations

import ast
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from annvq.errors import DataFormatError, ParameterError
from annvq.io.replacing import replacing
from annvq.io.source import MatrixSource, VectorSource

_MAGIC = b"\x93NUMPY"
_LENGTH_BYTES = {1: 2, 2: 4, 3: 4}  # bytes of the header's length field, by major version
_MAX_HEADER = 10_000  # NumPy's own limit; a header that annvq writes has 118 bytes
_KINDS = "fiuU"  # no objects, no records


@dataclass(frozen=True)
class NpyHeader:
    """What a .npy file declares about its array, and the number of bytes before it."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran_order: bool
    bytes: int

    @property
    def data_bytes(self) -> int:
        """Number of bytes that the array takes."""
        return math.prod(self.shape) * self.dtype.itemsize


def open_file(path: Path, vector_column: str | None, id_column: str | None) -> VectorSource:
    """Return the matrix of a .npy file as a source (DataFormatError; ParameterError if a column is named)."""
    if vector_column or id_column:
        raise ParameterError(f"{path}: a .npy file has no columns, but one was named")
    return MatrixSource(as_vectors(map_array(path), path))


def read_single(path: Path, vector_column: str | None) -> np.ndarray | None:
    """Return the numbers (d,) of a file that holds an array of one axis, or None."""
    return as_single(map_array(path)) if vector_column is None else None


def as_single(array: np.ndarray) -> np.ndarray | None:
    """Return an array if it is of one axis and of numbers, or None."""
    return array if array.ndim == 1 and array.dtype.kind in "fiu" else None


def write_file(path: Path, vectors: np.ndarray, ids: np.ndarray | None) -> None:
    """Write a matrix; ids need another format (ParameterError)."""
    if ids is not None:
        raise ParameterError("a .npy file holds no ids; write .npz, .parquet, .arrow or .hdf5")
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.save(file, vectors, allow_pickle=False)


def as_vectors(array: np.ndarray, path: Path) -> np.ndarray:
    """Return ``array`` if it is a matrix of numbers (DataFormatError)."""
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise DataFormatError(f"{path}: {array.dtype} array of shape {array.shape}, expected (n, d) numbers")
    return array


def as_texts(array: np.ndarray, where: str) -> np.ndarray:
    """Return a "U" array as an object array of str; DataFormatError if it holds numbers that are not characters."""
    points = np.ascontiguousarray(array).reshape(-1).view(array.dtype.str[0] + "u4")
    if len(points) and points.max() > sys.maxunicode:  # NumPy ends in a SystemError there
        row = int(np.argmax(points > sys.maxunicode)) // (array.dtype.itemsize // 4)
        raise DataFormatError(f"{where}: row {row} holds {points.max():#x}, which is no character")
    return array.astype(object)


def map_array(path: Path) -> np.ndarray:
    """Return the array of a .npy file, read-only and mapped.

    Raises
    ------
    DataFormatError
        The file is not a .npy file, holds objects or records, or is not as large as its header says.

    """
    with open(path, "rb") as file:
        header = read_header(file, str(path))
        size = os.fstat(file.fileno()).st_size
    check_size(header, size, str(path))
    return mapped(path, header, header.bytes)


def check_size(header: NpyHeader, size: int, where: str) -> None:
    """Raise DataFormatError unless a file of ``size`` bytes is what its header says."""
    if header.bytes + header.data_bytes != size:
        raise DataFormatError(
            f"{where}: {size} bytes, but the header says {header.bytes + header.data_bytes} "
            f"({header.dtype} of shape {header.shape}); truncated, or not what was written"
        )


def mapped(path: Path, header: NpyHeader, offset: int) -> np.ndarray:
    """Map the array that starts at byte ``offset`` of a file known to be long enough."""
    order = "F" if header.fortran_order else "C"
    if header.data_bytes == 0:  # nothing to map
        return np.empty(header.shape, header.dtype, order=order)
    return np.memmap(path, header.dtype, mode="r", offset=offset, shape=header.shape, order=order)


def read_header(file: BinaryIO, where: str) -> NpyHeader:
    """Read a .npy header from the start of an open file (DataFormatError)."""
    start = file.read(len(_MAGIC) + 2)
    if len(start) < len(_MAGIC) + 2 or not start.startswith(_MAGIC):
        raise DataFormatError(f"{where}: not a .npy file")
    width = _LENGTH_BYTES.get(start[-2])
    if width is None:
        raise DataFormatError(f"{where}: .npy version {start[-2]}.{start[-1]}, expected 1.0 to 3.0")
    length = int.from_bytes(file.read(width), "little")
    if length > _MAX_HEADER:
        raise DataFormatError(f"{where}: header of {length} bytes, expected at most {_MAX_HEADER}")
    text = file.read(length)
    if len(text) < length:
        raise DataFormatError(f"{where}: truncated in the header")
    shape, dtype, fortran_order = _parse(text, where)
    return NpyHeader(shape, dtype, fortran_order, len(start) + width + length)


def _parse(text: bytes, where: str) -> tuple[tuple[int, ...], np.dtype, bool]:
    try:
        fields = ast.literal_eval(text.decode("utf-8").strip())
        shape, fortran_order, descr = fields["shape"], fields["fortran_order"], fields["descr"]
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError) as error:
        raise DataFormatError(f"{where}: header that cannot be read") from error
    if not isinstance(fortran_order, bool):
        raise DataFormatError(f"{where}: fortran_order {fortran_order!r} in the header, expected True or False")
    if not isinstance(shape, tuple) or not all(type(length) is int and length >= 0 for length in shape):
        raise DataFormatError(f"{where}: shape {shape!r} in the header, expected lengths of at least 0")
    return shape, _dtype_of(descr, where), fortran_order


def _dtype_of(descr: object, where: str) -> np.dtype:
    try:
        dtype = np.dtype(descr) if isinstance(descr, str) else None
    except (TypeError, ValueError, SyntaxError):
        dtype = None
    if dtype is None or dtype.kind not in _KINDS or dtype.itemsize == 0:
        raise DataFormatError(f"{where}: dtype {descr!r} in the header, expected numbers or str")
    return dtype
