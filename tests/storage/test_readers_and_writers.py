"""Several processes and several stores on one index: one writer, readers that keep their version."""

import gc
import os
import signal
import stat

import numpy as np
import pytest
from storage_faults import FAST, Recording, arrays, change, check_next_commit, contents, descriptors, in_child, make

from annvq.errors import LockedError, StateError, StorageError
from annvq.storage import Store


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / "an index, größer"
    make(folder)
    return folder


def test_a_reader_keeps_its_version_while_a_writer_commits(path):
    with Store.open(path) as reader:
        held = {name: reader.sections(name) for name in reader.names()}
        with Store.open(path, "rw", fs=FAST) as writer:
            for _ in range(3):
                assert reader.is_current() == (writer.version == 1)
                change(writer)
        assert not reader.is_current()
        assert not any((path / name).exists() for name in reader.names())
        for name, seed in zip(reader.names(), (1, 2)):
            for section, array in arrays(seed).items():
                np.testing.assert_array_equal(held[name][section], array)
                np.testing.assert_array_equal(reader.sections(name)[section], array)
        reader.verify()
    for section, array in arrays(1).items():  # arrays outlive their store
        np.testing.assert_array_equal(held[reader.names()[0]][section], array)


def test_readers_while_another_process_rewrites_the_index(path):
    """Versions only grow, and each one read is whole."""
    pid = os.fork()
    if pid == 0:
        try:
            with Store.open(path, "rw", fs=FAST) as store:
                while True:
                    change(store)
        finally:
            os._exit(1)
    try:
        first = Store.open(path)
        before = {name: reader_bytes(first, name) for name in first.names()}
        seen = [contents(path) for _ in range(300)]
        assert {name: reader_bytes(first, name) for name in first.names()} == before
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    versions = [version for version, _ in seen]
    assert versions == sorted(versions)
    assert len(set(versions)) > 10
    assert all(seeds == (version, version + 1) for version, seeds in seen)
    check_next_commit(path)


def reader_bytes(store, name):
    return {section: array.tobytes() for section, array in store.sections(name).items()}


class Overtaken:
    """A reader's file system: a commit comes between its look at the manifest and at the files."""

    def __init__(self, path, times):
        self.path, self.times = path, times

    def __getattr__(self, name):
        return getattr(FAST, name)

    def open(self, file):
        if file.suffix == ".annvq" and self.times:
            self.times -= 1
            with Store.open(self.path, "rw", fs=FAST) as store:
                change(store)
                change(store)
        return FAST.open(file)


def test_a_reader_is_overtaken_by_commits(path):
    with Store.open(path, fs=Overtaken(path, 3)) as store:
        assert store.version == 7
        store.verify()
    with pytest.raises(StorageError, match="commits came between"):
        Store.open(path, fs=Overtaken(path, 1000))
    assert contents(path)[0] > 7


def test_the_second_writer_is_told_who_is_first(path):
    with Store.open(path, "rw", fs=FAST) as store:
        for attempt in (lambda: Store.open(path, "rw"), lambda: Store.create(path)):
            with pytest.raises(LockedError, match="another writer in this process has it open"):
                attempt()

        def second():
            with pytest.raises(LockedError, match=f"process {os.getppid()} has it open"):
                Store.open(path, "rw")

        assert in_child(second) == 0
        Store.open(path).close()
        change(store)
    with Store.open(path, "rw", fs=FAST) as store:
        assert store.version == 2
    with Store.create(path, fs=FAST):
        with pytest.raises(LockedError):
            Store.open(path, "rw")
        assert contents(path) == (2, (2, 3))


def test_a_killed_writer_leaves_no_lock(path):
    def killed():
        store = Store.open(path, "rw", fs=FAST)
        store.stage("segment", arrays(9))
        os.kill(os.getpid(), signal.SIGKILL)

    in_child(killed)
    assert len(list(path.glob("segment-*"))) == 3
    check_next_commit(path)


def test_a_lock_whose_holder_is_unknown(path):
    with Store.open(path, "rw", fs=FAST):
        (path / "LOCK").write_bytes(b"\xff?")
        with pytest.raises(LockedError, match="another writer has it open"):
            Store.open(path, "rw")


def test_a_forgotten_store_lets_go(path):
    for _ in range(3):
        store = Store.open(path, "rw", fs=FAST)
        del store
        gc.collect()


def test_a_forked_child_neither_writes_nor_keeps_the_lock(path):
    store = Store.open(path, "rw", fs=FAST)
    staged = store.stage("segment", arrays(5))
    reader, writer = os.pipe()
    child_is_done, say_done = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            for write in (lambda: change(store), lambda: store.stage("segment", {}), lambda: store.discard([staged])):
                with pytest.raises(StateError, match="forked"):
                    write()
            store.verify()
            store.close()
            assert (path / staged).exists()
            status = 0
        finally:
            os.write(say_done, b"x")
            os.read(reader, 1)  # until the parent has closed and opened again
            os._exit(status)
    os.read(child_is_done, 1)  # the next commit sweeps away what is staged
    change(store)
    store.close()
    Store.open(path, "rw", fs=FAST).close()
    os.write(writer, b"x")
    assert os.waitpid(pid, 0)[1] == 0
    for end in (reader, writer, child_is_done, say_done):
        os.close(end)


def test_reading_needs_no_writing(path):
    """Mode "r" calls nothing that a read-only file system would refuse, and makes no file."""
    (path / "LOCK").unlink()
    for file in path.iterdir():
        file.chmod(stat.S_IRUSR)
    path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        recording = Recording()
        with Store.open(path, fs=recording) as store:
            store.verify()
            store.is_current()
            store.sections(store.names()[0])
        assert {name for name, _, _ in recording.log} == {"open", "stat", "read", "map", "close"}
        assert "LOCK" not in os.listdir(path)
        if os.geteuid():
            with pytest.raises(StorageError) as caught:
                Store.open(path, "rw")
            assert caught.value.errno
    finally:
        path.chmod(stat.S_IRWXU)


def test_opening_reads_little_whatever_the_size(tmp_path):
    reads = []
    for count in (1, 100_000):
        with Store.create(tmp_path / str(count), fs=FAST) as store:
            store.commit({}, [store.stage("segment", {"codes": np.zeros((count, 16), np.uint8)})])
        recording = Recording()
        Store.open(tmp_path / str(count), fs=recording).close()
        reads.append(sum(len(result) for name, _, result in recording.log if name == "read"))
    assert max(reads) < 1000


def test_no_descriptor_is_left_open(path):
    before = descriptors()
    for at in range(300):
        with Store.open(path, "rw" if at % 2 else "r", fs=FAST) as store:
            kept = store.sections(store.names()[0])
        store.close()
    del kept
    gc.collect()
    assert descriptors() == before
