"""One index and many threads, processes and interrupts."""

import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
from small_indexes import BASE, QUERIES, RECIPES, D, N, built, ids_of

import annvq
from annvq.errors import AnnvqError, CorruptIndexError, StateError

RNG = np.random.default_rng(3)
MORE = RNG.normal(size=(60, D)).astype(np.float32)


def answer(index, batch):
    """Return what a search gives, as a value that can be compared and kept in a set."""
    queries, options = QUERIES, {}
    if batch == 1:
        queries = QUERIES[:1]
    elif batch == 2:
        options = {"filter": pc.field("year") > 3}
    elif batch == 3:
        found = index.range_search(QUERIES[:2], 12.0)
        return batch, tuple(found.ids.tolist()), found.scores.tobytes()
    hits = index.search(queries, 8, threads=1 + batch % 2, **options)
    return batch, tuple(hits.ids.ravel().tolist()), hits.scores.tobytes()


def all_answers(index):
    return {answer(index, batch) for batch in range(4)}


def change(index, kind):
    """Change an index step by step, yielding after each."""
    new_ids = [f"new{i:03}" for i in range(60)] if kind in ("fp16", "pq4", "rabitq") else np.arange(60) + 5000
    for start in range(0, 24, 6):
        rows = slice(start, start + 6)
        index.add(MORE[rows], new_ids[rows], {"year": [5] * 6, "name": ["n"] * 6})
        yield
        index.remove(new_ids[rows][:2])
        yield
        index.remove(ids_of(kind)[10 + start // 6 : 11 + start // 6])
        yield
        if start == 12:
            index.compact()
            yield


@pytest.mark.parametrize(("kind", "on_disk"), [("fp32", True), ("pq4", True), ("opq-pq8", False), ("rabitq", False)])
def test_a_search_sees_one_version_while_another_thread_changes_it(kind, on_disk, tmp_path):
    index = built(kind)
    if on_disk:
        index.save(tmp_path / "index")
        index = annvq.open(tmp_path / "index", "rw")
    committed, seen, failed, done = all_answers(index), [set() for _ in range(10)], [], threading.Event()

    def searching(number):
        turn = number
        try:
            while not done.is_set():
                seen[number].add(answer(index, turn % 4))
                turn += 1
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=searching, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    try:
        for _ in change(index, kind):
            committed |= all_answers(index)
    finally:
        done.set()
        for thread in threads:
            thread.join(60)
    assert not failed
    assert all(seen)
    assert set().union(*seen) <= committed
    index.verify()
    index.close()


def test_adding_from_many_threads_loses_nothing(tmp_path):
    index = built("pq4")
    index.save(tmp_path / "index")
    with annvq.open(tmp_path / "index", "rw") as opened:
        version = opened.version

        def adding(number):
            for i in range(3):
                opened.add(MORE[:2], [f"{number}-{i}-{j}" for j in range(2)], {"year": [1, 2], "name": ["a", "b"]})

        threads = [threading.Thread(target=adding, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(opened) == N - 7 + 48
        assert opened.version == version + 24
        opened.reconstruct([f"{number}-{i}-{j}" for number in range(8) for i in range(3) for j in range(2)])
        opened.verify()


def test_closing_waits_for_a_change_and_searches_end_with_an_answer_or_a_state_error(tmp_path):
    built("fp32").save(tmp_path / "index")
    for _ in range(10):
        index = annvq.open(tmp_path / "index", "rw")
        wanted, wrong = all_answers(index), []

        def searching(index=index, wanted=wanted, wrong=wrong):
            try:
                while True:
                    if answer(index, 0) not in wanted:
                        wrong.append("another answer")
            except StateError:
                pass
            except BaseException as error:
                wrong.append(error)

        def changing(index=index, wrong=wrong):
            try:
                while True:
                    index.tune(QUERIES, 3)  # a change that alters no answer of an index without lists
            except StateError:
                pass
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=work) for work in (searching, searching, changing)]
        for thread in threads:
            thread.start()
        time.sleep(0.02)
        index.close()
        with annvq.open(tmp_path / "index", "rw") as next_writer:  # the lock is free, and nobody else writes
            next_writer.verify()
        for thread in threads:
            thread.join(60)
        assert not wrong


# Processes


def in_child(function):
    """Return the exit status of a forked child that calls ``function``."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            function()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("kind", ["pq4", "rabitq"])
def test_a_forked_child_searches_what_its_parent_searched(kind, tmp_path):
    index = built(kind)
    index.save(tmp_path / "index")
    with annvq.open(tmp_path / "index", "rw") as opened:
        wanted = all_answers(index)
        many = np.tile(QUERIES, (40, 1))
        before = opened.search(many, 3, threads=4)

        def search():
            assert all_answers(index) == wanted
            assert all_answers(opened) == wanted
            assert opened.search(many, 3, threads=4).ids.tolist() == before.ids.tolist()
            index.compact()
            with pytest.raises(StateError, match="forked"):
                opened.compact()
            opened.close()

        assert in_child(search) == 0
        opened.compact()  # the child let go of nothing that the parent holds


def test_a_child_forked_in_the_middle_of_a_change_is_not_locked_out(tmp_path):
    index = built("fp32")
    entered, leave = threading.Event(), threading.Event()

    def changing():
        with index.rows.changing():
            entered.set()
            leave.wait(60)

    thread = threading.Thread(target=changing)
    thread.start()
    entered.wait(60)

    def use():
        signal.alarm(30)
        index.compact()
        index.close()

    try:
        assert in_child(use) == 0
    finally:
        leave.set()
        thread.join()


def search_there(index):
    return all_answers(index)


def test_an_opened_index_goes_to_another_process_as_its_path(tmp_path):
    index = built("pq4")
    index.save(tmp_path / "index")
    with annvq.open(tmp_path / "index") as opened:
        sent = pickle.dumps(opened)
        assert len(sent) < 1000
        with pickle.loads(sent) as again:
            assert all_answers(again) == all_answers(index)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(search_there, (opened,)) == all_answers(index)
    assert all_answers(pickle.loads(pickle.dumps(index))) == all_answers(index)  # one in memory goes as its bytes
    with pytest.raises(StateError, match="closed"):
        pickle.dumps(opened)
    for file in (tmp_path / "index").iterdir():
        file.unlink()
    with pytest.raises(CorruptIndexError, match="not an annvq index"):
        pickle.loads(sent)


READER = """
import sys
sys.path.insert(0, sys.argv[2])
from test_many_threads import all_answers
import annvq
index = annvq.open(sys.argv[1])
wanted = all_answers(index)
print("ready", flush=True)
import select
while not select.select([sys.stdin], [], [], 0)[0]:
    assert all_answers(index) == wanted
index.verify()
print("same", flush=True)
"""


def test_a_reader_in_another_process_outlives_its_index(tmp_path):
    path = tmp_path / "index"
    built("pq4").save(path)
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", READER, str(path), here]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout.readline() == "ready\n"
        for kind in ("fp32", "rvq", "pq4"):
            built(kind).save(path)
            with annvq.open(path, "rw") as index:
                index.remove(ids_of(kind)[20:40])
                index.compact()
            time.sleep(0.05)
        out, _ = reader.communicate("stop\n", timeout=60)
    assert (reader.returncode, out) == (0, "same\n")


# Interrupts


def names_in(path):
    return sorted(file.name for file in path.iterdir()) if path.exists() else None


@pytest.fixture
def interrupts():
    """Let SIGINT raise KeyboardInterrupt: a shell starts its background jobs with the signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
@pytest.mark.parametrize("there", [False, True], ids=["new", "replacing"])
def test_an_interrupted_build_leaves_what_was_there(there, tmp_path):
    path = tmp_path / "index"
    if there:
        built("fp32").save(path)
    before = names_in(path)

    def interrupt(done, total):
        if done > 30:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

    batches = (BASE[start : start + 20] for start in range(0, N, 20))
    with pytest.raises(KeyboardInterrupt):
        annvq.build(batches, RECIPES["sq8"], path=path, train=BASE, progress=interrupt)
    assert names_in(path) == before
    if there:
        with annvq.open(path) as index:
            index.verify()
            assert index.recipe.codebook.kind == "fp32"
    annvq.build(BASE, RECIPES["sq8"], path=path).close()  # the lock is free
    with annvq.open(path) as index:
        assert index.recipe.codebook.kind == "sq8"


def test_a_save_that_is_interrupted_at_any_point_is_made_or_not(tmp_path, monkeypatch):
    from annvq.storage.filesystem import LocalFileSystem

    path, left = tmp_path / "index", [-1]
    old, new = built("fp32"), built("pq4")
    answers = {"fp32": all_answers(old), "pq": all_answers(new)}
    old.save(path)

    def interrupting(operation):
        def around(*args):
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            return operation(*args)

        return around

    for name in ("create", "write", "replace", "remove", "list", "lock", "map", "open", "sync_folder"):
        monkeypatch.setattr(LocalFileSystem, name, interrupting(getattr(LocalFileSystem, name)))
    kept = 0
    for step in range(1, 200):
        left[0] = step
        try:
            new.save(path)
            finished = True
        except KeyboardInterrupt:
            finished = False
        left[0] = -1
        with annvq.open(path) as index:
            index.verify()
            kind = index.recipe.codebook.kind
            assert all_answers(index) == answers[kind]
        if finished:
            break
        kept += kind == "fp32"
        old.save(path)
    assert finished
    assert kind == "pq"
    assert kept > 10


# What is let go of


def open_descriptors():
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_opening_and_closing_leaks_no_descriptors(tmp_path):
    path = tmp_path / "index"
    built("pq4").save(path)
    damaged = tmp_path / "damaged"
    built("fp32").save(damaged)
    (segment,) = damaged.glob("segment-*")
    segment.unlink()
    before = open_descriptors()
    for turn in range(200):
        with annvq.open(path, "rw" if turn % 2 else "r") as index:
            index.search(QUERIES[:1], 3)
        with pytest.raises(CorruptIndexError):
            annvq.open(damaged, "rw" if turn % 2 else "r")
        if turn % 20 == 0:
            annvq.build(BASE[:4], "Flat", path=tmp_path / "other").close()
            with pytest.raises(AnnvqError):
                annvq.build(BASE[:4] * np.nan, "Flat", path=tmp_path / "other")
    index = None
    assert open_descriptors() == before


def test_a_closed_index_refuses_every_call(tmp_path):
    index = built("fp32")
    index.save(tmp_path / "index")
    for opened in (annvq.open(tmp_path / "index", "rw"), index):
        opened.close()
        opened.close()
        calls = {
            "search": lambda i: i.search(QUERIES),
            "range_search": lambda i: i.range_search(QUERIES, 1.0),
            "tune": lambda i: i.tune(QUERIES),
            "reconstruct": lambda i: i.reconstruct([50]),
            "add": lambda i: i.add(BASE[:1]),
            "remove": lambda i: i.remove([50]),
            "compact": lambda i: i.compact(),
            "save": lambda i: i.save(tmp_path / "other"),
            "verify": lambda i: i.verify(),
            "pickle": pickle.dumps,
        }
        for call in calls.values():
            with pytest.raises(StateError, match="closed"):
                call(opened)
    assert not (tmp_path / "other").exists()
