"""An index's folder: reading a version, staging containers, committing the next version."""

from __future__ import annotations

import copy
import os
import uuid as uuids
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from annvq.arguments import as_path
from annvq.errors import CorruptIndexError, LockedError, ParameterError, StateError, StorageError, VersionError
from annvq.storage import container, folders, lock, manifest
from annvq.storage.container import Container, Entry
from annvq.storage.filesystem import LOCAL, FileSystem, make_folders, os_errors, write_file
from annvq.storage.lock import WriterLock
from annvq.storage.manifest import Manifest


class Store:
    """One index on disk at one version; `Store.create` and `Store.open` return it.

    What it shows does not change until its own next commit, whatever other writers do. After `close`, all methods
    but `close` raise StateError.

    Attributes
    ----------
    path : Path
        The folder, absolute.
    mode : str
        "r", or "rw" for the one writer.

    """

    def __init__(
        self, path: Path, fs: FileSystem, current: Manifest, opened: dict[str, Container], held: WriterLock | None
    ) -> None:
        self.path = path
        self.mode = "r" if held is None else "rw"
        self._fs, self._lock = fs, held
        self._made_folders: list[Path] = []  # removed if no first commit comes, innermost first
        self._made_lock = False
        self._manifest = current
        self._in_doubt: Manifest | None = None  # may or may not have replaced the manifest
        self._entries: dict[str, Entry] = {entry.name: entry for entry in current.files}
        self._open = opened
        self._closed = False

    @classmethod
    def create(cls, path: str | os.PathLike[str], *, fs: FileSystem = LOCAL) -> Store:
        """Start a new index in a folder, at version 0 and open for writing.

        The folder may be missing, empty, or hold an index, which stays readable until the first
        commit replaces it. Closing without a commit leaves what was there before.

        Raises
        ------
        ParameterError
            ``path`` is not a path.
        StorageError
            The folder holds something other than an index (it stays untouched), or cannot be written.
        LockedError
            Another writer has it open.

        """
        folder = as_path(path).absolute()
        with os_errors("write", folder):
            present, made = folders.check_replaceable(fs, folder), []
            try:
                make_folders(fs, folder, made)
                held = WriterLock(fs, folder)
            except BaseException as error:
                if folder in made and isinstance(error, OSError) and not isinstance(error, LockedError):
                    with suppress(OSError):  # if files cannot be locked, nobody holds this one
                        fs.remove(folder / lock.NAME)
                folders.remove_empty(fs, made)
                raise
        store = cls(folder, fs, Manifest(uuids.uuid4(), 0, {}, ()), {}, held)
        store._made_folders, store._made_lock = made, lock.NAME not in present
        return store

    @classmethod
    def open(cls, path: str | os.PathLike[str], mode: str = "r", *, fs: FileSystem = LOCAL) -> Store:
        """Open the current version of the index in a folder; mode "rw" takes the writer's lock.

        Manifest, headers, footers, section tables and sizes are checked; sections are mapped but not
        read, so the cost depends only on the number of files. Mode "r" writes nothing and takes no lock.

        Raises
        ------
        CorruptIndexError
            The folder holds no index, or one that is damaged.
        VersionError
            A newer annvq wrote it.
        LockedError
            The mode is "rw", and another writer has it open.
        StorageError
            It does not exist, or cannot be read.

        """
        if mode not in ("r", "rw"):
            raise ParameterError(f"mode {mode!r}: expected 'r' or 'rw'")
        folder = as_path(path).absolute()
        with os_errors("open", folder):
            if mode == "r":
                return cls(folder, fs, *folders.open_version(fs, folder), None)
            manifest.read(fs, folder)  # so that no lock file is put into a folder that is no index
            held = WriterLock(fs, folder)
            try:
                return cls(folder, fs, *folders.open_version(fs, folder), held)
            except BaseException:
                held.release()
                raise

    @property
    def version(self) -> int:
        """The version that this store shows; 0 before the first commit of a new index."""
        return self._manifest.version

    @property
    def uuid(self) -> str:
        """The identity of the index, which every one of its files holds: 32 hexadecimal digits."""
        return self._manifest.uuid.hex

    @property
    def config(self) -> dict[str, Any]:
        """The configuration that the commit of this version was given, as JSON gives it back."""
        return copy.deepcopy(self._manifest.config)

    def names(self) -> tuple[str, ...]:
        """Return the names of the version's containers."""
        return tuple(entry.name for entry in self._manifest.files)

    def sections(self, name: str, owned: Collection[str] = ()) -> dict[str, np.ndarray]:
        """Return the arrays of a container of this version, or staged here: mapped, read-only, C-contiguous.

        They stay valid when the store is closed or the file removed. Those named in ``owned`` are read instead, and
        their checksums checked, so that nothing that happens to the file changes them (CorruptIndexError).
        """
        self._check_open()
        with os_errors("read", self.path / name):
            return self._container(name).sections(owned)

    def check(self, names: Iterable[str]) -> None:
        """Check all checksums of containers of this version, or staged here, as `sections` shows them.

        This comes before any of it is written again; otherwise damage would get a valid checksum.

        Raises
        ------
        CorruptIndexError
            A section is not what was written; the error names it and its file.
        StorageError
            A file cannot be read.

        """
        self._check_open()
        for name in names:
            with os_errors("read", self.path / name):
                self._container(name).verify()

    def stage(self, kind: str, sections: Mapping[str, np.ndarray]) -> str:
        """Write a container, synced, which the next commit may name; return its name.

        Parameters
        ----------
        kind
            What it is for: up to 16 characters of a-z, 0-9 and _, the first a letter.
        sections
            Arrays of integers or floats with up to 8 axes; names are up to 64 characters of a-z, 0-9, _ and dot.

        Raises
        ------
        ParameterError
            A container cannot hold a kind, name or array.
        StorageError
            The file cannot be written; the part that was written is removed.

        """
        self._check_writable()
        file = uuids.uuid4()
        name = container.file_name(kind, file)
        try:
            with os_errors("write", self.path / name):
                entry = container.write(self._fs, self.path / name, (kind, self._manifest.uuid, file), sections)
        except BaseException:
            self._remove([name])
            raise
        self._entries[name] = entry
        return name

    def commit(self, config: dict[str, Any], keep: Iterable[str]) -> int:
        """Make the next version from the containers ``keep`` and from ``config``; return its number.

        Containers of the previous version, and staged ones, that are not kept are removed afterwards.

        Parameters
        ----------
        config
            A JSON object, opaque to the store.
        keep
            Names of containers of this version or staged by this store.

        Raises
        ------
        ParameterError
            A name is neither, or JSON cannot hold the configuration.
        StorageError
            The previous version remains, on disk and here, with all that was staged. The exception is a
            failure after the manifest was renamed: then `version` is the new one, which a loss of power
            may still undo, and nothing was removed.

        """
        self._check_writable()
        with os_errors("commit", self.path):
            self._settle()
            names = tuple(dict.fromkeys(keep))
            unknown = [name for name in names if name not in self._entries]
            if unknown:
                raise ParameterError(f"cannot commit {unknown[0]}: neither in the index nor staged")
            for name in names:
                self._container(name)  # never name a file that cannot be opened
            entries = tuple(self._entries[name] for name in names)
            raw = Manifest(self._manifest.uuid, self.version + 1, config, entries).to_bytes()
            self._replace_manifest(raw)
            self._fs.sync_folder(self.path)
        self._collect()
        return self.version

    def discard(self, names: Iterable[str]) -> None:
        """Remove staged containers that will not be committed, as far as that is possible."""
        self._check_writable()
        needed = self._needed()
        dropped = [name for name in names if name in self._entries and name not in needed]
        for name in dropped:
            self._entries.pop(name, None)
            self._open.pop(name, None)
        self._remove(dropped)

    def verify(self) -> None:
        """Read and check every byte of this version's files.

        Raises
        ------
        CorruptIndexError
            A section is not what was written; the error names it and its file.
        StorageError
            A file cannot be read.

        """
        self._check_open()
        with os_errors("read", self.path):
            if self.version:
                manifest.read(self._fs, self.path)
            for name in self.names():
                self._verify(name)

    def is_current(self) -> bool:
        """Return whether the folder still holds the version that this store shows."""
        self._check_open()
        with os_errors("read", self.path):
            return self.version == 0 or manifest.read(self._fs, self.path) == self._manifest

    def close(self) -> None:
        """Release files and lock, and remove what was never committed; closing twice is fine.

        Arrays that were handed out stay valid. StorageError is raised if the lock's file does not close cleanly; the
        store is closed and the lock released all the same.
        """
        if self._closed:
            return
        if self._lock is not None and self._lock.held:
            self._remove(self._entries.keys() - self._needed())
            if self.version == 0 and self._in_doubt is None:
                self._remove([lock.NAME] if self._made_lock else [])  # while it is held, see `FileSystem.lock`
                folders.remove_empty(self._fs, self._made_folders)
        self._closed = True
        self._open.clear()
        if self._lock is not None:
            with os_errors("close", self.path / lock.NAME):
                self._lock.release()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        with suppress(*[] if kind is None else [StorageError]):  # the first error is the one to report
            self.close()

    def _container(self, name: str) -> Container:
        if name not in self._open:
            if name not in self._entries:
                raise CorruptIndexError(f"{self.path / name}: not a file of version {self.version}")
            self._open[name] = Container(self._fs, self.path / name, self._manifest.uuid, self._entries[name])
        return self._open[name]

    def _verify(self, name: str) -> None:
        try:
            Container(self._fs, self.path / name, self._manifest.uuid, self._entries[name]).verify()
        except FileNotFoundError as error:
            if self.is_current():
                raise folders.missing(self.path / name) from error
            self._open[name].verify()  # removed by a later commit, but still mapped

    def _replace_manifest(self, raw: bytes) -> None:
        """Pass the point of commit; an interrupt may come after the renaming and before it is recorded."""
        following = Manifest.from_bytes(raw)
        temporary = self.path / f"manifest-{uuids.uuid4().hex}.tmp"
        try:
            self._fs.sync_folder(self.path)  # the entries of staged files
            write_file(self._fs, temporary, [raw])
            self._in_doubt = following
            self._fs.replace(temporary, self.path / manifest.NAME)
            self._manifest, self._in_doubt = following, None
        except BaseException:
            self._remove([temporary.name])
            with suppress(OSError):
                self._settle()
            raise

    def _settle(self) -> None:
        """Find out whether the manifest in doubt is the one on disk."""
        if self._in_doubt is None:
            return
        try:
            found = manifest.read(self._fs, self.path)
        except (CorruptIndexError, VersionError):
            found = None  # no index yet, or one that this store was to replace
        if found == self._in_doubt:
            self._manifest = self._in_doubt
        self._in_doubt = None

    def _needed(self) -> set[str]:
        """Return the names of files that the manifest on disk may list."""
        doubtful = () if self._in_doubt is None else self._in_doubt.files
        return {entry.name for entry in (*self._manifest.files, *doubtful)}

    def _collect(self) -> None:
        """Remove files made by annvq, killed writers included, that the current version does not name."""
        needed = self._needed()
        self._entries = {name: entry for name, entry in self._entries.items() if name in needed}
        self._open = {name: opened for name, opened in self._open.items() if name in needed}
        with suppress(OSError):  # the commit is done; a later one removes them
            self._remove(name for name in self._fs.list(self.path) if folders.is_removable(name) and name not in needed)

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            with suppress(OSError):
                self._fs.remove(self.path / name)

    def _check_open(self) -> None:
        if self._closed:
            raise StateError(f"the store of {self.path} is closed")

    def _check_writable(self) -> None:
        self._check_open()
        if self._lock is None:
            raise StateError(f"{self.path} is open for reading; mode 'rw' writes")
        if not self._lock.held:
            raise StateError(f"{self.path} is open for writing in the process that this one was forked from")
