"""What a store promises its caller."""

import errno
import fcntl
import os
import re
from pathlib import Path

import numpy as np
import pytest
from storage_faults import FAST, Around, arrays, change, contents, fill, make

from annvq import storage
from annvq.errors import AnnvqError, CorruptIndexError, LockedError, ParameterError, StateError, StorageError
from annvq.storage import FileSystem, LocalFileSystem, Store


@pytest.fixture
def path(tmp_path):
    make(tmp_path / "index")
    return tmp_path / "index"


def files(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "LOCK"}


def test_create_stage_commit_open(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Store.create("some/new folder/index") as store:  # on the real file system, synced
        assert (store.version, store.mode, store.names(), store.config) == (0, "rw", (), {})
        assert store.path == tmp_path / "some/new folder/index"
        assert store.is_current()
        first, second = store.stage("segment", arrays(1)), store.stage("live", {"live": np.ones(3, np.uint8)})
        assert store.names() == ()
        assert re.fullmatch(r"segment-[0-9a-f]{32}\.annvq", first)
        np.testing.assert_array_equal(store.sections(first)["codes"], arrays(1)["codes"])
        assert contents(store.path) is None
        config = {"a": [1, {"b": None}], "x": 0.1, "é": "ü\n"}
        assert store.commit(config, iter([second, first, second])) == 1
        assert (store.version, store.names(), store.config) == (1, (second, first), config)
    os.chdir("/")
    with Store.open(tmp_path / "some/new folder/index") as reader:
        assert (reader.version, reader.mode, reader.names()) == (1, "r", (second, first))
        assert (reader.config, reader.uuid) == (config, store.uuid)
        assert reader.sections(second)["live"].tolist() == [1, 1, 1]
    assert isinstance(LocalFileSystem(), object)
    assert set(storage.__all__) == {
        "LOCAL",
        "FileSystem",
        "LocalFileSystem",
        "MemoryStore",
        "Store",
        "read_container",
        "write_container",
    }
    assert FileSystem.__doc__


def test_arrays_are_mapped_and_read_only(path):
    with Store.open(path) as store:
        for name in store.names():
            for array in store.sections(name).values():
                assert type(array) is np.ndarray
                assert array.flags.c_contiguous
                assert array.flags.aligned
                assert not array.flags.writeable
                assert not array.size or not array.flags.owndata
                with pytest.raises(ValueError, match="read-only"):
                    array[...] = 0
                if array.size:
                    with pytest.raises(ValueError, match="WRITEABLE"):
                        array.flags.writeable = True
                    assert array.ctypes.data % 64 == 0


def test_the_configuration_is_the_stores_own(path):
    with Store.open(path, "rw", fs=FAST) as store:
        given = {"list": [1], "pair": (1, 2), 3: "three"}
        store.commit(given, store.names())
        given["list"].append(2)
        store.config["list"].append(3)
        assert store.config == {"list": [1], "pair": [1, 2], "3": "three"}
    with Store.open(path) as store:
        assert store.config == {"list": [1], "pair": [1, 2], "3": "three"}


def nested(levels):
    config = {}
    for _ in range(levels):
        config = {"a": config}
    return config


CYCLE: dict = {}
CYCLE["a"] = CYCLE
CONFIGS = {
    "not an object": [1],
    "NaN": {"x": float("nan")},
    "infinity": {"x": -float("inf")},
    "bytes": {"x": b"1"},
    "an array": {"x": np.zeros(2)},
    "a cycle": CYCLE,
    "too deep": nested(40),
    "much too deep": nested(100_000),
    "a key twice": {1: 0, "1": 0},
    "a huge integer": {"x": 1 << 100},
    "too long": {"x": "a" * (1 << 22)},
    "too many values": {"x": [0] * (1 << 18)},
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_configuration_that_could_not_be_read_back(path, config):
    before = files(path)
    with Store.open(path, "rw", fs=FAST) as store:
        with pytest.raises(ParameterError):
            store.commit(config, store.names())
        assert store.version == 1
        assert files(path) == before
        change(store)


SECTIONS = {
    "bool": {"x": np.zeros(2, bool)},
    "object": {"x": np.array([None])},
    "complex": {"x": np.zeros(2, complex)},
    "text": {"x": np.array(["a"])},
    "record": {"x": np.zeros(2, [("a", "i4")])},
    "time": {"x": np.zeros(2, "M8[s]")},
    "long double": {"x": np.zeros(2, np.longdouble)},
    "nine axes": {"x": np.zeros((1,) * 9)},
    "no name": {"": np.zeros(2)},
    "name of a folder": {"../x": np.zeros(2)},
    "name in capitals": {"X": np.zeros(2)},
    "name with an end of line": {"x\n": np.zeros(2)},
    "long name": {"x" * 65: np.zeros(2)},
    "too many": {f"x{at}": np.zeros(0) for at in range(15_000)},
}


@pytest.mark.parametrize("sections", SECTIONS.values(), ids=SECTIONS)
def test_an_array_that_has_no_place_in_a_file(path, sections):
    before = files(path)
    with Store.open(path, "rw", fs=FAST) as store:
        with pytest.raises(ParameterError):
            store.stage("segment", {"fine": np.zeros(3), **sections})
        assert files(path) == before


@pytest.mark.parametrize("kind", ["", "Segment", "seg-ment", "a.b", "../a", "a" * 17, "1a", "a\n"])
def test_kinds_are_words(path, kind):
    with Store.open(path, "rw", fs=FAST) as store, pytest.raises(ParameterError, match="kind"):
        store.stage(kind, arrays(1))


def test_only_what_is_there_can_be_committed(path):
    with Store.open(path, "rw", fs=FAST) as store:
        for name in ("manifest.json", "segment-" + "0" * 32 + ".annvq", "../x"):
            with pytest.raises(ParameterError, match="neither in the index nor staged"):
                store.commit({}, [*store.names(), name])
            with pytest.raises(CorruptIndexError, match="not a file of version 1"):
                store.sections(name)
        assert store.version == 1


def test_a_commit_removes_what_it_does_not_keep(path):
    (path / "notes.txt").write_text("mine")
    (path / "segment-not-ours.annvq").write_text("mine")
    (path / f"segment-{'a' * 32}.annvq").write_text("left by a killed writer")
    (path / f"manifest-{'a' * 32}.tmp").write_text("left by a killed writer")
    with Store.open(path, "rw", fs=FAST) as store:
        dropped, kept = store.names()
        staged = [store.stage("segment", arrays(seed)) for seed in (3, 4)]
        store.commit({}, [kept, staged[0]])
        expected = {kept, staged[0], "manifest.json", "LOCK", "notes.txt", "segment-not-ours.annvq"}
        assert set(os.listdir(path)) == expected
        for name in (dropped, staged[1]):
            with pytest.raises(ParameterError):
                store.commit({}, [name])
        assert store.commit({}, []) == 3
        assert store.names() == ()


def test_discard_removes_staged_files_only(path):
    outside = path.parent / "precious"
    outside.write_text("mine")
    with Store.open(path, "rw", fs=FAST) as store:
        staged = store.stage("segment", arrays(3))
        store.discard([staged, staged, store.names()[0], "manifest.json", "../precious", "nothing"])
        assert not (path / staged).exists()
        assert outside.exists()
        store.verify()
        with pytest.raises(ParameterError):
            store.commit({}, [staged])


def test_closing_removes_what_was_staged_in_vain(path):
    before = files(path)
    with Store.open(path, "rw", fs=FAST) as store:
        store.stage("segment", arrays(3))
    assert files(path) == before
    with Store.create(path, fs=FAST) as store:
        store.stage("segment", arrays(3))
    assert files(path) == before


@pytest.mark.parametrize("there", [None, "empty", "locked before", "beside others"])
def test_a_store_without_a_commit_leaves_what_was_there(tmp_path, there):
    path = tmp_path / "new" / "index"
    if there is not None:
        path.mkdir(parents=True)
    if there == "locked before":
        (path / "LOCK").touch()
    before = sorted(tmp_path.rglob("*"))
    store = Store.create(path)
    store.stage("segment", arrays(1))
    if there == "beside others":  # what somebody else put there meanwhile stays
        (path / "notes.txt").touch()
        before.append(path / "notes.txt")
    store.close()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_lock_that_cannot_be_had_leaves_no_folder(tmp_path):
    class NoLock(Around):
        def around(self, number, name, args, call):
            if name == "lock":
                raise OSError(errno.ENOLCK, "no locks")
            return call()

    with pytest.raises(StorageError, match="no locks"):
        Store.create(tmp_path / "new" / "index", fs=NoLock())
    assert os.listdir(tmp_path) == []


def test_a_removed_lock_is_not_held(tmp_path, monkeypatch):
    """Whoever opened the file before its holder removed it locks the next one, where others do."""
    first = Store.create(path := tmp_path / "index", fs=FAST)
    flock = fcntl.flock

    def overtaken(descriptor, operation):
        monkeypatch.setattr("fcntl.flock", flock)
        first.close()
        path.mkdir()
        flock(descriptor, operation)

    monkeypatch.setattr("fcntl.flock", overtaken)
    with Store.create(path, fs=FAST) as second:
        with pytest.raises(LockedError):
            Store.create(path, fs=FAST)
        fill(second)
    assert contents(path) == (1, (100,))


@pytest.mark.parametrize("given", [None, 5, b"x", "a\0b", "\ud800"], ids=ascii)
def test_what_is_no_path(given):
    for call in (
        lambda: Store.create(given),
        lambda: Store.open(given),
        lambda: storage.read_container(given),
        lambda: storage.write_container(given, "codebook", {}),
    ):
        with pytest.raises(ParameterError, match="path"):
            call()


def test_the_old_index_stays_until_the_new_one_is_committed(path):
    with Store.open(path) as old, Store.create(path, fs=FAST) as new:
        assert new.uuid != old.uuid
        name = new.stage("segment", arrays(3))
        assert contents(path) == (1, (1, 2))
        new.commit({"names": {"3": name}}, [name])
        assert contents(path) == (1, (3,))
        assert not old.is_current()
        assert set(os.listdir(path)) == {name, "manifest.json", "LOCK"}


@pytest.mark.parametrize("name", ["notes.txt", "manifest.json", ".hidden", "segment.annvq", "sub/folder"])
def test_a_folder_with_other_files_is_left_alone(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('{"name": "an application", "magic": "annvq-index"}')
    with pytest.raises(StorageError, match="not an annvq index, and not empty") as caught:
        Store.create(tmp_path)
    assert caught.value.errno == errno.ENOTEMPTY
    assert os.listdir(tmp_path) == [Path(name).parts[0]]


def test_an_index_can_be_built_over_what_is_left_of_one(path):
    """Over a damaged index, beside files of others, and over a first save that was killed."""
    raw = (path / "manifest.json").read_bytes()
    (path / "notes.txt").write_text("mine")
    for content in (raw[:-5], raw.replace(b'"major":1', b'"major":9')):
        (path / "manifest.json").write_bytes(content)
        with Store.create(path, fs=FAST) as store:
            fill(store)
        assert contents(path) == (1, (100,))
        assert (path / "notes.txt").read_text() == "mine"
    (path / "notes.txt").unlink()
    (path / "manifest.json").rename(path / f"manifest-{'0' * 32}.tmp")
    with Store.create(path, fs=FAST) as store:
        fill(store)
    assert contents(path) == (1, (100,))


@pytest.mark.parametrize("mode", ["r", "rw"])
def test_what_is_not_an_index(tmp_path, mode):
    with pytest.raises(StorageError) as caught:
        Store.open(tmp_path / "nothing", mode)
    assert caught.value.errno == errno.ENOENT
    assert "nothing" in str(caught.value)
    with pytest.raises(CorruptIndexError, match="is not an annvq index: no manifest"):
        Store.open(tmp_path, mode)
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").write_text("x")
    with pytest.raises(CorruptIndexError, match="a file, not a folder"):
        Store.open(tmp_path / "file", mode)
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError) as caught:
            Store.create(path)
        assert caught.value.errno == errno.ENOTDIR
    with pytest.raises(ParameterError, match="mode 'w'"):
        Store.open(tmp_path, "w")


def test_a_closed_store_does_nothing(path):
    store = Store.open(path, "rw", fs=FAST)
    name = store.names()[0]
    store.close()
    store.close()
    for call in (
        lambda: store.sections(name),
        lambda: store.stage("segment", arrays(1)),
        lambda: store.commit({}, []),
        lambda: store.discard([]),
        store.verify,
        store.is_current,
    ):
        with pytest.raises(StateError, match="closed"):
            call()
    assert (store.version, store.names()[0]) == (1, name)


def test_a_reader_does_not_write(path):
    before = files(path)
    with Store.open(path) as store:
        for call in (
            lambda: store.stage("segment", arrays(1)),
            lambda: store.commit({}, []),
            lambda: store.discard(store.names()),
        ):
            with pytest.raises(StateError, match="mode 'rw' writes"):
                call()
    assert files(path) == before


def test_nothing_here_can_run_code_from_a_file():
    for source in Path(storage.__file__).parent.glob("*.py"):
        text = source.read_text()
        assert not re.search(r"pickle|marshal|shelve|np\.load|numpy\.load|\beval\(|\bexec\(", text), source


def test_errors_are_of_one_family(path):
    (path / "manifest.json").unlink()
    with pytest.raises(AnnvqError):
        Store.open(path)
    with pytest.raises(OSError, match="no manifest"):
        Store.open(path)
    with pytest.raises(ValueError, match="no manifest"):
        Store.open(path)
