"""Search an open index while bits of its files change, in a process of its own: it must not die of a signal."""

import sys
import tempfile
from pathlib import Path

import numpy as np
from hostile_indexes import opened, read, save

from annvq.errors import AnnvqError
from annvq.storage.container import Container
from annvq.storage.filesystem import LOCAL

_TIMES = 24  # that a section is changed, in other places
_SEGMENTS = 3  # in which a section of rows is: two, and the one that they are merged to


def damage(file, section, rng):
    """Change some of a section's bytes in place, those that make numbers large first; return what undoes it."""
    start, end = section.offset, section.offset + section.nbytes
    with file.open("r+b") as raw:
        raw.seek(start)
        before = raw.read(end - start)
        array = np.frombuffer(before, np.uint8).copy()
        size = section.dtype.itemsize
        places = rng.integers(0, max(1, len(array) // size), int(rng.choice([1, 4, 1000]))) * size
        array[places + int(rng.integers(size))] ^= np.uint8(1 << rng.integers(8))
        raw.seek(start)
        raw.write(array.tobytes())

    def undo():
        with file.open("r+b") as raw:
            raw.seek(start)
            raw.write(before)

    return undo


def main(kinds, thorough):
    for kind in kinds:
        seen = set()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "index"
            save(kind, path)
            for merged in (False, True):
                if merged:
                    with opened(path, kind, "rw") as index:
                        index.compact()
                change_all(path, kind, seen, thorough)
        print(f"{kind}: alive")


def change_all(path, kind, seen, thorough):
    """Change every section of every file not yet ``seen``, some time after it was opened and searched.

    Sections of rows are read by the same code in every segment, so that they share the number of times, unless it is
    to be ``thorough``.
    """
    rng = np.random.default_rng(5)
    for file in sorted(path.glob("*.annvq")):
        if file.name in seen:
            continue
        seen.add(file.name)
        times = _TIMES // _SEGMENTS if file.name.startswith("segment") and not thorough else _TIMES
        for section in Container(LOCAL, file).table:
            if not section.nbytes:
                continue
            for number in range(times):
                with opened(path, kind) as index:
                    if number % 2:  # what is made once is made of what was written, or else of the damage
                        use(index, kind)
                    undo = damage(file, section, rng)
                    use(index, kind)
                undo()


def use(index, kind):
    """Read in every way; the only errors are annvq's."""
    for _, action in read(index, kind):
        try:
            action()
        except AnnvqError:
            pass


if __name__ == "__main__":
    import faulthandler
    import warnings

    faulthandler.enable()
    warnings.simplefilter("ignore")
    main([given for given in sys.argv[1:] if given != "--thorough"], "--thorough" in sys.argv)
