"""Upsert, update and removal by filter: all or nothing for whoever dies, reads or searches meanwhile."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import annvq
from annvq.storage.filesystem import LocalFileSystem

sys.path.append(str(Path(__file__).parents[1] / "storage"))

from storage_faults import PowerLoss, in_child
from test_power_loss import files_below, laid_out

OPERATIONS = ("create", "write", "sync", "close", "replace", "remove", "make_folder", "sync_folder")
RNG = np.random.default_rng(3)
ROWS = RNG.integers(-9, 10, (60, 8)).astype(np.float32)
NAMES = [f"d{i}" for i in range(60)]
CHANGES = {
    "upsert": lambda index: index.upsert(ROWS[20:24] + 1, ["d1", "new", "d7", "d40"], {"n": [1, 2, 3, 4]}),
    "update": lambda index: index.update(["d50", "d2", "e1"], {"n": [1, 2, None], "more": [["x"], [], None]}),
    "remove": lambda index: index.remove(filter={"n": {"$lt": 110}}),
}


@pytest.fixture
def saved(tmp_path):
    index = annvq.build(ROWS, "IVF4,Flat", ids=NAMES, attributes={"n": range(100, 160)})
    index.add(ROWS[:5] + 2, [f"e{i}" for i in range(5)], {"more": [["y"]] * 5})
    path = tmp_path / "disk" / "index"
    path.parent.mkdir()
    index.save(path)
    return path


def content(path):
    """Return the rows that a new reader sees, after every byte was checked."""
    with annvq.open(path, verify=True) as index:
        return index.get(vectors=True).to_pylist()


def changed(path, change):
    with annvq.open(path, "rw") as index:
        CHANGES[change](index)


def intercepted(monkeypatch, around):
    for name in OPERATIONS:
        operation = getattr(LocalFileSystem, name)
        monkeypatch.setattr(
            LocalFileSystem,
            name,
            lambda self, *args, name=name, operation=operation: around(name, args, lambda: operation(self, *args)),
        )


def recorded(path, change):
    log = []

    def around(name, args, call):
        kept = tuple(bytes(arg) if isinstance(arg, memoryview) else arg for arg in args)
        result = call()
        log.append((name, kept, result))
        return result

    with pytest.MonkeyPatch.context() as patch:
        intercepted(patch, around)
        changed(path, change)
    return log


def killed(path, change, at, late):
    done = 0

    def around(name, args, call):
        nonlocal done
        done += 1
        if done == at and not late:
            os.kill(os.getpid(), signal.SIGKILL)
        result = call()
        if done == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    intercepted(pytest.MonkeyPatch(), around)  # in a child
    changed(path, change)


@pytest.mark.parametrize("change", CHANGES)
def test_killed_before_and_after_every_operation(saved, change):
    before, files = content(saved), files_below(saved.parent)
    log = [name for name, _, _ in recorded(saved, change)]
    after, commit = content(saved), log.index("replace") + 1
    assert before != after
    for at in range(1, len(log) + 1):
        for late in (False, True):
            laid_out(saved.parent, files)
            assert os.WTERMSIG(in_child(killed, saved, change, at, late)) == signal.SIGKILL
            committed = at > commit or (at == commit and late)
            assert content(saved) == (after if committed else before), (at, late, log[at - 1])
            if late and not committed:
                changed(saved, change)
                assert content(saved) == after


@pytest.mark.parametrize("change", CHANGES)
def test_power_fails_after_every_operation(saved, change):
    before, disk = content(saved), PowerLoss(files_below(saved.parent))
    log = recorded(saved, change)
    after, tried = content(saved), set()
    durable = [name for name, _, _ in log].index("sync_folder", [name for name, _, _ in log].index("replace"))
    for at, operation in enumerate(log):
        disk.apply(*operation)
        for state in disk.states():
            key = at >= durable, hash(frozenset(state.items()))
            if key not in tried:
                tried.add(key)
                laid_out(saved.parent, state)
                assert content(saved) in ([after] if at >= durable else [before, after])
    assert len(tried) > 20


def stamped(number):
    """Return rows of which vectors and attributes say the same."""
    vectors = np.tile(np.arange(8, dtype=np.float32) + number, (10, 1))
    return vectors, {"n": [number] * 10, "text": [f"{number} " * 50] * 10}


def look(index, seen):
    """Raise AssertionError unless every row is there, once, and of one version."""
    table = index.get(vectors=True)
    assert sorted(table.column("id").to_pylist()) == list(range(40))
    changing = table.filter(np.array(table.column("id")) < 10)
    (number,) = set(changing.column("n").to_pylist())
    assert changing.column("text").to_pylist() == [f"{number} " * 50] * 10
    assert {vector[0] for vector in changing.column("vector").to_pylist()} == {float(number)}
    hits = index.search(np.ones((2, 8), np.float32), 40, columns=["n", "text"], nprobe=4)
    assert sorted(hits.ids[0].tolist()) == list(range(40))
    of_row = dict(zip(hits.ids.reshape(-1).tolist(), hits.attributes.to_pylist(), strict=True))
    assert {row["text"] for row in of_row.values()} == {f"{row['n']} " * 50 for row in of_row.values()}
    scores = dict(zip(hits.ids[0].tolist(), hits.scores[0].tolist(), strict=True))
    for name, row in of_row.items():
        assert scores[name] == 28 + 8 * row["n"]  # the new vector comes with the new attributes
    assert number >= seen
    return number


def changing(index, times):
    """Change the same rows many times, each time as one version."""
    for number in range(2, 2 + times):
        vectors, attributes = stamped(number)
        index.upsert(vectors, RNG.permutation(10), attributes)


def index_of_stamps():
    first, attributes = stamped(1)
    index = annvq.build(np.concatenate([first] * 4), "IVF4,Flat", attributes={
        name: values * 4 for name, values in attributes.items()
    })  # fmt: skip
    changing(index, 1)
    return index


@pytest.mark.parametrize("times", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_readers_in_other_processes_see_whole_versions(tmp_path, times):
    index_of_stamps().save(tmp_path / "x")

    def read():
        seen, looks = 0, 0
        with annvq.open(tmp_path / "x") as index:
            while seen < times + 1:
                seen = look(index, seen)
                index.refresh()
                looks += 1
        assert looks > 3

    readers = []
    for _ in range(2):
        readers.append(os.fork())
        if readers[-1] == 0:
            status = 1
            try:
                read()
                status = 0
            finally:
                os._exit(status)
    with annvq.open(tmp_path / "x", "rw") as writer:
        changing(writer, times)
    assert [os.waitpid(pid, 0)[1] for pid in readers] == [0, 0]


@pytest.mark.parametrize("times", [60, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("on_disk", [False, True])
def test_threads_see_whole_versions(tmp_path, times, on_disk):
    index = index_of_stamps()
    if on_disk:
        index.save(tmp_path / "x")
        index = annvq.open(tmp_path / "x", "rw")
    ends, errors, looks = time.monotonic() + 300, [], [0] * 6

    def read(place):
        seen = 0
        try:
            while seen < times + 1 and time.monotonic() < ends:
                seen = look(index, seen)
                looks[place] += 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read, args=(place,)) for place in range(6)]
    for thread in threads:
        thread.start()
    changing(index, times)
    for thread in threads:
        thread.join()
    assert not errors
    assert min(looks) > 0
