"""The manifest: one small JSON file that says which containers make the current version."""

from __future__ import annotations

import json
import re
import stat
import uuid as uuids
import zlib
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from annvq.errors import CorruptIndexError, ParameterError, VersionError
from annvq.storage import strictjson
from annvq.storage.container import KIND, MAJOR, MINOR, Entry
from annvq.storage.filesystem import FileSystem, opened, read_fully

NAME = "manifest.json"
FILE_NAME = re.compile(KIND + r"-[0-9a-f]{32}\.annvq")
TEMPORARY_NAME = re.compile(r"manifest-[0-9a-f]{32}\.tmp")
_MAGIC = "annvq-index"
_MOST_BYTES = 1 << 22
_UUID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Manifest:
    """One version of an index: its files, and what the index wants to keep in ``config``."""

    uuid: uuids.UUID
    version: int
    config: dict[str, Any]
    files: tuple[Entry, ...]

    def to_bytes(self) -> bytes:
        """Return the file's bytes; ParameterError is raised if ``config`` could not be read back from them."""
        body = {
            "magic": _MAGIC,
            "format": {"major": MAJOR, "minor": MINOR},
            "annvq": _annvq_version(),
            "uuid": self.uuid.hex,
            "version": self.version,
            "config": self.config,
            "files": [asdict(entry) for entry in self.files],
        }
        try:
            rest = json.dumps(body, separators=(",", ":"), allow_nan=False).encode()[1:] + b"\n"
            raw = _first_line(rest) + rest
            self.from_bytes(raw)
        except (TypeError, ValueError, RecursionError) as error:
            raise ParameterError(f"a configuration that a manifest cannot hold: {error}") from error
        if len(raw) > _MOST_BYTES:
            raise ParameterError(f"a manifest of {len(raw)} bytes; at most {_MOST_BYTES} are read back")
        return raw

    @classmethod
    def from_bytes(cls, raw: bytes) -> Manifest:
        """Parse a manifest; a newer format raises VersionError, anything else not written so CorruptIndexError."""
        try:
            body = _object(strictjson.parse(raw))
            if body.get("magic") != _MAGIC:
                raise ValueError("not the manifest of an annvq index")
            major, minor = (_count(_object(body.get("format")).get(part)) for part in ("major", "minor"))
            intact = raw.startswith(_first_line(raw[_FIRST_LINE_BYTES:]))
            if major > MAJOR:
                damaged = "" if intact else " (or its manifest is damaged)"
                raise VersionError(f"the index has format {major}.{minor}{damaged}, this annvq reads up to {MAJOR}")
            if not intact:
                raise ValueError("wrong checksum")
            return cls._from_body(major, body)
        except VersionError:
            raise
        except (ValueError, KeyError) as error:
            lacking = "no " if isinstance(error, KeyError) else ""
            raise CorruptIndexError(f"{NAME}: {lacking}{error}") from error

    @classmethod
    def _from_body(cls, major: int, body: dict[str, Any]) -> Manifest:
        if major < MAJOR:
            raise ValueError(f"format {major}")
        if not isinstance(body["files"], list):
            raise ValueError("files is not a list")
        files = tuple(_entry(_object(row)) for row in body["files"])
        if len({entry.name for entry in files}) != len(files):
            raise ValueError("a file is there twice")
        version = _count(body["version"])
        if version == 0:
            raise ValueError("version 0")
        return cls(uuids.UUID(hex=_uuid(body["uuid"])), version, _object(body["config"]), files)


def read(fs: FileSystem, folder: Path) -> Manifest:
    """Read the manifest of a folder.

    Raises
    ------
    CorruptIndexError
        The folder holds no manifest, or one that is damaged.
    VersionError
        A newer annvq wrote it.
    OSError
        It cannot be read; FileNotFoundError if the folder is not there.

    """
    try:
        raw = read_raw(fs, folder)
    except FileNotFoundError as error:
        fs.list(folder)  # raises if it is the folder that does not exist
        raise CorruptIndexError(f"{folder} is not an annvq index: no {NAME}") from error
    except NotADirectoryError as error:
        raise CorruptIndexError(f"{folder} is not an annvq index: a file, not a folder") from error
    try:
        return Manifest.from_bytes(raw)
    except (CorruptIndexError, VersionError) as error:
        raise type(error)(f"{folder}: {error}") from error


def read_raw(fs: FileSystem, folder: Path) -> bytes:
    """Return the bytes of a folder's manifest, not parsed; errors as for `read`."""
    with opened(fs, folder / NAME) as descriptor:
        status = fs.stat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise CorruptIndexError(f"{folder / NAME}: not a regular file")
        if status.st_size > _MOST_BYTES:
            raise CorruptIndexError(f"{folder / NAME}: {status.st_size} bytes, at most {_MOST_BYTES} are read")
        return read_fully(fs, descriptor, 0, status.st_size)


def is_of_index(raw: bytes) -> bool:
    """Return whether these are, or once were, a manifest's bytes: the magic is in its place."""
    return raw[_FIRST_LINE_BYTES:].startswith(f'"magic":"{_MAGIC}"'.encode())


def _first_line(rest: bytes) -> bytes:
    """Return the line that precedes the ``rest`` of a manifest and holds its checksum."""
    return b'{"crc32":"%08x",\n' % zlib.crc32(rest)


_FIRST_LINE_BYTES = len(_first_line(b""))


def _annvq_version() -> str:
    try:
        return metadata.version("annvq")
    except metadata.PackageNotFoundError:
        return "unknown"


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError(f"{value!r:.80} where a count should be")
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{type(value).__name__} where an object should be")
    return value


def _uuid(value: Any) -> str:
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise ValueError(f"{value!r:.80} where a uuid should be")
    return value


def _entry(row: dict[str, Any]) -> Entry:
    name, uuid = row["name"], _uuid(row["uuid"])
    if not isinstance(name, str) or not FILE_NAME.fullmatch(name) or not name.endswith(f"-{uuid}.annvq"):
        raise ValueError(f"file name {name!r:.80}")
    return Entry(name, _count(row["bytes"]), uuid, _count(row["table_crc32"]))
