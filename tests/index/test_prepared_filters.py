"""Filters that are made ready once answer as the filters do that they were made of."""

import copy
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import annvq
from annvq.errors import FilterError, StateError
from annvq.index.filters import given as filters
from annvq.index.search.prepared import PreparedFilter
from annvq.multivector import MultiVectorIndex

N, D = 600, 16
RNG = np.random.default_rng(5)
BASE = RNG.normal(size=(N, D)).astype(np.float32)
QUERIES = RNG.normal(size=(6, D)).astype(np.float32)
YEARS = RNG.integers(0, 10, N)
RECIPES = ["IVF20,PQ8x4fs,Refine(SQ8)", "IVF20,SQ8", "Flat"]


def same(a, b):
    assert a.ids.tolist() == b.ids.tolist()
    assert a.scores.tobytes() == b.scores.tobytes()


def made(recipe=RECIPES[0], **options):
    return annvq.build(BASE, recipe, attributes=pa.table({"year": YEARS}), seed=1, **options)


def kinds(ids, years):
    """Return filters of every kind that let the same rows pass."""
    return {
        "ids": ids[years > 4],
        "mask": years > 4,
        "expression": pc.field("year") > 4,
        "dict": {"year": {"$gt": 4}},
        "text": "year > 4",
    }


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("strings", [False, True])
def test_same_hits_as_unprepared(recipe, strings):
    ids = np.array([f"x{i}" for i in range(N)]) if strings else np.arange(N) * 3
    index = made(recipe, ids=ids)
    for given in kinds(ids, YEARS).values():
        prepared = index.prepare_filter(given)
        assert isinstance(prepared, PreparedFilter)
        assert index.prepare_filter(prepared) is prepared
        assert prepared.count == np.count_nonzero(YEARS > 4)
        assert str(prepared.count) in repr(prepared)
        for queries in (QUERIES, QUERIES[0]):
            for k in (5, N):
                same(index.search(queries, k, filter=prepared), index.search(queries, k, filter=given))
            found, expected = (index.range_search(queries, -1.0, filter=one) for one in (prepared, given))
            assert found.ids.tolist() == expected.ids.tolist()
            assert found.offsets.tolist() == expected.offsets.tolist()


def test_it_is_applied_once(monkeypatch):
    index = made()
    prepared = index.prepare_filter(pc.field("year") > 4)
    calls = []
    by_expression = filters._by_expression
    monkeypatch.setattr(filters, "_by_expression", lambda *given: calls.append(given) or by_expression(*given))
    for _ in range(3):
        index.search(QUERIES[0], filter=prepared)
    assert not calls
    index.add(BASE[:1], attributes=pa.table({"year": [5]}))
    for _ in range(3):
        index.search(QUERIES[0], filter=prepared)
    assert len(calls) == len(index.rows.current.snapshot.segments)


def test_ids_and_expressions_go_with_the_index():
    index = made()
    ids, years = np.arange(N), YEARS
    prepared = {name: index.prepare_filter(given) for name, given in kinds(ids, years).items() if name != "mask"}
    index.remove(np.arange(0, N, 2))
    index.add(BASE[::2] + 1, ids=np.arange(0, N, 2), attributes=pa.table({"year": np.full(N // 2, 7)}))
    for _ in range(2):
        same(index.search(QUERIES, filter=prepared["ids"]), index.search(QUERIES, filter=ids[years > 4]))
        same(index.search(QUERIES, filter=prepared["expression"]), index.search(QUERIES, filter=pc.field("year") > 4))
        index.compact()
    assert prepared["expression"].count == N // 2 + np.count_nonzero(years[1::2] > 4)


def test_a_mask_holds_for_the_rows_that_it_was_made_for(tmp_path):
    made().save(tmp_path / "index")
    mask = YEARS > 4
    with annvq.open(tmp_path / "index", "rw") as index:
        prepared = index.prepare_filter(mask)
        expected = index.search(QUERIES, filter=mask)
        mask[:] = True  # what was prepared does not change
        index.tune(QUERIES, 5)
        index.remove([3])
        with pytest.raises(FilterError, match="prepared for other rows"):
            index.search(QUERIES, filter=prepared)
        index.add(BASE[3:4], ids=[N], attributes=pa.table({"year": [0]}))  # as many as before, but not the same
        with pytest.raises(FilterError, match="prepared for other rows"):
            index.range_search(QUERIES, 0.0, filter=prepared)
        after = index.prepare_filter(np.delete(np.append(YEARS > 4, False), 3))
        before = index.search(QUERIES, filter=after)
        index.compact()  # the same rows in another place
        same(index.search(QUERIES, filter=after), before)
    with annvq.open(tmp_path / "index") as again:
        same(again.search(QUERIES, filter=after), before)
    assert expected.ids.shape == before.ids.shape


def test_what_is_no_filter_is_refused_at_once():
    index = made()
    for given in (np.ones(3, bool), pc.field("yaer") > 4, [1.5], None, ["a"], (YEARS > 4).astype(int)):
        with pytest.raises(FilterError):
            index.prepare_filter(given)
    index.close()
    with pytest.raises(StateError):
        index.prepare_filter([1])


def test_another_index_may_have_other_ids(tmp_path):
    annvq.build(BASE, "Flat").save(tmp_path / "index")
    reader = annvq.open(tmp_path / "index")
    prepared = reader.prepare_filter([1, 2])
    annvq.build(BASE, "Flat", ids=[str(i) for i in range(len(BASE))]).save(tmp_path / "index")
    assert reader.refresh()
    with pytest.raises(FilterError, match="int ids, but those of the index are str"):
        reader.search(QUERIES, filter=prepared)


def test_they_take_no_rows_to_other_processes():
    prepared = made().prepare_filter([1, 2])
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(StateError, match="prepare it there"):
            copied(prepared)


def test_indexes_of_documents_take_them():
    documents = list(RNG.normal(size=(80, 4, 8)).astype(np.float32))
    index = MultiVectorIndex.build(documents, "muvera", ids=[f"d{i}" for i in range(80)])
    mask = np.arange(80) % 3 == 0
    for given in (mask, [f"d{i}" for i in range(0, 80, 3)]):
        prepared = index.prepare_filter(given)
        same(index.search(documents[:3], 5, filter=prepared), index.search(documents[:3], 5, filter=given))
    index.remove(["d1"])
    assert len(index.find_candidates(documents[:1], filter=prepared)[0]) == 27
