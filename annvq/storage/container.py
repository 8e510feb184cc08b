"""Container files: named arrays, immutable, every byte under a checksum. Format: docs/format.md.

header    64 bytes   magic, format, kind, index uuid, file uuid, crc of the header
sections             each at a multiple of 64, padded with zeros; a crc over the padded extent
table                JSON: name, dtype, shape, offset, bytes, crc of every section
footer    64 bytes   table offset, table bytes, table crc, file bytes, file uuid, magic, crc
"""

from __future__ import annotations

import math
import os
import re
import stat
import struct
import uuid as uuids
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from annvq.errors import CorruptIndexError, ParameterError, VersionError
from annvq.storage.filesystem import FileSystem, ReadableFiles, opened, os_errors, read_fully, write_file
from annvq.storage.section import (
    ALIGN,
    MOST_TABLE_BYTES,
    Section,
    padding,
    parse_table,
    raw_bytes,
    storable,
    table_bytes,
)

MAGIC, END_MAGIC = b"ANNVQSEG", b"GESQVNNA"
MAJOR, MINOR = 1, 0
NO_INDEX = uuids.UUID(int=0)
KIND = r"[a-z][a-z0-9_]{0,15}"
_HEADER = struct.Struct("<8sHH16s16s16s")  # magic, major, minor, kind, index uuid, file uuid
_FOOTER = struct.Struct("<QQIQ16s8s8x")  # table offset, bytes, crc; file bytes; file uuid; magic; zeros
_CRC = struct.Struct("<I")  # ends header and footer, over what stands before it
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Entry:
    """What a manifest records of a container; ``table_crc32`` is the checksum of its section table."""

    name: str
    bytes: int
    uuid: str
    table_crc32: int

    @property
    def kind(self) -> str:
        """What the container is for."""
        return self.name.partition("-")[0]


def file_name(kind: str, file: uuids.UUID) -> str:
    """Return the name of a container in an index's folder; a kind that is not a word raises ParameterError."""
    if not re.fullmatch(KIND, kind):
        raise ParameterError(f"kind {kind!r}: expected up to 16 of a-z, 0-9 and _, first a letter")
    return f"{kind}-{file.hex}.annvq"


def write(
    fs: FileSystem,
    path: Path,
    identity: tuple[str, uuids.UUID, uuids.UUID],
    arrays: Mapping[str, np.ndarray],
) -> Entry:
    """Write a new container and sync it.

    Parameters
    ----------
    fs, path
        The file to write, which must not exist.
    identity
        Kind, uuid of the index (`NO_INDEX` for a file that stands alone), uuid of the file.
    arrays
        Sections by name, in the order in which they are to lie in the file.

    Raises
    ------
    ParameterError
        A container cannot hold an array, or its name; nothing is written then.
    OSError

    """
    entry, parts = parts_of(identity, arrays)
    write_file(fs, path, parts)
    return entry


def parts_of(
    identity: tuple[str, uuids.UUID, uuids.UUID], arrays: Mapping[str, np.ndarray]
) -> tuple[Entry, list[bytes | memoryview]]:
    """Return the bytes of a new container in parts; parameters and errors are those of `write`."""
    kind, index, file = identity
    name = file_name(kind, file)
    parts: list[bytes | memoryview] = [
        _sealed(_HEADER.pack(MAGIC, MAJOR, MINOR, kind.encode(), index.bytes, file.bytes))
    ]
    table: list[Section] = []
    offset = ALIGN
    for section_name, given in arrays.items():
        array = storable(section_name, given)
        table.append(Section.of(section_name, array, offset))
        parts += [raw_bytes(array), bytes(padding(array.nbytes))]
        offset = table[-1].end
    text = table_bytes(table)
    total = offset + len(text) + ALIGN
    parts += [text, _sealed(_FOOTER.pack(offset, len(text), zlib.crc32(text), total, file.bytes, END_MAGIC))]
    return Entry(name, total, file.hex, zlib.crc32(text)), parts


def _sealed(content: bytes) -> bytes:
    return content + _CRC.pack(zlib.crc32(content))


def _is_sealed(content: bytes) -> bool:
    return _CRC.pack(zlib.crc32(content[: -_CRC.size])) == content[-_CRC.size :]


