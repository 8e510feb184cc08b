"""What systems do differently with an open file: locking it, and forcing its bytes to the disk.

Two calls of the standard library suffice. A lock library would bring a file object, thread-local state and a
release that a forked child must not call; here, a lock is one descriptor, and closing it releases the lock.
"""

from __future__ import annotations

import errno
import os
from typing import Any

_AT = 1 << 30  # the byte that Windows locks: beyond the content, which others may still read


def lock(descriptor: int) -> None:
    """Lock an open file until the descriptor is closed or its process ends; BlockingIOError if another holds it."""
    fcntl = _fcntl()
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    import msvcrt

    windows: Any = msvcrt
    os.lseek(descriptor, _AT, os.SEEK_SET)
    try:
        windows.locking(descriptor, windows.LK_NBLCK, 1)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EDEADLK, getattr(errno, "EDEADLOCK", errno.EDEADLK)):
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK)) from error
        raise
    finally:
        os.lseek(descriptor, 0, os.SEEK_SET)


def sync(descriptor: int) -> None:
    """Force an open file to the disk and, on systems that make the distinction, through the disk's own cache."""
    fcntl = _fcntl()
    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: its fsync leaves the bytes in the drive
        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
        except OSError:
            pass  # not on this file system
    os.fsync(descriptor)


def _fcntl() -> Any:
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    return fcntl
