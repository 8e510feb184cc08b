"""A store whose files are all in memory, as one container of bytes."""

from __future__ import annotations

import json
import os
import stat
import uuid as uuids
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from annvq.errors import CorruptIndexError, DtypeError
from annvq.storage import container, strictjson
from annvq.storage.container import NO_INDEX, Container
from annvq.storage.section import storable

_KIND = "index"
_CONFIG = "config"
_WHERE = Path("bytes of an index")  # in the place of a path, in messages


class MemoryStore:
    """The files of one version of an index, as `annvq.storage.Store` offers them.

    In the container, the sections of a file follow its name and a dot; ``config`` is the version's configuration and
    the names of its files.
    """

    version = 1
    mode = "rw"

    def __init__(self) -> None:
        self.config: dict[str, Any] = {}
        self._files: dict[str, dict[str, np.ndarray]] = {}

    @classmethod
    def from_bytes(cls, content: bytes | bytearray | memoryview) -> MemoryStore:
        """Return the store that `to_bytes` wrote after checking every byte; arrays are views of ``content``.

        Raises
        ------
        DtypeError
            The content is not bytes.
        CorruptIndexError, VersionError
            It is not what `to_bytes` returned, or comes from a newer annvq.

        """
        if not isinstance(content, bytes | bytearray | memoryview):
            raise DtypeError(f"{type(content).__name__}, expected bytes")
        found = Container(_Bytes(bytes(content)), _WHERE)  # what can be changed is copied
        found.verify()
        if found.kind != _KIND:
            raise CorruptIndexError(f"{_WHERE}: a container of kind {found.kind!r}, expected {_KIND!r}")
        sections = found.sections()
        made = cls()
        try:
            described = strictjson.parse(sections.pop(_CONFIG).tobytes())
            made.config, names = described["config"], described["files"]
            made._files = {name: {} for name in names}
            for full, array in sections.items():
                name, _, section = full.partition(".")
                made._files[name][section] = array
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptIndexError(f"{_WHERE}: the configuration cannot be read: {error!r}") from error
        return made

    def to_bytes(self) -> bytes:
        """Return all files and the configuration as one container (ParameterError if there are too many)."""
        described = json.dumps({"config": self.config, "files": list(self._files)})
        sections = {_CONFIG: np.frombuffer(described.encode("ascii"), np.uint8)}
        for name, arrays in self._files.items():
            sections |= {f"{name}.{section}": array for section, array in arrays.items()}
        _, parts = container.parts_of((_KIND, NO_INDEX, uuids.uuid4()), sections)
        return b"".join(parts)

    def names(self) -> tuple[str, ...]:
        """Return the names of the files."""
        return tuple(self._files)

    def sections(self, name: str, owned: Collection[str] = ()) -> dict[str, np.ndarray]:
        """Return the arrays of a file."""
        return dict(self._files[name])

    def check(self, names: Iterable[str]) -> None:
        """Do nothing, because everything was checked when it was read."""

    def verify(self) -> None:
        """Do nothing, as `check` does."""

    def stage(self, kind: str, sections: Mapping[str, np.ndarray]) -> str:
        """Add a file, and return its name."""
        name = f"{kind}{len(self._files)}"
        self._files[name] = {section: storable(section, array) for section, array in sections.items()}
        return name

    def commit(self, config: dict[str, Any], keep: Iterable[str]) -> int:
        """Set the configuration; every file is kept."""
        self.config = config
        return self.version

    def discard(self, names: Iterable[str]) -> None:
        """Do nothing: a store whose writing failed is dropped."""


class _Bytes:
    """The file system that `Container` takes, of one file, whose content is at hand."""

    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)

    def open(self, path: Path) -> int:
        return 0

    def close(self, descriptor: int) -> None:
        pass

    def stat(self, descriptor: int) -> os.stat_result:
        return os.stat_result((stat.S_IFREG, 0, 0, 0, 0, 0, len(self._content), 0, 0, 0))

    def read(self, descriptor: int, offset: int, count: int) -> bytes:
        return bytes(self._content[offset : offset + count])

    def map(self, descriptor: int, size: int) -> memoryview:
        return self._content
