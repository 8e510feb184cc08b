"""Opening a saved index."""

from __future__ import annotations

import os
from typing import Any

from annvq.index.index import Index
from annvq.index.versions.versioned import VersionedRows


def open_index(
    path: str | os.PathLike[str],
    mode: str = "r",
    *,
    verify: bool = False,
    device: Any = "cpu",
    device_bytes: int | None = None,
    split: str = "replicas",
) -> Index:
    """Open a saved index, memory-mapped.

    Parameters
    ----------
    path
        The folder of the index.
    mode
        "r" opens for reading: there may be any number of readers, each of which keeps the version that it opened. "rw"
        opens for writing: there is one writer at a time, which holds a lock, and whatever `add`, `remove`, `compact`
        and `tune` change is on disk when they return. "copy" opens an index whose changes stay in memory: the folder
        stays as it is, and `save` writes the result elsewhere.
    verify
        Whether to read and check every byte first, as `Index.verify` does. By default, only what is needed to open an
        index is checked; the rest is checked before any of it is written again.
    device, device_bytes, split
        Where searches run, as for `Index.to`: "cuda" copies the codes to a GPU. Their bytes are checked as they are
        without it, so ``verify`` first if files may be damaged.

    Raises
    ------
    StorageError, CorruptIndexError, VersionError, LockedError
        The folder holds no index, or one that is damaged, was written by a newer annvq, or is being written.
    ParameterError
        The path, the mode or the device is not one that is accepted.
    MissingExtraError, DeviceError, DeviceMemoryError
        The index cannot be moved to the device, as for `Index.to`.

    Examples
    --------
    >>> vectors = np.random.default_rng(0).normal(size=(1000, 32))
    >>> annvq.build(vectors, "flat", metric="l2").save("index")
    >>> with annvq.open("index") as index:
    ...     index.search(vectors[7], k=1).ids
    array([[7]])

    """
    index = Index(VersionedRows.open(path, mode, verify=verify))
    try:
        return index.to(device, device_bytes=device_bytes, split=split)
    except BaseException:
        index.close()
        raise


def from_bytes(content: bytes) -> Index:
    """Return the index in memory that `Index.to_bytes` wrote.

    Bytes hold no code, and come from anywhere: every byte is checked.

    Raises
    ------
    DtypeError
        The content is not bytes.
    CorruptIndexError, VersionError
        It is no index, or a damaged one, or was written by a newer annvq.
    StateError
        It is an index of documents: `annvq.multivector.MultiVectorIndex.from_bytes` takes it.

    Examples
    --------
    >>> content = annvq.build(np.eye(4), "flat").to_bytes()
    >>> annvq.from_bytes(content)
    Index(n=4, dim=4, metric='ip', recipe='flat')

    """
    rows = VersionedRows.from_bytes(content)
    rows.check_plain()
    return Index(rows)
