"""Vectors that come in batches: the same index, nothing left behind on errors, bounded memory."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_indexes import BASE, QUERIES, RECIPES, D, N, ids_of

import annvq
import annvq.io
from annvq.errors import AnnvqError, DuplicateIdError, NonFiniteError, ShapeError, StateError
from annvq.index import build as building


def cut(rows, lengths):
    """Yield batches of these lengths, the last one ragged."""
    start = 0
    for length in lengths:
        yield rows[start : start + length]
        start += length
    yield rows[start:]


def in_one_buffer(rows, length):
    """Yield batches from a buffer that is filled again and again, as readers do."""
    buffer = np.empty((length, rows.shape[1]), rows.dtype)
    for start in range(0, len(rows), length):
        part = rows[start : start + length]
        buffer[: len(part)] = part
        yield buffer[: len(part)]
    buffer[:] = np.nan


def parquet(rows, folder, ids=None):
    columns = {"vectors": pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])}
    if ids is not None:
        columns["id"] = ids
    pq.write_table(pa.table(columns), folder / "rows.parquet", row_group_size=37)
    return folder / "rows.parquet"


def mapped(rows, folder):
    np.save(folder / "rows.npy", rows)
    return np.load(folder / "rows.npy", mmap_mode="r")


SOURCES = {
    "ragged": lambda rows, _: cut(rows, (50, 7, 1)),
    "empty batches": lambda rows, _: cut(rows, (0, 40, 0, 0, 40, 0)),
    "empty at the end": lambda rows, _: cut(rows, (60, 60, 0)),
    "single rows": lambda rows, _: (row[None] for row in rows),
    "one buffer": lambda rows, _: in_one_buffer(rows, 32),
    "list": lambda rows, _: list(cut(rows, (50, 50))),
    "map": lambda rows, _: map(np.asarray, cut(rows, (50, 50))),
    "lists of numbers": lambda rows, _: iter([rows[:70].tolist(), rows[70:].tolist()]),
    "tensors": lambda rows, _: map(pytest.importorskip("torch").tensor, cut(rows, (50, 50))),
    "record batches": lambda rows, folder: pq.ParquetFile(parquet(rows, folder)).iter_batches(29),
    "parquet": lambda rows, folder: annvq.io.open_vectors(parquet(rows, folder)),
    "npy": lambda rows, folder: annvq.io.open_vectors(mapped(rows, folder).filename),
    "memmap": mapped,
    "array": lambda rows, _: rows,
}


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    """Cut batches and segments short, so that N rows make several of each."""
    monkeypatch.setattr(building, "_BATCH_BYTES", 4 * D * 25)
    monkeypatch.setattr(building, "_SEGMENT_BYTES", 1200)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", ["fp32", "pq4"])
def test_a_stream_gives_what_the_array_gives(kind, source, tmp_path):
    ids = ids_of(kind)
    table = {"year": np.arange(N) % 9}
    wanted = annvq.build(BASE, RECIPES[kind], ids=ids, attributes=table, metric="l2", train=BASE)
    vectors = SOURCES[source](BASE, tmp_path)
    with annvq.build(
        vectors, RECIPES[kind], ids=ids, attributes=table, metric="l2", train=BASE, path=tmp_path / "index"
    ) as built:
        assert built.stats()["segments"] > 1
        assert len(built) == N
        for index in (built, annvq.open(tmp_path / "index")):
            for options in ({}, {"filter": pa.compute.field("year") > 5}, {"filter": np.arange(N) % 3 == 0}):
                hits, best = index.search(QUERIES, 15, **options), wanted.search(QUERIES, 15, **options)
                assert hits.ids.tolist() == best.ids.tolist()
                assert hits.scores.tobytes() == best.scores.tobytes()
            assert index.reconstruct(ids).tobytes() == wanted.reconstruct(ids).tobytes()
        built.compact()
        built.verify()
        assert built.search(QUERIES, 15).ids.tolist() == wanted.search(QUERIES, 15).ids.tolist()


def test_without_training_vectors_a_stream_learns_from_its_head(tmp_path):
    streamed = annvq.build(cut(BASE, (50, 50)), RECIPES["pq4"], seed=3)
    whole = annvq.build(BASE, RECIPES["pq4"], seed=3)  # shorter than the sample: the head is all of it
    assert streamed.search(QUERIES, 9).scores.tobytes() == whole.search(QUERIES, 9).scores.tobytes()
    head = annvq.build(cut(BASE, (50, 50)), RECIPES["pq4"], train=60, seed=3, path=tmp_path / "index")
    first = annvq.build(BASE, RECIPES["pq4"], train=BASE[:60], seed=3)
    assert head.search(QUERIES, 9).scores.tobytes() == first.search(QUERIES, 9).scores.tobytes()


@pytest.mark.parametrize("words", [False, True], ids=["int", "str"])
def test_ids_come_from_the_file_that_holds_them(words, tmp_path):
    ids = [f"é{i}" for i in range(N)] if words else list(range(N * 7, 0, -7))
    source = annvq.io.open_vectors(parquet(BASE, tmp_path, ids))
    with annvq.build(source, "Flat", path=tmp_path / "index", metric="l2") as index:
        assert index.search(BASE, 1).ids[:, 0].tolist() == ids


def test_a_source_in_the_same_folder_as_the_index_is_not_taken_for_one(tmp_path):
    source = annvq.io.open_vectors(parquet(BASE, tmp_path))
    with pytest.raises(AnnvqError, match=r"rows\.parquet"):
        annvq.build(source, "Flat", path=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["rows.parquet"]


# Errors


def raising(error):
    yield BASE[:70]
    yield BASE[70:80]
    raise error


def with_bad_row():
    bad = BASE[70:].copy()
    bad[13, 2] = np.inf
    return iter([BASE[:70], bad])


class OwnError(Exception):
    pass


FAILING = {
    "another dimension": (lambda: iter([BASE[:70], BASE[70:, :-1]]), {}, ShapeError, f"{D - 1}, expected {D}"),
    "one axis": (lambda: iter([BASE[:70], BASE[70]]), {}, ShapeError, "1 axes"),
    "ragged rows": (lambda: iter([BASE[:70], [[1.0], [1.0, 2.0]]]), {}, ShapeError, "different lengths"),
    "not finite": (with_bad_row, {}, NonFiniteError, "row 83 "),
    "the reader's own error": (lambda: raising(OwnError("disk on fire")), {}, OwnError, "disk on fire"),
    "out of memory": (lambda: raising(MemoryError("too much")), {}, MemoryError, "too much"),
    "too few ids": (lambda: cut(BASE, (50,)), {"ids": range(N - 1)}, ShapeError, f"{N - 1} ids"),
    "too many ids": (lambda: cut(BASE, (50,)), {"ids": range(N + 1)}, ShapeError, f"{N + 1} ids for {N}"),
    "an id twice": (lambda: cut(BASE, (50,)), {"ids": [*range(N - 1), 3]}, DuplicateIdError, "3"),
    "a str id twice": (lambda: cut(BASE, (50,)), {"ids": [*map(str, range(N - 1)), "3"]}, DuplicateIdError, "'3'"),
    "too few attributes": (lambda: cut(BASE, (50,)), {"attributes": {"a": range(9)}}, ShapeError, "9 attributes"),
    "nothing": (lambda: iter([]), {}, ShapeError, "dimension 0"),
}


@pytest.mark.parametrize("there", ["nothing", "folder", "index"])
@pytest.mark.parametrize("case", FAILING)
def test_a_stream_that_fails_leaves_what_was_there(case, there, tmp_path):
    make, options, error, words = FAILING[case]
    path = tmp_path / "new" / "index"
    if there == "folder":
        path.mkdir(parents=True)
    elif there == "index":
        annvq.build(BASE[:5], "Flat", path=path).close()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=words):
        annvq.build(make(), RECIPES["pq4"], train=BASE, path=path, **options)
    assert sorted(tmp_path.rglob("*")) == before
    if there == "index":
        with annvq.open(path) as index:
            index.verify()
            assert len(index) == 5
    annvq.build(BASE[:6], "Flat", path=path).close()  # the lock is free


def test_a_stream_is_read_once_and_says_so():
    source = annvq.io.StreamSource(cut(BASE, (50,)))
    annvq.build(source, "Flat")
    with pytest.raises(StateError, match="read already"):
        annvq.build(source, "Flat")
    generator = cut(BASE, (50,))
    assert len(annvq.build(generator, "Flat")) == N
    with pytest.raises(AnnvqError):
        annvq.build(generator, "Flat")


# Memory

MEASURED = """
import sys, threading, time
import numpy as np
import annvq
from annvq.index import build as building

