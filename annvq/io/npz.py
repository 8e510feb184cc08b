"""NumPy .npz files, in which arrays that are stored uncompressed are mapped in place.

A member's declared size is checked against the bytes that the archive holds for it before anything
is allocated, so that an archive of a kilobyte cannot ask for a gigabyte.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from annvq.errors import DataFormatError, ParameterError
from annvq.io.npy import NpyHeader, as_single, as_texts, as_vectors, check_size, mapped, read_header
from annvq.io.replacing import replacing
from annvq.io.source import MatrixSource, VectorSource

_LOCAL_HEADER = 30  # bytes before a member's name
_ENCRYPTED = 0x1
_MAX_RATIO = 200  # the largest ratio of compression of large members; embeddings reach about 10
_SMALL = 1 << 24  # bytes below which any ratio is accepted
_PREFERRED = ("vectors", "base")
_IDS = "ids"


def open_file(path: Path, vector_column: str | None, id_column: str | None) -> VectorSource:
    """Return one matrix of a .npz file as a source.

    Parameters
    ----------
    path
        The file.
    vector_column
        The name of the array; by default "vectors", "base", or the only array besides "ids".
    id_column
        The name of the array of ids; by default "ids", if there is one.

    Raises
    ------
    DataFormatError
        The file is damaged, truncated or implausibly compressed.
    ParameterError
        There is no such array, or there are several to choose from.

    """
    names = array_names(path)
    matrix = as_vectors(read_array(path, _choose(names, vector_column, path)), path)
    return MatrixSource(matrix, ids_loader(path, names, id_column))


def ids_loader(path: Path, names: list[str], id_column: str | None) -> Callable[[], np.ndarray | None]:
    """Return a function that reads the ids from the array ``id_column``, by default "ids", if there is one.

    ``names`` are those of all arrays; ParameterError is raised if ``id_column`` is none of them.
    """
    ids = id_column or (_IDS if _IDS in names else None)
    if ids is not None and ids not in names:
        raise ParameterError(f"{path}: no array {ids!r}; arrays: {', '.join(names)}")
    return lambda: None if ids is None else _as_ids(read_array(path, ids), path)


def read_single(path: Path, vector_column: str | None) -> np.ndarray | None:
    """Return the numbers (d,) of the array that `open_file` takes, if it is of one axis, or None."""
    name = _choose(array_names(path), vector_column, path)
    with _archive(path) as archive, _opened(archive, path, name) as file:
        axes = len(read_header(file, f"{path}: {name}").shape)  # type: ignore[arg-type]
    return as_single(read_array(path, name)) if axes == 1 else None


def write_file(path: Path, vectors: np.ndarray, ids: np.ndarray | None) -> None:
    """Write the arrays "vectors" and, if ids are given, "ids", uncompressed so that they can be mapped.

    Raises
    ------
    ParameterError
        A str id ends in NUL, which a NumPy string cannot hold.

    """
    arrays = {"vectors": vectors}
    if ids is not None:
        arrays[_IDS] = ids.astype(str) if ids.dtype == object else ids
        if ids.dtype == object and (arrays[_IDS] != ids).any():
            raise ParameterError("ids that end in NUL do not fit .npz; write .parquet or .arrow")
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def array_names(path: Path) -> list[str]:
    """Return the names of the arrays in a .npz file."""
    with _archive(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def read_array(path: Path, name: str) -> np.ndarray:
    """Return one array, which is mapped if it is stored uncompressed, and else decompressed.

    Raises
    ------
    DataFormatError
        There is no such array, or it is damaged, encrypted, of objects, or implausibly compressed.

    """
    with _archive(path) as archive:
        where = f"{path}: {name}"
        with _opened(archive, path, name) as file:
            member = archive.getinfo(f"{name}.npy")
            header = read_header(file, where)  # type: ignore[arg-type]
            check_size(header, member.file_size, where)
            if member.compress_type == zipfile.ZIP_STORED and not header.fortran_order:
                return mapped(path, header, _data_offset(path, member, where) + header.bytes)
            return _decompressed(file, header, where)


def _opened(archive: zipfile.ZipFile, path: Path, name: str) -> IO[bytes]:
    """Open the file of an array after checking what the archive says about it (DataFormatError)."""
    try:
        member = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise DataFormatError(f"{path}: no array {name!r}") from None
    _check_member(member, path.stat().st_size, f"{path}: {name}")
    return archive.open(member)


def _choose(names: list[str], wanted: str | None, path: Path) -> str:
    if wanted is not None:
        if wanted not in names:
            raise ParameterError(f"{path}: no array {wanted!r}; arrays: {', '.join(names)}")
        return wanted
    others = [name for name in names if name != _IDS]
    found = next((name for name in _PREFERRED if name in names), others[0] if len(others) == 1 else None)
    if found is None:
        raise ParameterError(f"{path}: arrays {', '.join(names) or 'none'}; name one with vector_column")
    return found


def _as_ids(array: np.ndarray, path: Path) -> np.ndarray:
    if array.ndim != 1 or array.dtype.kind not in "iuU":
        raise DataFormatError(f"{path}: ids are {array.dtype} of shape {array.shape}, expected (n,) int64 or str")
    if array.dtype == np.uint64 and (array > np.iinfo(np.int64).max).any():
        raise DataFormatError(f"{path}: an id above 2^63 - 1")
    return as_texts(array, str(path)) if array.dtype.kind == "U" else array.astype(np.int64)


def _check_member(member: zipfile.ZipInfo, size: int, where: str) -> None:
    """Raise DataFormatError unless the member's declared size is plausible for the bytes behind it."""
    if member.flag_bits & _ENCRYPTED or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataFormatError(f"{where}: encrypted, or compressed by another method than deflate")
    if member.header_offset < 0 or member.header_offset + _LOCAL_HEADER + member.compress_size > size:
        raise DataFormatError(f"{where}: truncated")
    limit = member.compress_size if member.compress_type == zipfile.ZIP_STORED else _MAX_RATIO * member.compress_size
    if member.file_size > max(limit, _SMALL):
        raise DataFormatError(
            f"{where}: {member.compress_size} bytes that claim to hold {member.file_size}; "
            f"compression above {_MAX_RATIO} is not believed"
        )


def _data_offset(path: Path, member: zipfile.ZipInfo, where: str) -> int:
    """Return where a stored member's bytes begin: after its local header, which has a length of its own."""
    with open(path, "rb") as file:
        file.seek(member.header_offset)
        local = file.read(_LOCAL_HEADER)
        size = path.stat().st_size
    lengths = int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
    offset = member.header_offset + _LOCAL_HEADER + lengths
    if offset + member.file_size > size or member.file_size != member.compress_size:
        raise DataFormatError(f"{where}: truncated")
    return offset


def _decompressed(file: Any, header: NpyHeader, where: str) -> np.ndarray:
    array = np.empty(header.shape, header.dtype, order="F" if header.fortran_order else "C")
    flat: Any = array.reshape(-1, order="A").view(np.uint8)
    view = memoryview(flat)
    done = 0
    while done < len(view):
        count = file.readinto(view[done : done + _SMALL])
        if not count:
            raise DataFormatError(f"{where}: truncated")
        done += count
    if file.read(1):  # also makes zipfile compare the checksum
        raise DataFormatError(f"{where}: longer than its header says")
    return array


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        raise DataFormatError(f"{path}: {error}") from error
    except (RuntimeError, zlib.error) as error:  # the member needs a password, or is not deflated
        raise DataFormatError(f"{path}: {error}") from error
