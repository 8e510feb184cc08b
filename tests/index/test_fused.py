"""The one-call search and the search stage by stage give the same, to the bit."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest

import annvq
from annvq.errors import AnnvqError, DtypeError, NonFiniteError, ParameterError, ShapeError, ZeroVectorError
from annvq.index.recipe import CodebookSpec, Recipe
from annvq.index.search import view
from annvq.index.search.fused import Fused
from annvq.vectors import as_matrix

RNG = np.random.default_rng(2)
BASE = (RNG.normal(size=(2500, 40)) * np.linspace(2, 0.1, 40)).astype(np.float32)
QUERIES = (RNG.normal(size=(70, 40)) * np.linspace(2, 0.1, 40)).astype(np.float32)


@pytest.fixture(autouse=True)
def lists_are_scanned():
    """Let rows that pass a filter never be so few that each is scored, which needs no scan."""
    with pytest.MonkeyPatch.context() as patch:  # of its own, for tests undo theirs
        patch.setattr(view, "_PER_ROW", np.inf)
        yield


def watched(index: annvq.Index, monkeypatch) -> list[tuple[bool, bool]]:
    """Return a list that gets, for every search in one call, whether its queries are as given, and what it returns."""
    calls, make = [], Fused.of

    def of(trained, snapshot, widening=1.0):
        made = make(trained, snapshot, widening)
        assert made is not None

        def spy(*arguments):
            calls.append((bool(arguments[-3] > 0), made.search.kernel(*arguments)))
            return calls[-1][1]

        return replace(made, search=replace(made.search, kernel=spy))

    monkeypatch.setattr(Fused, "of", of)
    whole = index.rows.current.view
    monkeypatch.setitem(whole.__dict__, "fused", of(whole.trained, whole.snapshot))
    return calls


def both(index: annvq.Index, monkeypatch, *args, **options) -> tuple[annvq.hits.Hits, annvq.hits.Hits]:
    calls = watched(index, monkeypatch)
    together = index.search(*args, **options)
    assert calls
    monkeypatch.undo()
    staged = in_stages(index, monkeypatch, *args, **options)
    monkeypatch.undo()
    return together, staged


def in_stages(index: annvq.Index, monkeypatch, *args, **options) -> annvq.hits.Hits:
    monkeypatch.setitem(index.rows.current.view.__dict__, "fused", None)
    monkeypatch.setattr(Fused, "of", lambda *given: None)
    return index.search(*args, **options)


def same(found: annvq.hits.Hits, expected: annvq.hits.Hits) -> bool:
    return found.ids.tolist() == expected.ids.tolist() and found.scores.tobytes() == expected.scores.tobytes()


@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
@pytest.mark.parametrize("refine", [None, "sq8", "fp16", "lvq8", "lvq8x8"])
@pytest.mark.parametrize(("rotation", "residual", "M"), [(None, True, 20), ("pca", True, 12), ("random", False, 7)])
def test_same_hits_whatever_the_recipe(metric, refine, rotation, residual, M, monkeypatch):
    spec = CodebookSpec(kind="pq", M=M, nbits=4, residual=residual)
    dims = 24 if rotation == "pca" else None
    index = annvq.build(
        BASE, Recipe(rotation=rotation, dims=dims, nlist=40, codebook=spec, refine=refine), metric=metric
    )
    for queries in (QUERIES, QUERIES[:1], QUERIES[3:8]):
        for options in ({"nprobe": 1}, {"nprobe": 7, "rerank": 33}, {"nprobe": 40, "rerank": 3000, "threads": 2}):
            for k in (10, 2500):
                together, staged = both(index, monkeypatch, queries, k, **options)
                assert same(together, staged)


@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
@pytest.mark.parametrize("refine", [None, "sq8"])
@pytest.mark.parametrize("nbits", [1, 4])
def test_same_hits_of_rabitq_codes(metric, refine, nbits, monkeypatch):
    spec = CodebookSpec(kind="rabitq", nbits=nbits, residual=True)
    index = annvq.build(BASE, Recipe(rotation="random", nlist=40, codebook=spec, refine=refine), metric=metric)
    index.remove(np.arange(0, 2500, 7))
    for queries in (QUERIES, QUERIES[:1], QUERIES[3:8]):
        for options in ({"nprobe": 1}, {"nprobe": 7, "rerank": 33}, {"nprobe": 40, "threads": 2}):
            for k in (10, 2100):
                assert same(*both(index, monkeypatch, queries, k, **options))
    found = both(index, monkeypatch, QUERIES, 10, nprobe=9, filter=np.arange(len(index)) % 5 == 1)
    assert same(*found)


def test_same_hits_with_filters_and_removed_rows(monkeypatch):
    index = annvq.build(BASE, "fast", ids=[f"x{i}" for i in range(len(BASE))])
    index.remove([f"x{i}" for i in range(0, 2500, 3)])
    for rows in (np.arange(2500) % 7 == 0, np.arange(2500) == 5):
        together, staged = both(
            index, monkeypatch, QUERIES, 20, filter=[f"x{i}" for i in np.flatnonzero(rows) if i % 3]
        )
        assert same(together, staged)


QUERY = QUERIES[0]


@pytest.mark.parametrize("ids", [None, [f"x{i}" for i in range(len(BASE))]])
@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
def test_one_query_in_any_form_gives_what_a_batch_gives(metric, ids):
    index = annvq.build(BASE, "fast", metric=metric, ids=ids)
    expected = index.search(QUERIES[:2], 7, nprobe=20)
    expected = annvq.hits.Hits(expected.ids[:1], expected.scores[:1])
    fixed = QUERY.copy()
    fixed.flags.writeable = False
    wide = np.repeat(QUERY, 2)
    forms = [QUERY, QUERIES[:1], fixed, fixed[None], wide[::2], QUERY.tolist(), QUERY.astype(np.float64)]
    forms += [QUERY.astype(">f4"), np.frombuffer(b"x" + QUERY.tobytes(), np.float32, offset=1)]
    for form in forms:
        for options in ({"nprobe": 20}, {"nprobe": np.int64(20)}, {"nprobe": 20, "threads": 1}):
            found = index.search(form, 7, **options)
            assert same(found, expected)
            assert found.ids.dtype == expected.ids.dtype
            assert found.ids.shape == found.scores.shape == (1, 7)


def memmap_of(query, path):
    held = np.memmap(path, np.float32, "w+", shape=(3, len(query)))
    held[:] = query
    return held


FORMS = {
    "array": lambda query, path: query,
    "row": lambda query, path: query[None],
    "unpickled": lambda query, path: pickle.loads(pickle.dumps(query)),
    "row of a memmap": lambda query, path: memmap_of(query, path)[1],
    "memmap": lambda query, path: memmap_of(query, path)[:1],
    "read-only memmap": lambda query, path: np.memmap(memmap_of(query, path).filename, np.float32, "r")[: len(query)],
    "float64": lambda query, path: query.astype(np.float64),
    "float16": lambda query, path: query.astype(np.float16),
    "int8": lambda query, path: (20 * query).astype(np.int8),
    "uint8": lambda query, path: (20 * abs(query)).astype(np.uint8)[None],
    "strided": lambda query, path: np.repeat(query.astype(np.float64), 2)[::2],
    "list": lambda query, path: query.tolist(),
    "tuple": lambda query, path: tuple(query.tolist()),
    "list of a list": lambda query, path: [query.tolist()],
    "list of an array": lambda query, path: [query.astype(np.float64)],
    "list of NumPy's numbers": lambda query, path: list(query),
    "list of integers": lambda query, path: (20 * query).astype(int).tolist(),
    "large integers": lambda query, path: [2**24 + 1 + i for i in range(len(query))],
}


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
@pytest.mark.parametrize("form", FORMS)
def test_one_query_in_one_call_whatever_holds_it(form, metric, filtered, monkeypatch, tmp_path, fast_indexes):
    index = fast_indexes[metric]
    query = FORMS[form](QUERY, tmp_path / "queries")
    allowed = np.arange(len(BASE)) % 3 == 0 if filtered else None
    expected = in_stages(index, monkeypatch, query, 7, filter=allowed)
    monkeypatch.undo()
    calls = watched(index, monkeypatch)
    given = None if allowed is None else index.prepare_filter(allowed)
    assert same(index.search(query, 7, filter=given, threads=1), expected)
    assert calls == [(True, True)]  # as it was given


@pytest.fixture(scope="module")
def fast_indexes():
    return {metric: annvq.build(BASE, "fast", metric=metric) for metric in ("ip", "l2", "cosine")}


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ([1.0] * 39, ShapeError), ([[1.0] * 40, [1.0] * 39], ShapeError), ([1.0] * 39 + [[1.0]], ShapeError),
        ([1.0] * 39 + ["1"], DtypeError), (["1"] * 40, DtypeError), ([True] * 40, DtypeError),
        ([1.0] * 39 + [None], DtypeError), ([1.0] * 39 + [1j], DtypeError), ([2**70] * 40, DtypeError),
        ([[[1.0] * 40]], ShapeError), (np.ones(40, int), DtypeError), (np.ones(40, bool), DtypeError),
        (np.ones(40, np.complex64), DtypeError), (np.ones((40, 1)), ShapeError), (np.ones((1, 1, 40)), ShapeError),
        (np.full(40, 1e39), NonFiniteError), ([1e39] * 40, NonFiniteError), ([np.nan] * 40, NonFiniteError),
        ([float("inf")] + [0.0] * 39, NonFiniteError), (np.ma.array(np.ones(40), mask=[1] + [0] * 39), DtypeError),
        (np.array(["1"] * 40), DtypeError), (np.ones(40, object), DtypeError), ("1" * 40, DtypeError),
    ],
)  # fmt: skip
def test_what_the_door_refuses_is_refused_by_the_one_call_too(query, error, fast_indexes):
    index = fast_indexes["l2"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(error) as found:
            index.search(query)
    with pytest.raises(error) as expected:
        as_matrix(query, dim=40, name="queries")
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
def test_one_query_that_cannot_be_searched_for_is_refused_as_in_a_batch(metric):
    index = annvq.build(BASE, "fast", metric=metric)
    for bad in (np.nan, np.inf, -np.inf):
        for place in (0, 17, 39):
            query = QUERY.copy()
            query[place] = bad
            with pytest.raises(NonFiniteError, match="queries: row 0 holds NaN or infinity"):
                index.search(query)
    if metric == "cosine":
        with pytest.raises(ZeroVectorError, match="queries: row 0 is zero"):
            index.search(np.zeros(40, np.float32))
        assert same(index.search(QUERY * np.float32(2.0**60)), index.search(QUERY))
    else:
        with pytest.raises(NonFiniteError, match="long"):
            index.search(np.full(40, 2.0**62, np.float32))
    for shape in ((41,), (40, 1), (1, 1, 40), (39,)):
        with pytest.raises(ShapeError):
            index.search(np.ones(shape, np.float32))


def test_one_query_checks_its_numbers():
    index = annvq.build(BASE, "fast")
    for options in (
        {"k": 0}, {"k": 2.0}, {"k": "3"}, {"k": True}, {"nprobe": 0}, {"nprobe": -1}, {"nprobe": 1.5}, {"rerank": 0},
        {"rerank": "many"}, {"threads": 0}, {"threads": "all"}, {"threads": -1},
    ):  # fmt: skip
        with pytest.raises(ParameterError):
            index.search(QUERY, **options)
    beyond = index.search(QUERY, 3000)
    assert beyond.ids.shape == (1, 3000)
    assert (beyond.ids[0, 2500:] == -1).all()
    assert same(index.search(QUERY, nprobe=10**9), index.search(QUERY, nprobe=100))
    index.remove(np.arange(2498))
    assert index.search(QUERY, 3).ids[0].tolist()[2] == -1
    assert sorted(index.search(QUERY, 2).ids[0].tolist()) == [2498, 2499]
    index.close()
    with pytest.raises(AnnvqError, match="closed"):
        index.search(QUERY)


@pytest.mark.parametrize("recipe", ["fast", "graph"])
def test_numbers_that_no_float_holds_mean_all(recipe):
    index = annvq.build(BASE, recipe, metric="l2")
    few, many = (index.search(some, 5, nprobe=10**400, rerank=10**400) for some in (QUERIES[:3], QUERIES))
    assert (
        few.ids.tolist() == many.ids[:3].tolist() == index.search(QUERIES[:3], 5, nprobe=2500, rerank=2500).ids.tolist()
    )


@pytest.mark.parametrize("threads", [None, 1, 2, 7])
def test_threads_that_a_query_would_not_share_cost_it_nothing(threads, monkeypatch):
    index = annvq.build(BASE, "fast", metric="l2")
    expected = index.search(QUERY, 7, nprobe=20)
    calls = watched(index, monkeypatch)
    assert same(index.search(QUERY, 7, nprobe=20, threads=threads), expected)
    assert [as_given for as_given, _ in calls] == [True]


def test_a_query_of_many_rows_is_shared_among_threads(monkeypatch):
    monkeypatch.setattr("annvq.index.search.fused.SPLIT_ROWS", 100)
    index = annvq.build(BASE, "fast", metric="l2")
    expected = index.search(QUERY, 7, nprobe=20, threads=1)
    calls = watched(index, monkeypatch)
    assert same(index.search(QUERY, 7, nprobe=20, threads=2), expected)
    assert not calls


@pytest.mark.parametrize("threads", [None, 1, 2])
@pytest.mark.parametrize("nq", [1, 2, 8, 9, 64, 65])
def test_few_queries_take_one_call_and_give_what_the_stages_give(nq, threads, monkeypatch):
    index = annvq.build(BASE, "fast", metric="cosine")
    index.remove(np.arange(0, 2500, 7))
    calls = watched(index, monkeypatch)
    found = index.search(QUERIES[:nq], 7, nprobe=9, threads=threads)
    assert (calls == [(True, True)]) == (nq <= (64 if threads == 1 else 8))
    assert same(found, in_stages(index, monkeypatch, QUERIES[:nq], 7, nprobe=9))


def test_few_queries_of_many_rows_are_shared_among_threads(monkeypatch):
    monkeypatch.setattr("annvq.index.search.fused.SPLIT_ROWS", 3000)
    index = annvq.build(BASE, Recipe(nlist=40, codebook=CodebookSpec(kind="pq", M=20, nbits=4)))
    calls = watched(index, monkeypatch)
    for nq, as_given in ((1, True), (2, True), (3, False)):
        calls.clear()
        index.search(QUERIES[:nq], 7, nprobe=20, threads=2)
        assert calls[0][0] == as_given


def test_the_pools_of_few_queries_are_not_larger_than_those_of_many(monkeypatch):
    monkeypatch.setattr("annvq.index.search.fused._MOST_POOLED", 1000)
    index = annvq.build(BASE, "fast")
    calls = watched(index, monkeypatch)
    expected = index.search(QUERIES[:8], 7, rerank=50, threads=1)
    assert [as_given for as_given, _ in calls] == [False]
    monkeypatch.undo()
    assert same(index.search(QUERIES[:8], 7, rerank=50, threads=1), expected)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_what_is_wrong_with_few_queries_is_said(metric):
    index = annvq.build(BASE, "fast", metric=metric)
    queries = QUERIES[:5].copy()
    queries[3, 2] = np.nan
    with pytest.raises(NonFiniteError, match="row 3"):
        index.search(queries)
    queries[3] = 0
    if metric == "cosine":
        with pytest.raises(ZeroVectorError, match="row 3"):
            index.search(queries)
    else:
        assert index.search(queries).ids.shape == (5, 10)
    with pytest.raises(ShapeError):
        index.search(queries[:, :39])
    assert index.search(queries[:0]).ids.shape == (0, 10)
