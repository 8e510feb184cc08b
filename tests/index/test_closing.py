"""A closed index holds nothing of its files, and says of everything that it is closed."""

import errno
import gc
import os
import threading

import numpy as np
import pytest

import annvq
from annvq.errors import StateError, StorageError
from annvq.multivector import MultiVectorIndex
from annvq.storage import LOCAL, Store

ROWS = np.random.default_rng(5).normal(size=(300, 8)).astype(np.float32)
DOCUMENTS = [ROWS[at : at + 3] for at in range(0, 90, 3)]

needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs /proc")


def held(folder):
    """Return the files of a folder that this process has mapped or open."""
    with open("/proc/self/maps") as lines:
        mapped = [line.split(maxsplit=5)[5].strip() for line in lines if str(folder) in line]
    opened = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            opened.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except FileNotFoundError:  # of the listing itself
            continue
    return sorted(mapped + [name for name in opened if name.startswith(str(folder))])


def make_vectors(path):
    annvq.build(ROWS, "IVF4,PQ4x4fs,Refine(SQ8)", attributes={"n": range(300)}).save(path)
    return annvq.open


def make_strings(path):
    annvq.build(ROWS, "SQ8", ids=[f"n{i}" for i in range(300)]).save(path)
    return annvq.open


def make_documents(path):
    MultiVectorIndex.build(DOCUMENTS).save(path)
    return MultiVectorIndex.open


def use(index):
    single = isinstance(index, annvq.Index)
    queries = ROWS[:5] if single else DOCUMENTS[:2]
    kept = [index.search(queries, 4), index.stats(), index.search(queries, 2, filter=np.arange(len(index)) < 20)]
    if single:
        kept += [index.search(queries[0], 4), index.range_search(queries, 0.5)]
    return kept


@needs_proc
@pytest.mark.parametrize("mode", ["r", "rw"])
@pytest.mark.parametrize("make", [make_vectors, make_strings, make_documents])
def test_nothing_stays_mapped_or_open(tmp_path, make, mode):
    opening = make(tmp_path / "index")
    index = opening(tmp_path / "index", mode)
    if mode == "rw":
        index.remove(list(index.search(ROWS[:1] if isinstance(index, annvq.Index) else DOCUMENTS[:1], 1).ids[0]))
    kept = use(index)
    index.verify()
    assert held(tmp_path)
    gc.collect()
    gc.disable()  # what only the collector would find is held for too long
    try:
        index.close()
        assert held(tmp_path) == []
    finally:
        gc.enable()
    assert kept[0].scores.shape[1] == 4, "hits are the caller's own"
    with opening(tmp_path / "index", "rw"):
        pass


@needs_proc
def test_an_old_version_is_let_go_of_when_a_reader_takes_the_next(tmp_path):
    make_vectors(tmp_path / "index")
    with annvq.open(tmp_path / "index") as reader:
        use(reader)
        with annvq.open(tmp_path / "index", "rw") as writer:
            writer.remove([3])
            writer.compact()
        assert any("deleted" in name for name in held(tmp_path))
        assert reader.refresh()
        use(reader)
        assert not any("deleted" in name for name in held(tmp_path))


def test_a_search_that_is_under_way_ends(tmp_path, monkeypatch):
    make_vectors(tmp_path / "index")
    index = annvq.open(tmp_path / "index")
    expected = index.search(ROWS[:40], 5)
    begun, closed, results = threading.Event(), threading.Event(), []
    from annvq.index import index as module

    search = module.search

    def waiting(*given, **named):
        begun.set()
        closed.wait(60)
        return search(*given, **named)

    monkeypatch.setattr(module, "search", waiting)
    thread = threading.Thread(target=lambda: results.append(index.search(ROWS[:40], 5)))
    thread.start()
    begun.wait(60)
    index.close()
    closed.set()
    thread.join()
    assert results[0].ids.tolist() == expected.ids.tolist()
    assert results[0].scores.tolist() == expected.scores.tolist()


EVERYTHING = {
    "len": len,
    "bool": bool,
    "stats": lambda i: i.stats(),
    "dim": lambda i: i.dim,
    "recipe": lambda i: i.recipe,
    "version": lambda i: i.version,
    "nprobe": lambda i: i.nprobe,
    "search": lambda i: i.search(ROWS[:2]),
    "remove": lambda i: i.remove([1]),
    "compact": lambda i: i.compact(),
    "verify": lambda i: i.verify(),
    "refresh": lambda i: i.refresh(),
    "is_current": lambda i: i.is_current(),
    "reduce": lambda i: i.__reduce__(),
    "reconstruct": lambda i: i.reconstruct([1]),
}
OF_VECTORS = {"metric": lambda i: i.metric, "rerank": lambda i: i.rerank, "tune": lambda i: i.tune(ROWS[:5])}
OF_DOCUMENTS = {
    "candidates": lambda i: i.candidates,
    "encoder": lambda i: i.encoder,
    "tune": lambda i: i.tune(DOCUMENTS[:5]),
    "find_candidates": lambda i: i.find_candidates(DOCUMENTS[:2]),
    "add": lambda i: i.add(DOCUMENTS[:2]),
}


@pytest.mark.parametrize("place", ["memory", "r", "rw"])
@pytest.mark.parametrize("make", [make_vectors, make_documents])
def test_every_use_of_a_closed_index_is_an_error(tmp_path, make, place):
    if place == "memory":
        index = annvq.build(ROWS, "Flat") if make is make_vectors else MultiVectorIndex.build(DOCUMENTS)
    else:
        index = make(tmp_path / "index")(tmp_path / "index", place)
    index.close()
    index.close()
    for call in (EVERYTHING | (OF_VECTORS if make is make_vectors else OF_DOCUMENTS)).values():
        with pytest.raises(StateError, match="the index is closed"):
            call(index)
    with pytest.raises(StateError, match="the index is closed"):
        index.save(tmp_path / "new" / "place")
    assert not (tmp_path / "new").exists()
    assert repr(index) == f"{type(index).__name__}(closed)"


def failing_close(monkeypatch):
    """Let closing LOCK fail, after it was closed."""
    lock = type(LOCAL).lock
    locks = set()

    def noted_lock(self, path):
        descriptor = lock(self, path)
        locks.add(descriptor)
        return descriptor

    def close(self, descriptor):
        os.close(descriptor)
        if descriptor in locks:
            locks.remove(descriptor)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(type(LOCAL), "lock", noted_lock)
    monkeypatch.setattr(type(LOCAL), "close", close)


def test_an_error_of_closing_the_lock_is_one_of_storage(tmp_path, monkeypatch):
    path = tmp_path / "index"
    make_vectors(path)
    failing_close(monkeypatch)
    index = annvq.open(path, "rw")
    with pytest.raises(StorageError, match="cannot close") as caught:
        index.close()
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, str(path / "LOCK"))
    index.close()
    with pytest.raises(StateError, match="closed"):
        len(index)
    store = Store.open(path, "rw")  # the lock is free
    with pytest.raises(StorageError, match="cannot close"):
        store.close()
    with pytest.raises(ZeroDivisionError), annvq.open(path, "rw"):  # what went wrong first is what is told
        raise ZeroDivisionError
    with pytest.raises(ValueError, match="NaN"):
        annvq.build(ROWS * np.nan, "Flat", path=tmp_path / "other")