class Container:
    """An open container, mapped, and checked as far as is possible without reading its sections.

    Parameters
    ----------
    fs, path
        The file.
    index, entry
        The index that it should belong to, and what the manifest records of it; None if it stands alone.

    Raises
    ------
    CorruptIndexError, VersionError
        The file is not what was written, or not what the manifest means.
    StorageError
        It cannot be read.
    OSError
        It cannot be opened; FileNotFoundError if it is not there.

    """

    def __init__(
        self, fs: ReadableFiles, path: Path, index: uuids.UUID | None = None, entry: Entry | None = None
    ) -> None:
        self.path = path
        self._fs = fs
        with opened(fs, path) as descriptor, os_errors("read", path):
            self._status = fs.stat(descriptor)
            size = self._check_size(entry)
            start = self._check_ends(descriptor, size, index, entry)
            self.table = self._read_table(descriptor, start, size)
            self._map = fs.map(descriptor, size)

    def sections(self, owned: Collection[str] = ()) -> dict[str, np.ndarray]:
        """Return the arrays, read-only and C-contiguous, all mapped but those named in ``owned``.

        Those are read into memory and their checksums are checked, so that nothing that happens to the file changes
        them (CorruptIndexError, OSError).
        """
        arrays = {section.name: self._array(section, self._map) for section in self.table if section.name not in owned}
        with self._reading() as read:
            for section in self.table:
                if section.name in owned:
                    arrays[section.name] = self._array(section, self._checked(section, read), section.offset)
        return arrays

    def verify(self) -> None:
        """Read every section; CorruptIndexError names the one that is wrong, and a failing read raises OSError."""
        with self._reading() as read:
            for section in self.table:
                crc = 0
                for offset in range(section.offset, section.end, _CHUNK):
                    crc = zlib.crc32(read(offset, min(_CHUNK, section.end - offset)), crc)
                self._check_crc(section, crc)

    @contextmanager
    def _reading(self) -> Iterator[Callable[[int, int], bytes | memoryview]]:
        """Provide a function that reads the mapped content, given an offset and a number of bytes.

        It reads from the file, where a disk error raises an exception instead of a signal. It reads from the mapping
        if the file has been removed or another has taken its place.
        """
        try:
            descriptor = self._fs.open(self.path)
        except FileNotFoundError:
            descriptor = None
        try:
            if descriptor is not None and os.path.samestat(self._fs.stat(descriptor), self._status):
                with os_errors("read", self.path):
                    yield partial(read_fully, self._fs, descriptor)
            else:
                yield lambda offset, count: self._map[offset : offset + count]
        finally:
            if descriptor is not None:
                self._fs.close(descriptor)

    def _check_size(self, entry: Entry | None) -> int:
        status = self._status
        if not stat.S_ISREG(status.st_mode):
            raise self._corrupt("not a regular file")
        if entry is not None and status.st_size != entry.bytes:
            raise self._corrupt(f"{status.st_size} bytes, the manifest says {entry.bytes}")
        if status.st_size < 2 * ALIGN:
            raise self._corrupt(f"{status.st_size} bytes, header and footer alone take {2 * ALIGN}")
        return status.st_size

    def _check_ends(self, descriptor: int, size: int, index: uuids.UUID | None, entry: Entry | None) -> int:
        """Check header and footer; return where the section table begins."""
        file = self._check_header(read_fully(self._fs, descriptor, 0, ALIGN), index)
        tail = read_fully(self._fs, descriptor, size - ALIGN, ALIGN)
        if len(tail) < ALIGN or not _is_sealed(tail):
            raise self._corrupt("footer: wrong checksum")
        start, length, self._table_crc, total, of_file, magic = _FOOTER.unpack_from(tail)
        if (magic, total, of_file) != (END_MAGIC, size, file.bytes):
            raise self._corrupt("footer: not that of this file")
        if length > MOST_TABLE_BYTES or start % ALIGN or start < ALIGN or start + length + ALIGN != size:
            raise self._corrupt(f"footer: a section table of {length} bytes at {start} in a file of {size}")
        if entry is not None and (entry.kind, entry.uuid, entry.table_crc32) != (self.kind, file.hex, self._table_crc):
            raise self._corrupt("header: not the file that the manifest means")
        return start

    def _check_header(self, head: bytes, index: uuids.UUID | None) -> uuids.UUID:
        if len(head) < ALIGN or not head.startswith(MAGIC):
            raise self._corrupt("header: not an annvq container")
        _, major, minor, kind, of_index, file = _HEADER.unpack_from(head)
        if major > MAJOR:
            damaged = "" if _is_sealed(head) else " (or its header is damaged)"
            raise VersionError(f"{self.path}: format {major}.{minor}{damaged}, this annvq reads up to {MAJOR}")
        if not _is_sealed(head):
            raise self._corrupt("header: wrong checksum")
        self.kind = kind.rstrip(b"\0").decode("ascii", "replace")
        if major < MAJOR or not re.fullmatch(KIND, self.kind):
            raise self._corrupt(f"header: format {major}.{minor}, kind {self.kind!r}")
        if index is not None and of_index != index.bytes:
            raise self._corrupt("header: belongs to another index")
        return uuids.UUID(bytes=file)

    def _read_table(self, descriptor: int, start: int, size: int) -> tuple[Section, ...]:
        text = read_fully(self._fs, descriptor, start, size - ALIGN - start)
        if zlib.crc32(text) != self._table_crc:
            raise self._corrupt("section table: wrong checksum")
        try:
            return parse_table(text, start)
        except ValueError as error:
            raise self._corrupt(f"section table: {error}") from error

    @staticmethod
    def _array(section: Section, content: Any, start: int = 0) -> np.ndarray:
        """Return a section of ``content``, the file's bytes from ``start`` on."""
        count = math.prod(section.shape)
        if count:
            array = np.frombuffer(content, section.dtype, count, section.offset - start)
        else:
            array = np.empty(0, section.dtype)
            array.flags.writeable = False
        return array.reshape(section.shape)

    def _checked(self, section: Section, read: Callable[[int, int], bytes | memoryview]) -> bytes | memoryview:
        """Return the bytes of a section, padding included."""
        content = read(section.offset, section.end - section.offset)
        self._check_crc(section, zlib.crc32(content))
        return content

    def _check_crc(self, section: Section, crc: int) -> None:
        if crc != section.crc:
            raise self._corrupt(f"section {section.name}: wrong checksum")

    def _corrupt(self, problem: str) -> CorruptIndexError:
        return CorruptIndexError(f"{self.path}: {problem}")
