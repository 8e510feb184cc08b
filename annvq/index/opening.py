"""Opening a saved index."""

from __future__ import annotations

import os

from annvq.index.index import Index
from annvq.index.versions.versioned import VersionedRows


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
    return Index(VersionedRows.open(path, mode, verify=verify))