kind, folder, rows, dim = sys.argv[1], sys.argv[2], 800_000, 128
building._BATCH_BYTES = 1 << 22  # the bound is of the steps, so that small steps show it with little data
building._SEGMENT_BYTES = 1 << 22


def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) << 10


def batches():
    rng = np.random.default_rng(0)
    block = rng.normal(size=(5000, dim)).astype(np.float32)
    for start in range(0, rows, len(block)):
        yield np.roll(block, start // len(block), axis=1)


def source():
    if kind == "generator":
        return batches()
    matrix = np.lib.format.open_memmap(folder + "/rows.npy", "w+", np.float32, (rows, dim))
    matrix[: 20_000] = np.concatenate([next(batches()) for _ in range(4)])  # the rest is a hole in the file
    matrix.flush()
    return np.load(folder + "/rows.npy", mmap_mode="r")


def build(vectors, name):
    return annvq.build(vectors, "PQ16x4", train=2000, path=folder + "/" + name, threads=2)


build(np.concatenate([next(batches()) for _ in range(4)]), "first").close()  # compiled, pool started
vectors = source()
before, peak, done = resident(), 0, False


def watch():
    global peak
    while not done:
        peak = max(peak, resident())
        time.sleep(0.002)


watcher = threading.Thread(target=watch)
watcher.start()
index = build(vectors, "index")
done = True
watcher.join()
assert len(index) == rows
print(rows * dim * 4 >> 20, peak - before >> 20)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
@pytest.mark.parametrize("kind", ["generator", "memmap"])
def test_memory_is_bounded_by_the_steps_and_not_by_the_data(kind, tmp_path):
    command = [sys.executable, "-c", MEASURED, kind, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    data, growth = map(int, ran.stdout.split())
    assert data > 380
    assert growth < 64
