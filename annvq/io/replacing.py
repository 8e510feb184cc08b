"""Writing a file beside the old one, which it replaces once it is whole and on the disk."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from annvq.storage.filesystem import LOCAL, FileSystem


@contextmanager
def replacing(path: Path, *, fs: FileSystem = LOCAL) -> Iterator[Path]:
    """Yield a temporary file in the same folder, which replaces ``path`` if the block ends without an error.

    The block writes to that file, or puts another in its place, with any library, and closes what it opened.
    Overwriting a file in place kills whoever has it mapped into memory; a file that is renamed before its
    bytes are on the disk can be empty after a power failure.

    Raises
    ------
    OSError
        The file cannot be made there, which is found before the block runs, or cannot be forced to the disk.
        What was at ``path`` stays, unless only syncing the folder failed, after the renaming.

    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    with _errors_of(path):
        fs.close(fs.create(temporary))
    try:
        yield temporary
        with _errors_of(path):
            descriptor = fs.reopen(temporary)
            try:
                fs.sync(descriptor)
            finally:
                fs.close(descriptor)
            fs.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            fs.remove(temporary)
        raise
    with _errors_of(path):
        fs.sync_folder(path.parent)


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Let errors name the file that was asked for, not the temporary one."""
    try:
        yield
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None
