"""What an index's folder holds besides its manifest, and how that can change while it is read."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from annvq.errors import CorruptIndexError, StorageError
from annvq.storage import lock, manifest
from annvq.storage.container import Container
from annvq.storage.filesystem import FileSystem
from annvq.storage.manifest import Manifest

_ATTEMPTS = 10  # a writer may remove files after a reader has read the manifest that names them


def open_version(fs: FileSystem, folder: Path) -> tuple[Manifest, dict[str, Container]]:
    """Open all containers of the current version, and start again if a commit removes some of them meanwhile."""
    current = manifest.read(fs, folder)
    for _ in range(_ATTEMPTS):
        opened: dict[str, Container] = {}
        try:
            for entry in current.files:
                opened[entry.name] = Container(fs, folder / entry.name, current.uuid, entry)
            return current, opened
        except FileNotFoundError as error:
            found = manifest.read(fs, folder)
            if found == current:
                raise missing(folder / current.files[len(opened)].name) from error
            current = found
    raise StorageError(errno.EBUSY, f"{_ATTEMPTS} commits came between manifest and files", str(folder))


def missing(path: Path) -> CorruptIndexError:
    """Return the error for a file that the manifest names and the folder lacks."""
    return CorruptIndexError(f"{path}: the file is missing")


def is_removable(name: str) -> bool:
    """Return whether annvq made a file that can be deleted if no manifest names it."""
    return bool(manifest.FILE_NAME.fullmatch(name) or manifest.TEMPORARY_NAME.fullmatch(name))


def remove_empty(fs: FileSystem, made: Iterable[Path]) -> None:
    """Remove folders, innermost first, up to the first that is not empty."""
    with suppress(OSError):
        for folder in made:
            fs.remove_folder(folder)


def check_replaceable(fs: FileSystem, folder: Path) -> list[str]:
    """Return the names in a folder; StorageError is raised if one neither belongs to an index nor is left from one."""
    try:
        present = fs.list(folder)
    except FileNotFoundError:
        return []
    foreign = [name for name in present if name != lock.NAME and not is_removable(name)]
    if manifest.NAME in foreign and manifest.is_of_index(manifest.read_raw(fs, folder)):
        return present
    if foreign:
        problem = f"not an annvq index, and not empty (it holds {min(foreign)!r}): choose another folder"
        raise StorageError(errno.ENOTEMPTY, problem, str(folder))
    return present
