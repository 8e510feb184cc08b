"""One writer per index: an advisory lock that the kernel releases when the writer's process ends."""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from pathlib import Path

from annvq.errors import LockedError
from annvq.storage.filesystem import FileSystem, opened

NAME = "LOCK"
_PID_BYTES = 20


class WriterLock:
    """The writer's lock on a folder, held until `release`, or until nothing refers to it.

    LockedError is raised if another writer holds it, in this process or elsewhere; system calls may raise OSError.
    """

    def __init__(self, fs: FileSystem, folder: Path) -> None:
        try:
            descriptor = fs.lock(folder / NAME)
        except BlockingIOError as error:
            raise LockedError(f"{folder}: {_holder(fs, folder)} has it open for writing") from error
        self._release = weakref.finalize(self, fs.close, descriptor)
        _HELD.add(self)
        with suppress(OSError):  # tells others who holds it; of fixed length, to replace the previous holder's
            fs.write(descriptor, memoryview(f"{os.getpid():<{_PID_BYTES - 1}}\n".encode()))

    @property
    def held(self) -> bool:
        """Whether this process holds the lock."""
        return self._release.alive

    def release(self) -> None:
        """Release the lock; releasing twice is fine."""
        self._release()


def _holder(fs: FileSystem, folder: Path) -> str:
    try:
        with opened(fs, folder / NAME) as descriptor:
            pid = int(fs.read(descriptor, 0, _PID_BYTES))
    except (OSError, ValueError):
        return "another writer"
    return "another writer in this process" if pid == os.getpid() else f"process {pid}"


_HELD: weakref.WeakSet[WriterLock] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """Close the descriptors that a forked child inherited, because the lock would outlive its holder in them."""
    for lock in list(_HELD):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
