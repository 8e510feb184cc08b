"""One writer an index: an advisory lock that the kernel lets go of when its process ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from annvq.errors import LockedError

NAME = "LOCK"


class WriterLock:
    """The writer's lock of a folder, held until `release`."""

    def __init__(self, folder: Path) -> None:
        # A lock belongs to the open file, so a second opening in the same process conflicts too.
        self._descriptor: int | None = os.open(folder / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()
            self.release()
            by = f" (process {holder})" if holder else ""
            raise LockedError(f"another writer{by} holds the index {folder}") from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go; releasing twice is fine."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
