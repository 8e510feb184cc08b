"""One container that stands alone, outside any index."""

from __future__ import annotations

import os
import uuid as uuids
from collections.abc import Mapping
from contextlib import suppress

import numpy as np

from annvq.arguments import as_path
from annvq.storage import container
from annvq.storage.container import NO_INDEX, Container
from annvq.storage.filesystem import LOCAL, FileSystem, os_errors


def write_container(
    path: str | os.PathLike[str], kind: str, sections: Mapping[str, np.ndarray], *, fs: FileSystem = LOCAL
) -> None:
    """Write named arrays to one file, all of them or none, replacing an existing file.

    Parameters
    ----------
    path
        The file. While it is being written its name is .annvq-<32 hexadecimal digits>.tmp.
    kind
        What it is for: up to 16 characters of a-z, 0-9 and _, the first a letter.
    sections
        Arrays of integers or floats with up to 8 axes; names are up to 64 characters of a-z, 0-9, _ and dot.

    Raises
    ------
    ParameterError
        ``path`` is not a path, or a container cannot hold a kind, name or array.
    StorageError
        The file cannot be written.

    """
    target = as_path(path)
    file = uuids.uuid4()
    temporary = target.with_name(f".annvq-{file.hex}.tmp")
    with os_errors("write", target):
        try:
            container.write(fs, temporary, (kind, NO_INDEX, file), sections)
            fs.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                fs.remove(temporary)
            raise
        fs.sync_folder(target.parent)


def read_container(path: str | os.PathLike[str], *, fs: FileSystem = LOCAL) -> tuple[str, dict[str, np.ndarray]]:
    """Return the kind and the arrays of a container, mapped and read-only, after checking every byte.

    Raises
    ------
    CorruptIndexError, VersionError
        The file is not a container, is damaged, or comes from a newer annvq.
    StorageError
        It cannot be read.

    """
    source = as_path(path)
    with os_errors("read", source):
        found = Container(fs, source)
        found.verify()
        return found.kind, found.sections()
