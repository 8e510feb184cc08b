"""Container files: named arrays, immutable, every byte under a checksum. Format: docs/format.md.

    header    64 bytes   magic, format, kind, index uuid, file uuid, crc of the header
    sections             each at a multiple of 64, padded with zeros; a crc over the padded extent
    table                JSON: name, dtype, shape, offset, bytes, crc of every section
    footer    64 bytes   table offset, table bytes, table crc, file bytes, file uuid, magic, crc
"""

from __future__ import annotations

import json
import math
import mmap
import os
import re
import struct
import uuid as uuids
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from annvq.errors import CorruptIndexError, ParameterError, StorageError, VersionError
from annvq.storage.filesystem import LOCAL, FileSystem

MAGIC, END_MAGIC = b"ANNVQSEG", b"GESQVNNA"
MAJOR, MINOR = 1, 0
ALIGN = 64
NO_INDEX = uuids.UUID(int=0)
_HEADER = struct.Struct("<8sHH16s16s16sI")  # magic, major, minor, kind, index, file, crc of what precedes
_FOOTER = struct.Struct("<QQIQ16s8sI")  # table offset, bytes, crc; file bytes; file uuid; magic; crc
_MOST_TABLE = 1 << 20
_NAME = re.compile(r"[a-z][a-z0-9_.]{0,63}")
_DTYPES = {np.dtype(code).str: np.dtype(code) for code in ("u1", "i1", *(f"<{k}{b}" for k in "iu" for b in (2, 4, 8)))}
_DTYPES |= {f"<f{size}": np.dtype(f"<f{size}") for size in (2, 4, 8)}


