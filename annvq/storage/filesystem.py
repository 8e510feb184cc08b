"""The one seam to the operating system: every write of an index goes through a `FileSystem`.

Tests put a file system in its place that kills the process, fails or forgets what was not synced.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol


class FileSystem(Protocol):
    """Operations that a commit is made of; each raises OSError."""

    def write(self, path: Path, parts: list[bytes | memoryview]) -> None:
        """Create a file that does not exist and write all parts."""

    def sync(self, path: Path) -> None:
        """Force a file's bytes to the disk."""

    def sync_folder(self, path: Path) -> None:
        """Force a folder's entries to the disk."""

    def replace(self, source: Path, target: Path) -> None:
        """Rename, replacing the target at once."""

    def remove(self, path: Path) -> None:
        """Remove a file."""

    def make_folder(self, path: Path) -> None:
        """Create a folder, and its parents, unless it is there."""


class LocalFileSystem:
    """The operating system's files."""

    def write(self, path: Path, parts: list[bytes | memoryview]) -> None:
        """Create a file that does not exist and write all parts."""
        with open(path, "xb", buffering=0) as file:
            for part in parts:
                view = memoryview(part).cast("B")
                while len(view):
                    view = view[file.write(view) :]

    def sync(self, path: Path) -> None:
        """Force a file's bytes to the disk."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sync_folder(self, path: Path) -> None:
        """Force a folder's entries to the disk."""
        self.sync(path)

    def replace(self, source: Path, target: Path) -> None:
        """Rename, replacing the target at once."""
        os.replace(source, target)

    def remove(self, path: Path) -> None:
        """Remove a file."""
        os.unlink(path)

    def make_folder(self, path: Path) -> None:
        """Create a folder, and its parents, unless it is there."""
        path.mkdir(parents=True, exist_ok=True)


LOCAL = LocalFileSystem()
