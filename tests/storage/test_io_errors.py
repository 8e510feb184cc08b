"""Calls of the operating system that fail, write short or are interrupted, one at a time, at every place."""

import errno
import os
import resource
import signal

import numpy as np
import pytest
from storage_faults import (
    SCENARIOS,
    Around,
    Failing,
    arrays,
    change,
    check_next_commit,
    contents,
    descriptors,
    error_of,
    fill,
    in_child,
    make,
    os_error,
    prepared,
)

from annvq.errors import CorruptIndexError, StorageError
from annvq.storage import LOCAL, Store, read_container, write_container

ERRORS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "EACCES": errno.EACCES}
# What may fail without harm: the pid for others' information, removing waste, syncing an unreadable parent.
HARMLESS = {"write", "remove", "list", "sync_folder"}


def start(stores, path, fs, scenario):
    stores.append(Store.open(path, "rw", fs=fs) if scenario == "next version" else Store.create(path, fs=fs))


@pytest.mark.parametrize("after", [False, True], ids=["instead", "after"])
@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_operation_fails(tmp_path, scenario, name, after):
    _, before, changed = SCENARIOS[scenario]
    act = change if scenario == "next version" else fill
    make(tmp_path / "base")
    path = tmp_path / "work" / "index"
    open_files = descriptors()
    for at in range(1, 1000):
        prepared(tmp_path / "base", path, before)
        failing = Failing(at, os_error(ERRORS[name]), after)
        stores = []
        error = error_of(start, stores, path, failing, scenario) or error_of(act, *stores)
        failing.at = None
        found = contents(path)
        if error is None:
            assert found == changed
            assert failing.failed in HARMLESS | {None}
        else:
            assert type(error) is StorageError
            assert error.errno == ERRORS[name]
            assert error.filename.startswith(str(path.parent))
            is_changed = any(store.version == changed[0] for store in stores)
            assert found == (changed if is_changed else before), failing.failed
            assert not is_changed or failing.failed in ("replace", "sync_folder")
        for store in stores:
            if error is not None and not is_changed:
                assert act(store) == changed[0], "a store can be used after an error"
            store.verify()
            store.close()
            assert contents(path) == changed
        assert descriptors() == open_files, failing.failed
        check_next_commit(path)
        if failing.failed is None:
            break
    assert at > 25


@pytest.mark.parametrize("after", [False, True], ids=["instead", "after"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_interrupted_at_every_operation(tmp_path, scenario, after):
    """Whatever Ctrl-C hits: the store knows what is on disk, and closing it harms nothing."""
    _, before, changed = SCENARIOS[scenario]
    act = change if scenario == "next version" else fill
    make(tmp_path / "base")
    path = tmp_path / "work" / "index"
    for at in range(1, 1000):
        prepared(tmp_path / "base", path, before)
        failing = Failing(at, KeyboardInterrupt, after)
        stores = []
        error_of(start, stores, path, failing, scenario) or error_of(act, *stores)
        found = contents(path)
        assert found in (before, changed)
        for store in stores:
            assert found == (changed if store.version == changed[0] else before), failing.failed
            store.discard(list(store._entries))
            error_of(store.close)
            store.close()
        assert contents(path) == found
        del stores[:]
        check_next_commit(path)
        if failing.failed is None:
            break
    assert at > 25


@pytest.mark.parametrize("name", ERRORS)
def test_every_operation_of_reading_fails(tmp_path, name):
    path = tmp_path / "index"
    make(path)
    open_files = descriptors()

    def read(fs):
        with Store.open(path, fs=fs) as store:
            store.verify()
            assert store.is_current()
            store.sections(store.names()[0])

    for at in range(1, 1000):
        failing = Failing(at, os_error(ERRORS[name]))
        error = error_of(read, failing)
        assert descriptors() == open_files, failing.failed
        if failing.failed is None:
            break
        assert type(error) is StorageError
        assert error.errno == ERRORS[name]
        assert error.filename.startswith(str(path))
    assert error is None
    assert at > 40


class Short(Around):
    """Reads and writes a few bytes at a time."""

    def around(self, number, name, args, call):
        few = 1 + number % 13
        if name == "write":
            return LOCAL.write(args[0], args[1][:few])
        if name == "read":
            return LOCAL.read(args[0], args[1], min(few, args[2]))
        return call()


def test_short_reads_and_writes_are_continued(tmp_path):
    short = Short()
    make(tmp_path / "index", short)
    assert contents(tmp_path / "index") == (1, (1, 2))
    with Store.open(tmp_path / "index", "rw", fs=short) as store:
        change(store)
        store.verify()
    assert contents(tmp_path / "index") == (2, (2, 3))


class Losing(Around):
    """Says that everything was written, and writes half of the ``at``-th part."""

    def __init__(self, at):
        super().__init__()
        self.at, self.writes = at, 0

    def around(self, number, name, args, call):
        if name != "write":
            return call()
        self.writes += 1
        if self.writes == self.at:
            LOCAL.write(args[0], args[1][: len(args[1]) // 2])
            return len(args[1])
        return call()


def test_a_container_that_was_not_written_is_not_committed(tmp_path):
    path = tmp_path / "index"
    make(path)
    refused = 0
    for at in range(2, 9):  # the first is the process id in the lock
        with Store.open(path, "rw", fs=Losing(at)) as store:
            before = contents(path)
            name = store.stage("segment", arrays(9))
            error = error_of(store.commit, {"names": {"9": name}}, [name])
            if error is not None:
                refused += 1
                assert type(error) is CorruptIndexError
                assert name in str(error)
                assert contents(path) == before
    assert refused >= 6


def test_a_full_disk(tmp_path):
    """A limit on the size of files makes the kernel write short and then fail, as a full disk does."""
    path = tmp_path / "index"
    make(path)

    def fails():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
        with Store.open(path, "rw") as store:
            with pytest.raises(StorageError) as caught:
                store.stage("segment", {"codes": np.zeros(1 << 17, np.uint8)})
            assert caught.value.errno == errno.EFBIG
            change(store)

    assert in_child(fails) == 0
    assert contents(path) == (2, (2, 3))
    check_next_commit(path)


def test_a_single_file_is_written_whole_or_not(tmp_path):
    path = tmp_path / "a codebook"
    old, new = {"x": np.arange(5)}, {"x": np.arange(70.0)}
    for after in (False, True):
        for at in range(1, 100):
            write_container(path, "codebook", old)
            failing = Failing(at, os_error(errno.EIO), after)
            error = error_of(lambda fs: write_container(path, "codebook", new, fs=fs), failing)
            assert error is None or error.errno == errno.EIO
            kind, found = read_container(path)
            assert kind == "codebook"
            expected = new if len(found["x"]) == 70 else old
            np.testing.assert_array_equal(found["x"], expected["x"], strict=True)
            assert os.listdir(tmp_path) == ["a codebook"]
            if failing.failed is None:
                assert expected is new
                break
