"""An index's folder: read a version, stage containers, commit the next version."""

from __future__ import annotations

import errno
import os
import uuid as uuids
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from annvq.errors import CorruptIndexError, ParameterError, StateError, StorageError
from annvq.storage import container, lock, manifest
from annvq.storage.container import Container, Entry
from annvq.storage.filesystem import LOCAL, FileSystem
from annvq.storage.lock import WriterLock
from annvq.storage.manifest import Manifest

_ATTEMPTS = 5  # a writer may remove files between a reader's look at the manifest and at them
_TEMPORARY = "manifest-"


class Store:
    """One index on disk, seen at one version; made by `Store.create` and `Store.open`."""

    def __init__(self, path: Path, mode: str, fs: FileSystem, current: Manifest, held: WriterLock | None) -> None:
        self.path, self.mode = path, mode
        self._fs, self._lock = fs, held
        self._manifest = current
        self._entries: dict[str, Entry] = {entry.name: entry for entry in current.files}
        self._open: dict[str, Container] = {}
        self._closed = False

    @classmethod
    def create(cls, path: str | os.PathLike[str], *, fs: FileSystem = LOCAL) -> Store:
        """Start a new index in a folder and take its lock.

        The folder may be missing, empty, or hold an index, which stays as it is until the first commit
        replaces it. StorageError for a folder that holds anything else; LockedError.
        """
        folder = Path(path)
        try:
            _check_replaceable(folder)
            fs.make_folder(folder)
            held = WriterLock(folder)
        except OSError as error:
            raise _as_storage_error(error, folder, "write") from error
        return cls(folder, "rw", fs, Manifest(uuids.uuid4(), 0, {}, ()), held)

    @classmethod
    def open(cls, path: str | os.PathLike[str], mode: str = "r", *, fs: FileSystem = LOCAL) -> Store:
        """Open the index in a folder; mode "rw" takes the writer's lock."""
        folder = Path(path)
        held = None
        try:
            if mode == "rw":
                _read_manifest(folder)  # no lock file in a folder that is no index
                held = WriterLock(folder)
            return cls._open_version(folder, mode, fs, held)
        except BaseException as error:
            if held is not None:
                held.release()
            if isinstance(error, OSError):
                raise _as_storage_error(error, folder, "open") from error
            raise

    @classmethod
    def _open_version(cls, folder: Path, mode: str, fs: FileSystem, held: WriterLock | None) -> Store:
        for attempt in range(_ATTEMPTS):
            store = cls(folder, mode, fs, _read_manifest(folder), held)
            try:
                for name in store._entries:
                    store._container(name)
                return store
            except FileNotFoundError as error:
                if attempt + 1 == _ATTEMPTS or _read_manifest(folder) == store._manifest:
                    raise CorruptIndexError(f"{Path(str(error.filename)).name}: the file is missing") from error
        raise AssertionError

    @property
    def version(self) -> int:
        """Version that this store shows; 0 before the first commit of a new index."""
        return self._manifest.version

    @property
    def uuid(self) -> str:
        """Identity of the index, in every one of its files."""
        return self._manifest.uuid.hex

    @property
    def config(self) -> dict[str, Any]:
        """What the last commit was given."""
        return self._manifest.config

    def names(self) -> tuple[str, ...]:
        """Return the names of the version's containers."""
        return tuple(entry.name for entry in self._manifest.files)

    def sections(self, name: str) -> dict[str, np.ndarray]:
        """Return a container's arrays, read-only and mapped; one of this version, or staged here."""
        self._check_open()
        try:
            return self._container(name).sections
        except OSError as error:
            raise _as_storage_error(error, self.path, "read") from error

    def stage(self, kind: str, sections: Mapping[str, np.ndarray]) -> str:
        """Write a container, synced, which a commit may name; return its name."""
        self._check_writable()
        name = f"{kind}-{uuids.uuid4().hex}.annvq"
        try:
            entry = container.write(self._fs, self.path / name, kind, self._manifest.uuid, sections)
        except BaseException as error:
            self._remove([name])
            if isinstance(error, OSError):
                raise _as_storage_error(error, self.path / name, "write") from error
            raise
        self._entries[name] = entry
        return name

    def commit(self, config: dict[str, Any], keep: Iterable[str]) -> int:
        """Make a version of the containers ``keep`` and of ``config``; return its number.

        When it fails, the version before stays, on disk and here.
        """
        self._check_writable()
        names = tuple(dict.fromkeys(keep))
        unknown = [name for name in names if name not in self._entries]
        if unknown:
            raise ParameterError(f"cannot commit {unknown[0]}: neither in the index nor staged")
        following = Manifest(
            self._manifest.uuid, self.version + 1, config, tuple(self._entries[name] for name in names)
        )
        temporary = self.path / f"{_TEMPORARY}{uuids.uuid4().hex}.tmp"
        try:
            self._fs.sync_folder(self.path)
            self._fs.write(temporary, [following.to_bytes()])
            self._fs.sync(temporary)
            self._fs.replace(temporary, self.path / manifest.NAME)
        except BaseException as error:
            self._remove([temporary.name])
            if isinstance(error, OSError):
                raise _as_storage_error(error, self.path, "write") from error
            raise
        self._manifest = following
        try:
            self._fs.sync_folder(self.path)
        except OSError as error:
            raise _as_storage_error(error, self.path, "sync") from error
        self._collect()
        return self.version

    def discard(self, names: Iterable[str]) -> None:
        """Remove staged containers that will not be committed, as far as possible."""
        committed = set(self.names())
        dropped = [name for name in names if name not in committed]
        for name in dropped:
            self._entries.pop(name, None)
            self._open.pop(name, None)
        self._remove(dropped)

    def verify(self) -> None:
        """Read every byte; CorruptIndexError names the file and the section that is wrong."""
        self._check_open()
        for name in self.names():
            Container(self.path / name, self._manifest.uuid, self._entries[name]).verify()

    def is_current(self) -> bool:
        """Return whether no later version was committed."""
        self._check_open()
        return _read_manifest(self.path) == self._manifest

    def close(self) -> None:
        """Let go of lock and files; arrays that were handed out stay valid. Closing twice is fine."""
        self._closed = True
        self._open.clear()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _container(self, name: str) -> Container:
        if name not in self._open:
            if name not in self._entries:
                raise CorruptIndexError(f"{name}: not in the manifest")
            self._open[name] = Container(self.path / name, self._manifest.uuid, self._entries[name])
        return self._open[name]

    def _collect(self) -> None:
        """Remove files of our making that the current version does not name."""
        current = {*self.names(), manifest.NAME, lock.NAME}
        self._entries = {name: entry for name, entry in self._entries.items() if name in current}
        self._open = {name: opened for name, opened in self._open.items() if name in current}
        try:
            present = os.listdir(self.path)
        except OSError:
            return
        ours = [name for name in present if manifest.FILE_NAME.fullmatch(name) or name.startswith(_TEMPORARY)]
        self._remove([name for name in ours if name not in current])

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            try:
                self._fs.remove(self.path / name)
            except OSError:
                continue  # a later commit will

    def _check_open(self) -> None:
        if self._closed:
            raise StateError("the store is closed")

    def _check_writable(self) -> None:
        self._check_open()
        if self.mode != "rw":
            raise StateError("the store is open for reading")


