"""The one seam to the operating system: all that storage asks of it goes through a `FileSystem`.

Tests replace it by one that kills the process, fails, writes less than it was given, or forgets what was
not synced. Operations are as small as system calls, so that a test can stop between any two.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from annvq.errors import StorageError
from annvq.storage import descriptors

# What only some systems have: Windows has none of these, but distinguishes binary files.
_BINARY, _CLOEXEC = getattr(os, "O_BINARY", 0), getattr(os, "O_CLOEXEC", 0)
_NONBLOCK, _NOFOLLOW = getattr(os, "O_NONBLOCK", 0), getattr(os, "O_NOFOLLOW", 0)
_DIRECTORY: int | None = getattr(os, "O_DIRECTORY", None)

# From Python 3.13 on, a mapping need not keep a file descriptor of its own.
_MAP_OPTIONS: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) and _DIRECTORY is not None else {}


class ReadableFiles(Protocol):
    """What reading a file needs; every method may raise OSError."""

    def open(self, path: Path) -> int:
        """Open a file for reading; return its descriptor."""
        ...

    def stat(self, descriptor: int) -> os.stat_result:
        """Return size and type of an open file."""
        ...

    def read(self, descriptor: int, offset: int, count: int) -> bytes:
        """Read up to ``count`` bytes; none at the end of the file."""
        ...

    def map(self, descriptor: int, size: int) -> mmap.mmap | memoryview:
        """Map a whole file for reading; the mapping outlives the descriptor."""
        ...

    def close(self, descriptor: int) -> None:
        """Close a descriptor."""
        ...


class FileSystem(ReadableFiles, Protocol):
    """What storage needs of an operating system; every method may raise OSError."""

    def create(self, path: Path) -> int:
        """Create a file that does not exist yet, for writing; return its descriptor."""
        ...

    def reopen(self, path: Path) -> int:
        """Open a file that others wrote, for syncing; return its descriptor."""
        ...

    def lock(self, path: Path) -> int:
        """Open a lock file, creating it if necessary, and lock it until its descriptor is closed.

        BlockingIOError is raised if another open descriptor holds the lock, in this process or elsewhere. The holder
        may remove the file: a lock counts only on the file that is at ``path``.
        """
        ...

    def write(self, descriptor: int, content: memoryview) -> int:
        """Append bytes; return how many were written, which may be fewer."""
        ...

    def sync(self, descriptor: int) -> None:
        """Force a file's bytes to the disk."""
        ...

    def list(self, folder: Path) -> list[str]:
        """Return the names in a folder."""
        ...

    def make_folder(self, folder: Path) -> None:
        """Create a folder in one that exists."""
        ...

    def sync_folder(self, folder: Path) -> None:
        """Force a folder's entries to the disk: a synced file without a synced entry can be lost."""
        ...

    def replace(self, source: Path, target: Path) -> None:
        """Rename, replacing the target at once."""
        ...

    def remove(self, path: Path) -> None:
        """Remove a file; whoever has it open or mapped keeps it, or the call fails if the system cannot do that."""
        ...

    def remove_folder(self, folder: Path) -> None:
        """Remove a folder that is empty."""
        ...


