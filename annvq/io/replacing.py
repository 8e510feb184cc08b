"""Writing a file beside the old one and putting it in its place when it is whole and on the disk."""

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
    """Give a temporary file in the same folder; it replaces ``path`` if the block ends without an error.

    The block writes to the file that is there, or puts another there, with any library, and closes what it opened.
    A file that is overwritten in place kills whoever has it mapped into memory; one that is renamed before its
    bytes are on the disk can be empty after the power failed.

    Raises
    ------
    OSError
        The file cannot be made there, which is found before the block runs, or not be forced to the disk.
        What was at ``path`` stays, unless all that failed is syncing the folder, after the renaming.

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
    """Let errors name the file that was asked for, not one that nobody knows."""
    try:
        yield
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None
