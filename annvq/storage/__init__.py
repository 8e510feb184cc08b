"""Named arrays in a folder: immutable checksummed files under one manifest, committed atomically."""

from annvq.storage.filesystem import LOCAL, FileSystem, LocalFileSystem
from annvq.storage.memory import MemoryStore
from annvq.storage.standalone import read_container, write_container
from annvq.storage.store import Store

__all__ = ["LOCAL", "FileSystem", "LocalFileSystem", "MemoryStore", "Store", "read_container", "write_container"]
