"""Whatever is added, removed, merged, saved and reopened in whatever order, an index answers as a plain model does."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule
from small_indexes import BASE, built, ids_of

import annvq
from annvq.errors import AnnvqError, DtypeError, DuplicateIdError, ParameterError, StateError, UnknownIdError

D = 5
LARGEST = 2**63 - 1
# Whole numbers: float32 sums are exact, so that scores can be compared bit by bit and many tie.
SAMPLE = np.random.default_rng(0).integers(-3, 4, (64, D)).astype(np.float32)
EXACT = {"Flat": {}, "IVF3,PQ2x4,Refine(Flat)": {"nprobe": 3, "rerank": 10_000}}
WORDS = ["", "a", "B", "é", "z\0", "日本", "𝄞", "a" * 40, "10", "9"]
NUMBERS = [0, 1, 7, -2, -(2**63), 2**31, 2**53 + 1, 2**53 + 2, LARGEST - 1, LARGEST]
INT_IDS = st.one_of(st.integers(-50, 50), st.sampled_from(NUMBERS)).filter(lambda i: i != -1)
STR_IDS = st.one_of(st.sampled_from(WORDS), st.integers(0, 99).map(str))


def vectors(count, seed):
    return np.random.default_rng(seed).integers(-3, 4, (count, D)).astype(np.float32)


class Model:
    """Live rows in the order of insertion."""

    def __init__(self, metric, ids=(), rows=()):
        self.metric = metric
        self.rows = dict(zip(ids, rows, strict=True))

    def copy(self):
        return Model(self.metric, self.rows, self.rows.values())

    def scores(self, query, allowed):
        for name in allowed:
            row = self.rows[name].astype(np.float64)
            yield name, float(-((query - row) ** 2).sum() if self.metric == "l2" else query @ row)

    def best(self, query, k, allowed=None):
        found = sorted(self.scores(query, self.rows if allowed is None else allowed), key=lambda hit: (-hit[1], hit[0]))
        return found[:k]


def agrees(index, model, query, k, allowed=None, **options):
    hits = index.search(query, k, **options)
    wanted = model.best(query, k, allowed)
    ids, scores = hits.ids[0].tolist(), hits.scores[0].tolist()
    missing = k - len(wanted)
    assert ids[: len(wanted)] == [name for name, _ in wanted]
    assert scores[: len(wanted)] == [score for _, score in wanted]
    assert all(left in (-1, None) for left in ids[len(wanted) :])
    assert scores[len(wanted) :] == [-np.inf] * missing


class Changes(RuleBasedStateMachine):
    readers = Bundle("readers")

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.opened = []

    @initialize(
        recipe=st.sampled_from(sorted(EXACT)),
        metric=st.sampled_from(["ip", "l2"]),
        kind=st.sampled_from(["int", "str"]),
        count=st.integers(3, 12),
        seed=st.integers(0, 99),
    )
    def build(self, recipe, metric, kind, count, seed):
        rows = vectors(count, seed)
        self.options = EXACT[recipe]
        self.new_ids = INT_IDS if kind == "int" else STR_IDS
        ids = [str(i) for i in range(count)] if kind == "str" else list(range(count))
        self.model = Model(metric, ids, rows)
        self.kind, self.next_id = kind, count
        self.index = annvq.build(rows, recipe, ids=ids, metric=metric, train=SAMPLE)

    @property
    def on_disk(self):
        return self.index.stats()["path"] is not None

    @rule(data=st.data(), count=st.integers(0, 6), seed=st.integers(0, 99))
    def add(self, data, count, seed):
        ids = data.draw(st.lists(self.new_ids, min_size=count, max_size=count))
        rows = vectors(count, seed)
        if len(set(ids)) < count or set(ids) & set(self.model.rows):
            with pytest.raises(DuplicateIdError):
                self.index.add(rows, ids)
            return
        self.index.add(rows, ids)
        self.model.rows |= dict(zip(ids, rows, strict=True))
        if self.kind == "int":
            self.next_id = max([self.next_id, *(i + 1 for i in ids)])

    @precondition(lambda self: self.kind == "int")
    @rule(count=st.integers(1, 3), seed=st.integers(0, 99))
    def add_without_ids(self, count, seed):
        ids = range(self.next_id, self.next_id + count)
        rows = vectors(count, seed)
        if ids[-1] > LARGEST:
            with pytest.raises(ParameterError, match="ids must be given"):
                self.index.add(rows)
            return
        self.index.add(rows)
        self.model.rows |= dict(zip(ids, rows, strict=True))
        self.next_id += count

    @rule(data=st.data())
    def remove(self, data):
        ids = data.draw(st.lists(st.sampled_from(sorted(self.model.rows)), unique=True)) if self.model.rows else []
        self.index.remove(ids)
        for name in ids:
            del self.model.rows[name]

    @rule()
    def remove_everything(self):
        self.index.remove(list(self.model.rows))
        self.model.rows.clear()

    @rule(data=st.data())
    def remove_what_is_not_there(self, data):
        name = data.draw(self.new_ids)
        if name not in self.model.rows and self.model.rows:
            with pytest.raises(UnknownIdError):
                self.index.remove([next(iter(self.model.rows)), name])

    @rule()
    def add_ids_of_another_kind(self):
        with pytest.raises(DtypeError):
            self.index.add(vectors(1, 0), ["a"] if self.kind == "int" else [7])

    @rule()
    def compact(self):
        self.index.compact()
        assert self.index.stats()["deleted"] == 0
        assert self.index.stats()["segments"] <= 1

    @rule()
    def save_and_reopen(self):
        if not self.on_disk:
            self.index.save(self.folder / "index")
        self.index.close()
        self.index = annvq.open(self.folder / "index", "rw")

    @rule(copy=st.integers(0, 3))
    def save_elsewhere(self, copy):
        self.index.save(self.folder / f"copy{copy}")
        with annvq.open(self.folder / f"copy{copy}") as opened:
            opened.verify()
            agrees(opened, self.model, SAMPLE[0], 5, **self.options)

    @precondition(lambda self: hasattr(self, "index") and self.on_disk)
    @rule(target=readers)
    def read(self):
        reader = annvq.open(self.folder / "index")
        self.opened.append(reader)
        return reader, self.model.copy()

    @rule(held=readers, seed=st.integers(0, 99))
    def a_reader_keeps_its_version(self, held, seed):
        reader, model = held
        agrees(reader, model, vectors(1, seed)[0], 8, **self.options)
        reader.verify()
        with pytest.raises(StateError):
            reader.compact()

    @rule(seed=st.integers(0, 99), k=st.integers(1, 30))
    def search(self, seed, k):
        agrees(self.index, self.model, vectors(1, seed)[0], k, **self.options)

    @rule(seed=st.integers(0, 99), k=st.integers(1, 12), data=st.data())
    def search_with_a_filter(self, seed, k, data):
        query, ids = vectors(1, seed)[0], list(self.model.rows)
        mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids))), bool)
        allowed = [name for name, passes in zip(ids, mask, strict=True) if passes]
        agrees(self.index, self.model, query, k, allowed, filter=mask, **self.options)
        agrees(self.index, self.model, query, k, allowed, filter=allowed, **self.options)

    @rule(seed=st.integers(0, 99), radius=st.integers(-20, 60))
    def search_within_a_radius(self, seed, radius):
        query = vectors(1, seed)[0]
        found = self.index.range_search(query, radius, nprobe=self.options.get("nprobe"))
        least = -radius if self.model.metric == "l2" else radius
        wanted = [hit for hit in self.model.best(query, 10_000) if hit[1] >= least]
        assert list(zip(found.ids.tolist(), found.scores.tolist(), strict=True)) == wanted

    @rule(data=st.data())
    def reconstruct(self, data):
        if self.model.rows:
            ids = data.draw(st.lists(st.sampled_from(sorted(self.model.rows)), max_size=5))
            rows = np.array([self.model.rows[name] for name in ids], np.float32).reshape(-1, D)
            assert self.index.reconstruct(ids).tolist() == rows.tolist()

    @invariant()
    def as_many_as_there_are(self):
        if hasattr(self, "index"):
            assert len(self.index) == len(self.model.rows)

    def teardown(self):
        if hasattr(self, "index"):
            self.index.verify()
            agrees(self.index, self.model, SAMPLE[1], 20, **self.options)
            self.index.close()
        for reader in self.opened:
            reader.close()
        shutil.rmtree(self.folder)


Changes.TestCase.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
test_any_order_of_changes_agrees_with_a_model = Changes.TestCase


def test_ids_up_to_the_ends_of_64_bits_come_back_exactly(tmp_path):
    ids = np.array(sorted(NUMBERS), np.int64)
    rows = vectors(len(ids), 1)
    index = annvq.build(rows, "Flat", ids=ids, metric="l2", path=tmp_path / "index")
    index.close()
    with annvq.open(tmp_path / "index", "rw") as opened:
        assert sorted(opened.search(SAMPLE[0], len(ids)).ids[0].tolist()) == ids.tolist()
        for name, row in zip(ids.tolist(), rows, strict=True):
            assert opened.search(row, 1, filter=[name]).ids.tolist() == [[name]]
        with pytest.raises(ParameterError, match=f"largest one, {LARGEST}"):
            opened.add(rows[:1])
        assert len(opened) == len(ids)
    for wrong in ([2**63], [-(2**63) - 1], np.array([2**64 - 1], np.uint64)):
        with pytest.raises(AnnvqError, match="2\\^63"):
            annvq.build(rows[:1], ids=wrong)


@pytest.mark.parametrize("ids", [[7, 3], ["b", "a"]])
@pytest.mark.parametrize(
    "make", [pa.table, pa.record_batch, lambda columns: pytest.importorskip("polars").DataFrame(columns)]
)
def test_ids_beside_the_vectors_are_theirs(make, ids):
    def table(ids, rows):
        return make({"v": pa.array(rows.tolist(), pa.list_(pa.float32(), D)), "id": pa.array(ids)})

    index = annvq.build(table(ids, SAMPLE[:2]), "Flat")
    more = [2, 9] if ids[0] == 7 else ["c", "0"]
    index.add(table(more, SAMPLE[2:4]))
    assert index.reconstruct(ids + more).tolist() == SAMPLE[:4].tolist()
    with pytest.raises(DuplicateIdError, match=repr(more[0])):
        index.add(table(more[:1], SAMPLE[4:5]))
    others = [100, 101] if ids[0] == 7 else ["x", "y"]
    index.add(table(more, SAMPLE[4:6]), ids=others)  # what is given counts
    assert index.reconstruct(others).tolist() == SAMPLE[4:6].tolist()


def test_an_index_of_str_ids_makes_none_up(tmp_path):
    index = annvq.build(vectors(3, 1), "Flat", ids=["a", "b", "c"])
    with pytest.raises(ParameterError, match="str"):
        index.add(vectors(1, 2))
    with pytest.raises(DuplicateIdError, match="'b'"):
        index.add(vectors(2, 2), ids=["d", "b"])
    assert len(index) == 3


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("kind", ["fp32", "pq4"])
def test_a_change_that_is_interrupted_at_any_point_is_made_or_not(kind, after, tmp_path, monkeypatch):
    """The index that was interrupted goes on with the version that is on disk."""
    from annvq.storage.filesystem import LocalFileSystem

    path, at = tmp_path / "index", {"left": -1}
    built(kind, removed=0).save(path)

    def interrupting(name):
        operation = getattr(LocalFileSystem, name)

        def around(*args):
            at["left"] -= 1
            if at["left"] == 0 and not after:
                raise KeyboardInterrupt
            result = operation(*args)
            if at["left"] == 0:
                raise KeyboardInterrupt
            return result

        return around

    # After open and create it could not be told who closes the descriptor: Python itself loses it so.
    for name in ("write", "replace", "remove", "list", "sync_folder", "map"):
        monkeypatch.setattr(LocalFileSystem, name, interrupting(name))
    ids = ids_of(kind)
    with annvq.open(path, "rw") as index:
        left = list(ids)
        for step in range(1, 60):
            gone = left[-1:]
            at["left"] = step
            interrupted = False
            try:
                index.remove(gone)
                index.compact()
            except KeyboardInterrupt:
                interrupted = True
            at["left"] = -1
            with annvq.open(path) as seen:
                assert len(seen) == len(index)
                assert seen.version == index.version
                hits = seen.search(BASE[:3], 200)
                assert hits.ids.tolist() == index.search(BASE[:3], 200).ids.tolist()
            if len(index) < len(left):
                left.pop()
            assert len(index) == len(left)
            if not interrupted:
                break
        assert not interrupted
        assert step > 10
        index.verify()
