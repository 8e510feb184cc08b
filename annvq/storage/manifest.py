"""The manifest: one small JSON file that says which containers make the current version."""

from __future__ import annotations

import json
import re
import uuid as uuids
import zlib
from dataclasses import asdict, dataclass
from typing import Any

from annvq.errors import CorruptIndexError, VersionError
from annvq.storage.container import MAJOR, MINOR, Entry, _refuse, _unique

NAME = "manifest.json"
MOST_BYTES = 1 << 24
_MAGIC = "annvq-index"
FILE_NAME = re.compile(r"[a-z][a-z0-9_]{0,15}-[0-9a-f]{32}\.annvq")


@dataclass(frozen=True)
class Manifest:
    """One version of an index: its files, and what the index wants to remember in ``config``."""

    uuid: uuids.UUID
    version: int
    config: dict[str, Any]
    files: tuple[Entry, ...]

    def to_bytes(self) -> bytes:
        """Return the file's bytes: one JSON object and, in a last line, the checksum of the line before."""
        body = {
            "magic": _MAGIC,
            "format": {"major": MAJOR, "minor": MINOR},
            "uuid": self.uuid.hex,
            "version": self.version,
            "config": self.config,
            "files": [asdict(entry) for entry in self.files],
        }
        line = json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
        return line + b"\n" + f"{zlib.crc32(line):08x}".encode() + b"\n"

    @classmethod
    def from_bytes(cls, raw: bytes) -> Manifest:
        """Parse; VersionError for a newer format, CorruptIndexError for anything that was not written so."""
        line, newline, rest = raw.partition(b"\n")
        if not newline or rest != f"{zlib.crc32(line):08x}\n".encode():
            raise CorruptIndexError(f"{NAME}: wrong checksum")
        try:
            body = json.loads(line, object_pairs_hook=_unique, parse_constant=_refuse)
            if body["magic"] != _MAGIC:
                raise ValueError("not the manifest of an annvq index")
            major = body["format"]["major"]
            if type(major) is int and major > MAJOR:
                raise VersionError(f"the index has format {major}, this annvq reads up to {MAJOR}")
            return cls(
                uuids.UUID(hex=body["uuid"]),
                _count(body["version"]),
                _object(body["config"]),
                tuple(_entry(row) for row in body["files"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, VersionError):
                raise
            raise CorruptIndexError(f"{NAME}: {error}") from error


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError(f"{value!r} where a count should be")
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{type(value).__name__} where an object should be")
    return value


def _entry(row: Any) -> Entry:
    name = row["name"]
    if not isinstance(name, str) or not FILE_NAME.fullmatch(name):
        raise ValueError(f"file name {name!r}")
    return Entry(name, _count(row["bytes"]), uuids.UUID(hex=row["uuid"]).hex, _count(row["crc"]))