@dataclass(frozen=True)
class Section:
    """Where an array lies in a container; ``crc`` covers its bytes and the zeros after them."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    crc: int

    @property
    def end(self) -> int:
        """Offset of the next section."""
        return self.offset + _padded(self.nbytes)


@dataclass(frozen=True)
class Entry:
    """What a manifest knows of a container."""

    name: str
    bytes: int
    uuid: str
    crc: int


def _padded(nbytes: int) -> int:
    return -(-nbytes // ALIGN) * ALIGN


def write(
    fs: FileSystem, path: Path, kind: str, index: uuids.UUID, sections: Mapping[str, np.ndarray]
) -> Entry:
    """Write a new container and sync it; ParameterError for arrays that have no place in one."""
    if not _NAME.fullmatch(kind) or len(kind) > 16:
        raise ParameterError(f"kind {kind!r}: expected up to 16 of a-z, 0-9, _ and .")
    file = uuids.uuid4()
    head = struct.pack("<8sHH16s16s16s", MAGIC, MAJOR, MINOR, kind.encode(), index.bytes, file.bytes)
    parts: list[bytes | memoryview] = [head + struct.pack("<I", zlib.crc32(head))]
    offset, table = ALIGN, []
    for name, array in sections.items():
        array = _storable(name, array)
        content = memoryview(array.reshape(-1).view(np.uint8))
        padding = bytes(_padded(array.nbytes) - array.nbytes)
        crc = zlib.crc32(padding, zlib.crc32(content))
        table.append(
            {"name": name, "dtype": array.dtype.str, "shape": array.shape, "offset": offset, "bytes": array.nbytes}
            | {"crc": crc}
        )
        parts += [content, padding]
        offset += _padded(array.nbytes)
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (_padded(len(text)) - len(text))
    total = offset + len(text) + ALIGN
    tail = struct.pack("<QQIQ16s8s", offset, len(text), zlib.crc32(text), total, file.bytes, END_MAGIC)
    tail += bytes(ALIGN - 4 - len(tail))
    parts += [text, tail + struct.pack("<I", zlib.crc32(tail))]
    fs.write(path, parts)
    fs.sync(path)
    return Entry(path.name, total, file.hex, zlib.crc32(text))


def _storable(name: str, array: np.ndarray) -> np.ndarray:
    array = np.ascontiguousarray(array)
    if not _NAME.fullmatch(name):
        raise ParameterError(f"section name {name!r}: expected up to 64 of a-z, 0-9, _ and .")
    little = array.dtype.newbyteorder("<")
    if little.str not in _DTYPES:
        raise ParameterError(f"section {name}: dtype {array.dtype} cannot be stored, only {', '.join(_DTYPES)}")
    return array.astype(little, copy=False)


class Container:
    """An open container: sections mapped from the file, checked as far as that needs no reading of them."""

    def __init__(self, path: Path, index: uuids.UUID | None = None, entry: Entry | None = None) -> None:
        self.path = path
        try:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                self._map = self._open(descriptor, index, entry)
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            raise
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise StorageError(error.errno, f"cannot read {path.name}: {error.strerror}", str(path)) from error

    def _open(self, descriptor: int, index: uuids.UUID | None, entry: Entry | None) -> mmap.mmap:
        size = os.fstat(descriptor).st_size
        if entry is not None and size != entry.bytes:
            raise self._corrupt(f"{size} bytes, the manifest says {entry.bytes}")
        if size < 2 * ALIGN:
            raise self._corrupt(f"{size} bytes are less than header and footer take")
        head, tail = os.pread(descriptor, ALIGN, 0), os.pread(descriptor, ALIGN, size - ALIGN)
        file = self._check_header(head, index)
        start, length, crc = self._check_footer(tail, size, file)
        if entry is not None and (entry.uuid, entry.crc) != (file.hex, crc):
            raise self._corrupt("not the file that the manifest means")
        text = os.pread(descriptor, length, start)
        if zlib.crc32(text) != crc:
            raise self._corrupt("section table: wrong checksum")
        self.table = self._parse(text, start)
        return mmap.mmap(descriptor, size, prot=mmap.PROT_READ)

    def _corrupt(self, problem: str) -> CorruptIndexError:
        return CorruptIndexError(f"{self.path.name}: {problem}")

    def _check_header(self, head: bytes, index: uuids.UUID | None) -> uuids.UUID:
        magic, major, _, kind, of_index, file, crc = _HEADER.unpack(head)
        if magic != MAGIC:
            raise self._corrupt("header: not an annvq container")
        if zlib.crc32(head[:-4]) != crc:
            raise self._corrupt("header: wrong checksum")
        if major > MAJOR:
            raise VersionError(f"{self.path.name}: format {major}, this annvq reads up to {MAJOR}")
        if index is not None and of_index != index.bytes:
            raise self._corrupt("header: belongs to another index")
        self.kind = kind.rstrip(b"\0").decode("ascii", "replace")
        return uuids.UUID(bytes=file)

    def _check_footer(self, tail: bytes, size: int, file: uuids.UUID) -> tuple[int, int, int]:
        start, length, crc, total, of_file, magic = struct.unpack_from("<QQIQ16s8s", tail)
        if magic != END_MAGIC or zlib.crc32(tail[:-4]) != struct.unpack("<I", tail[-4:])[0]:
            raise self._corrupt("footer: wrong checksum")
        if total != size or of_file != file.bytes:
            raise self._corrupt("footer: does not belong to this file")
        if length > _MOST_TABLE or start % ALIGN or start + length + ALIGN != size or start < ALIGN:
            raise self._corrupt("footer: the section table lies outside the file")
        return start, length, crc

    def _parse(self, text: bytes, end: int) -> dict[str, Section]:
        try:
            rows = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
            table = {str(row["name"]): _section(row) for row in rows}
            if len(table) != len(rows):
                raise ValueError("a name is there twice")
            at = ALIGN
            for section in table.values():
                if section.offset != at:
                    raise ValueError(f"section {section.name} begins at {section.offset}, not at {at}")
                at = section.end
            if at != end:
                raise ValueError(f"sections end at {at}, the table begins at {end}")
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
            raise self._corrupt(f"section table: {error}") from error
        return table

    @property
    def sections(self) -> dict[str, np.ndarray]:
        """The arrays, read-only and mapped."""
        found = {}
        for name, section in self.table.items():
            count = math.prod(section.shape)
            array = np.frombuffer(self._map, section.dtype, count, section.offset) if count else None
            array = np.empty(0, section.dtype) if array is None else array
            array = array.reshape(section.shape)
            array.flags.writeable = False
            found[name] = array
        return found

    def verify(self) -> None:
        """Read every section; CorruptIndexError names the one that is wrong."""
        view = memoryview(self._map)
        for section in self.table.values():
            if zlib.crc32(view[section.offset : section.end]) != section.crc:
                raise self._corrupt(f"section {section.name}: wrong checksum")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _refuse(text: str) -> None:
    raise ValueError(f"number {text}")


def _section(row: dict[str, Any]) -> Section:
    name, dtype, shape = row["name"], row["dtype"], row["shape"]
    numbers = [row["offset"], row["bytes"], row["crc"], *shape]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"section name {name!r}")
    if dtype not in _DTYPES or not isinstance(shape, list) or len(shape) > 8:
        raise ValueError(f"section {name}: dtype {dtype!r}, shape {shape!r}")
    if not all(type(number) is int and 0 <= number < 1 << 62 for number in numbers):
        raise ValueError(f"section {name}: {numbers}")
    if math.prod(shape) * _DTYPES[dtype].itemsize != row["bytes"]:
        raise ValueError(f"section {name}: {row['bytes']} bytes for {dtype} {shape}")
    return Section(name, _DTYPES[dtype], tuple(shape), row["offset"], row["bytes"], row["crc"])


def write_container(path: str | os.PathLike[str], kind: str, sections: Mapping[str, np.ndarray]) -> None:
    """Write a container that stands alone: all of it or nothing, replacing a file that is there."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{uuids.uuid4().hex}")
    try:
        try:
            write(LOCAL, temporary, kind, NO_INDEX, sections)
            LOCAL.replace(temporary, target)
            LOCAL.sync_folder(target.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(error.errno, f"cannot write {target}: {error.strerror}", str(target)) from error


def read_container(path: str | os.PathLike[str]) -> tuple[str, dict[str, np.ndarray]]:
    """Return kind and arrays of a container that stands alone, after reading every byte."""
    try:
        container = Container(Path(path))
    except FileNotFoundError as error:
        raise StorageError(error.errno, f"there is no file {path}", str(path)) from error
    container.verify()
    return container.kind, container.sections
