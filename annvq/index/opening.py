"""Opening an index's folder, for the first time or where a pickled index arrives."""

from __future__ import annotations

import os

from annvq.arguments import as_path
from annvq.errors import ParameterError, StateError
from annvq.index.index import Index
from annvq.index.search.depth import Depth
from annvq.index.versions import commit


def open_index(path: str | os.PathLike[str], mode: str = "r", *, verify: bool = False) -> Index:
    """Open a saved index, memory-mapped.

    Parameters
    ----------
    path
        The folder.
    mode
        "r": any number of readers, each keeps the version that it opened. "rw": one writer, which
        holds a lock; `add`, `remove`, `compact` and `tune` are on disk when they return.
    verify
        Read every byte and check it first, as `Index.verify` does. By default only what an index cannot be opened
        without is read; the rest is checked before any of it is written again.

    Raises
    ------
    StorageError, CorruptIndexError, VersionError, LockedError
        What is there is not an index, is damaged, comes from a newer annvq, or is being written.

    """
    if mode not in ("r", "rw"):
        raise ParameterError(f"mode {mode!r}: expected 'r' or 'rw'")
    store, version = commit.open_version(as_path(path), mode)
    index = Index(version, store)
    if verify:
        try:
            index.verify()
        except BaseException:
            index.close()
            raise
    return index


def reopen(path: str, uuid: str, number: int, tuned: Depth | None) -> Index:
    """Open an index for reading as it was when it was pickled, with what that object was tuned to.

    Raises
    ------
    StateError
        The folder holds another version, or another index.
    StorageError, CorruptIndexError
        It holds none that can be read.

    """
    store, version = commit.open_version(as_path(path), "r")
    if (store.uuid, store.version) != (uuid, number):
        now = f"version {store.version}" if store.uuid == uuid else "another index"
        raise StateError(
            f"{path}: version {number} was sent here, the folder now holds {now}: "
            "send the path, and open it with annvq.open, where any version will do"
        )
    return Index(version, store, tuned)
