"""Searches with a filter against exact search among the rows that pass, and what they say of themselves."""

import numpy as np
import pyarrow as pa
import pytest

import annvq
from annvq.evaluation import recall
from annvq.evaluation.exact import exact_neighbors
from annvq.index.search.explain import Explanation

N, D, K = 20_000, 24, 10
RNG = np.random.default_rng(11)
CENTRES = RNG.normal(size=(150, D))


def around_centres(n):
    return (CENTRES[RNG.integers(0, len(CENTRES), n)] + 0.7 * RNG.normal(size=(n, D))).astype(np.float32)


BASE, QUERIES = around_centres(N), around_centres(60)
NUMBERS = RNG.permutation(N)
SHARES = [1e-4, 1e-3, 0.01, 0.05, 0.2, 0.6, 1.0]
RECIPES = ["IVF200,PQ12x4fs,RFlat", "IVF200,SQ8", "IVF200,RaBitQ4", "IVF200,Flat", "Flat", "PQ12x8"]


def made(recipe, metric):
    """Return an index of two segments with removed rows; its numbers are those of `NUMBERS`."""
    attributes = pa.table({"number": NUMBERS, "text": [f"{number:05d}" for number in NUMBERS]})
    index = annvq.build(BASE[:15_000], recipe, metric=metric, attributes=attributes[:15_000], seed=0)
    index.add(BASE[15_000:], attributes=attributes[15_000:].select(["number"]))
    index.remove(np.flatnonzero(NUMBERS % 10 == 3))
    return index


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_recall_is_not_lower_than_without_a_filter(recipe, metric):
    index = made(recipe, metric)
    held = np.flatnonzero(NUMBERS % 10 != 3)
    plain = found_of(index, held, metric, nprobe=6)
    for share in SHARES:
        below = round(share * N)
        rows = held[NUMBERS[held] < below]
        given = {"number": {"$lt": below}}
        assert found_of(index, rows, metric, nprobe=6, filter=given) >= plain - 0.02, share
        hits = index.search(QUERIES, K, nprobe=6, filter=given)
        kept = min(K, len(rows))
        assert np.isin(hits.ids[:, :kept], rows).all()
        assert (hits.ids[:, kept:] == -1).all()
        assert (np.diff(hits.scores[:, :kept], axis=1) <= 0).all()
        for other in (rows, np.isin(held, rows), f"number < {below}", index.prepare_filter(given)):
            same(index.search(QUERIES, K, nprobe=6, filter=other), hits)
        same(index.search(QUERIES, K, nprobe=6, filter=given, threads=3), hits)
        one = index.search(QUERIES[0], K, nprobe=6, filter=given, threads=1)
        assert one.ids.tolist() == hits.ids[:1].tolist()


def found_of(index, rows, metric, **options):
    truth = rows[exact_neighbors(BASE[rows], QUERIES, min(K, len(rows)), metric)[0]]
    return recall(index.search(QUERIES, K, **options).ids, truth)


def same(a, b):
    assert a.ids.tolist() == b.ids.tolist()
    assert a.scores.tobytes() == b.scores.tobytes()


@pytest.mark.parametrize("recipe", RECIPES)
def test_few_rows_are_scored_as_a_scan_of_all_lists_scores_them(recipe):
    index = annvq.build(BASE, recipe, metric="l2", attributes=pa.table({"number": NUMBERS}), seed=0)
    rows = np.flatnonzero(NUMBERS < 40)
    hits = index.search(QUERIES, 40, filter={"number": {"$lt": 40}}, explain=True)
    assert hits.explain.strategy == "exact over few rows"
    index.remove(np.flatnonzero(NUMBERS >= 40))  # then only these are left, and no filter is needed
    same(index.search(QUERIES, 40, nprobe=200, rerank=40), hits)
    assert (np.sort(hits.ids, axis=1) == np.sort(rows)).all()


def test_ties_go_to_the_smaller_id():
    index = annvq.build(np.repeat(BASE[:2], 50, axis=0), "IVF2,PQ12x4fs,RFlat", metric="l2")
    ids = np.arange(99, 0, -3)
    hits = index.search(BASE[0], 33, filter=ids)
    assert hits.ids[0].tolist() == [*sorted(ids[ids < 50]), *sorted(ids[ids >= 50])]


def test_what_a_search_says_of_itself():
    index = made("IVF200,PQ12x4fs,RFlat", "l2")
    assert index.search(QUERIES, K).explain is None
    plain = index.search(QUERIES, K, nprobe=6, rerank=50, explain=True)
    same(plain, index.search(QUERIES, K, nprobe=6, rerank=50))
    told = plain.explain
    assert isinstance(told, Explanation)
    assert (told.strategy, told.lists, told.rows_rescored) == ("lists", 6.0, 50.0)
    assert 6 * N / 200 / 3 < told.rows_scanned < 6 * N / 200 * 3
    assert set(told.seconds) == {"filter", "prepare", "scan", "rescore", "sort"}
    assert all(seconds >= 0 for seconds in told.seconds.values())
    half = index.search(QUERIES, K, nprobe=6, filter=f"number < {N // 2}", explain=True)
    assert half.explain.strategy == "mask in lists"
    assert half.explain.lists > 6
    few = index.search(QUERIES, K, filter="number < 100", explain=True)
    assert (few.explain.strategy, few.explain.lists, few.explain.rows_scanned) == ("exact over few rows", 0.0, 0.0)
    assert few.explain.rows_rescored == 90  # those of 100 that are not removed
    none = index.search(QUERIES, K, filter="number < 0", explain=True)
    assert none.explain.rows_rescored == 0
    assert (none.ids == -1).all()


def test_conditions_wherever_a_filter_is_taken(tmp_path):
    index = made("IVF200,SQ8", "l2")
    given, text = {"number": {"$lt": 50}}, "number < 50"
    rows = np.flatnonzero((NUMBERS < 50) & (NUMBERS % 10 != 3))
    assert index.to_arrow(filter=given, vectors=False).read_all()["id"].to_pylist() == rows.tolist()
    assert index.count(filter=text) == index.prepare_filter(given).count == len(rows)
    for one in (given, text):
        found = index.range_search(QUERIES[:2], 1e9, nprobe=200, filter=one)
        assert sorted(found.ids[: len(rows)]) == rows.tolist()
    index.save(tmp_path / "index")
    with annvq.open(tmp_path / "index") as opened:
        same(opened.search(QUERIES, K, filter=given), index.search(QUERIES, K, filter=text))
    assert index.remove(filter=given) == len(rows)
    assert index.count(filter=given) == 0


def test_a_condition_follows_the_index():
    index = made("IVF200,SQ8", "l2")
    prepared = index.prepare_filter("text >= '19990'")
    before = prepared.count
    index.add(BASE[:2], ids=[N, N + 1], attributes={"text": ["19999", "0"], "new": [1, 2]})
    assert N in index.search(BASE[0], K, filter=prepared).ids
    assert prepared.count == before + 1
    assert index.search(BASE[1], 1, filter={"new": 2}).ids.tolist() == [[N + 1]]
    index.compact()
    assert prepared.count == before + 1 == index.count(filter=prepared)
    assert index.search(BASE[1], 1, filter="new == 2 and text == '0'").ids.tolist() == [[N + 1]]
