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
    """Write named arrays to one file: all of them or none, replacing a file that is there.

    Parameters
    ----------
    path
        The file. While it is written it has the name .annvq-<32 hexadecimal digits>.tmp.
    kind
        What it is for: up to 16 of a-z, 0-9 and _, first a letter.
    sections
        Arrays of integers or floats of up to 8 axes; names are up to 64 of a-z, 0-9, _ and dot.

    Raises
    ------
    ParameterError
        No path, or a kind, name or array that has no place in a container.
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
    """Return kind and arrays of a container, mapped and read-only, after every byte was checked.

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
