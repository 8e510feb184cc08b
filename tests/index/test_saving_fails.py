"""`Index.save` and `build(path=)` that fail, at every operation of the system, leave what was there before."""

import errno
import os
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import annvq
from annvq.errors import AnnvqError, StorageError
from annvq.storage import Store

sys.path.append(str(Path(__file__).parents[1] / "storage"))
from storage_faults import Failing, descriptors, os_error

ROWS = np.random.default_rng(5).normal(size=(30, 8)).astype(np.float32)


def everything_below(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


@pytest.mark.parametrize("after", [False, True], ids=["instead", "after"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("way", ["save", "build"])
def test_a_new_path_that_fails_leaves_nothing(tmp_path, monkeypatch, way, number, after):
    index = annvq.build(ROWS, "Flat")
    open_files = descriptors()
    failed = set()
    for at in range(1, 1000):
        root = tmp_path / str(at)
        root.mkdir()
        path = root / "a" / "b" / "index"
        failing = Failing(at, os_error(number), after)
        fake = SimpleNamespace(create=partial(Store.create, fs=failing))
        monkeypatch.setattr("annvq.index.versions.versioned.Store", fake)
        error = None
        try:
            index.save(path) if way == "save" else annvq.build(ROWS, "Flat", path=path).close()
        except AnnvqError as raised:
            error = raised.with_traceback(None)  # whose frames hold descriptors
            error.__context__ = error.__cause__ = None
        assert error is None or (type(error), error.errno) == (StorageError, number), failing.failed
        assert descriptors() == open_files, failing.failed
        is_whole = (path / "manifest.json").exists()
        if is_whole:
            with annvq.open(path) as saved:
                saved.verify()
                assert len(saved) == 30
        else:
            assert error is not None
            is_unknown = after and failing.failed == "make_folder"  # made, and said not to be
            assert is_unknown or everything_below(root) == [], (at, failing.failed)
        if failing.failed is None:
            assert is_whole
            break
        failed.add(failing.failed)
    assert {"make_folder", "lock", "create", "write", "sync", "replace", "close", "sync_folder"} <= failed


def test_a_full_disk_leaves_nothing(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    index = annvq.build(ROWS, "Flat")
    with pytest.raises(StorageError):
        index.save(Path("/dev/full") / "index")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError):
        index.save(tmp_path / "file" / "a" / "index")
    assert everything_below(tmp_path) == ["file"]