def _read_manifest(folder: Path) -> Manifest:
    path = folder / manifest.NAME
    try:
        with open(path, "rb") as file:
            raw = file.read(manifest.MOST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        if not folder.exists():
            raise StorageError(errno.ENOENT, f"there is no folder {folder}", str(folder)) from error
        raise CorruptIndexError(f"{folder} is not an annvq index: it holds no {manifest.NAME}") from error
    if len(raw) > manifest.MOST_BYTES:
        raise CorruptIndexError(f"{manifest.NAME}: more than {manifest.MOST_BYTES} bytes")
    return Manifest.from_bytes(raw)


def _check_replaceable(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise StorageError(errno.ENOTDIR, f"{folder} is a file, an index is a folder", str(folder))
    present = set(os.listdir(folder)) - {lock.NAME}
    ours = {name for name in present if manifest.FILE_NAME.fullmatch(name) or name.startswith(_TEMPORARY)}
    if present - ours - {manifest.NAME}:
        raise StorageError(errno.ENOTEMPTY, f"{folder} holds other files than an annvq index", str(folder))


def _as_storage_error(error: OSError, path: Path, verb: str) -> StorageError:
    if isinstance(error, StorageError):
        return error
    return StorageError(error.errno, f"cannot {verb} {path}: {error.strerror or error}", str(path))