class LocalFileSystem:
    """The operating system's own files."""

    def open(self, path: Path) -> int:
        """Open a file for reading; return its descriptor."""
        # A pipe in place of a file must not block the call.
        return os.open(path, os.O_RDONLY | _BINARY | _CLOEXEC | _NONBLOCK)

    def create(self, path: Path) -> int:
        """Create a file that does not exist yet, for writing; return its descriptor."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY | _CLOEXEC, 0o666)

    def reopen(self, path: Path) -> int:
        """Open a file that others wrote, for syncing; return its descriptor."""
        return os.open(path, os.O_RDWR | _BINARY | _CLOEXEC)

    def lock(self, path: Path) -> int:
        """Open a lock file, creating it if necessary, and lock it until its descriptor is closed."""
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _BINARY | _CLOEXEC | _NOFOLLOW, 0o666)
            try:
                descriptors.lock(descriptor)
                if _is_at(descriptor, path):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # its holder removed the file: others lock the one that is there now

    def stat(self, descriptor: int) -> os.stat_result:
        """Return size and type of an open file."""
        return os.fstat(descriptor)

    def read(self, descriptor: int, offset: int, count: int) -> bytes:
        """Read up to ``count`` bytes; none at the end of the file."""
        if hasattr(os, "pread"):
            return os.pread(descriptor, count, offset)
        os.lseek(descriptor, offset, os.SEEK_SET)  # a file opened here is read by one thread only
        return os.read(descriptor, count)

    def map(self, descriptor: int, size: int) -> mmap.mmap:
        """Map a whole file for reading; the mapping outlives the descriptor."""
        return mmap.mmap(descriptor, size, access=mmap.ACCESS_READ, **_MAP_OPTIONS)

    def write(self, descriptor: int, content: memoryview) -> int:
        """Append bytes; return how many were written, which may be fewer."""
        return os.write(descriptor, content)

    def sync(self, descriptor: int) -> None:
        """Force a file's bytes to the disk."""
        descriptors.sync(descriptor)

    def close(self, descriptor: int) -> None:
        """Close a descriptor."""
        os.close(descriptor)

    def list(self, folder: Path) -> list[str]:
        """Return the names in a folder."""
        return os.listdir(folder)

    def make_folder(self, folder: Path) -> None:
        """Create a folder in one that exists."""
        os.mkdir(folder)

    def sync_folder(self, folder: Path) -> None:
        """Force a folder's entries to the disk: a synced file without a synced entry can be lost."""
        if _DIRECTORY is None:  # Windows opens no folders, and its file system logs what happens to entries
            return
        descriptor = os.open(folder, os.O_RDONLY | _DIRECTORY | _CLOEXEC)
        try:
            descriptors.sync(descriptor)
        finally:
            os.close(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        """Rename, replacing the target at once."""
        os.replace(source, target)

    def remove(self, path: Path) -> None:
        """Remove a file; whoever has it open or mapped keeps it."""
        os.unlink(path)

    def remove_folder(self, folder: Path) -> None:
        """Remove a folder that is empty."""
        os.rmdir(folder)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


LOCAL = LocalFileSystem()


@contextmanager
def os_errors(action: str, path: Path) -> Iterator[None]:
    """Turn OSErrors of the block into a StorageError that says what was tried on which path; errno is kept."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        where = str(path if error.filename is None else error.filename)
        raise StorageError(error.errno, f"cannot {action}: {error.strerror or error}", where) from error


@contextmanager
def opened(fs: ReadableFiles, path: Path) -> Iterator[int]:
    """Open a file for reading while the block runs."""
    descriptor = fs.open(path)
    try:
        yield descriptor
    finally:
        fs.close(descriptor)


def read_fully(fs: ReadableFiles, descriptor: int, offset: int, count: int) -> bytes:
    """Read ``count`` bytes, fewer only where the file ends."""
    parts = []
    while count:
        part = fs.read(descriptor, offset, count)
        if not part:
            break
        parts.append(part)
        offset, count = offset + len(part), count - len(part)
    return b"".join(parts)


def write_file(fs: FileSystem, path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Create a file, write its parts and sync it. Its entry in the folder is not synced yet."""
    descriptor = fs.create(path)
    try:
        for part in parts:
            left = memoryview(part)
            while len(left):
                left = left[fs.write(descriptor, left) :]
        # Synced through the descriptor that wrote, because another one may miss a write-back error.
        fs.sync(descriptor)
    finally:
        fs.close(descriptor)


def make_folders(fs: FileSystem, folder: Path, made: list[Path]) -> None:
    """Create a folder and its missing parents, with their entries synced; prepend those created to ``made``."""
    try:
        fs.make_folder(folder)
        made.insert(0, folder)
    except FileExistsError:
        pass  # perhaps created by a process that was killed before the next line
    except FileNotFoundError:
        make_folders(fs, folder.parent, made)
        fs.make_folder(folder)
        made.insert(0, folder)
    with suppress(PermissionError):  # a parent without read permission cannot be synced
        fs.sync_folder(folder.parent)
