"""Graphs: the same hits however a search is run, k hits where k rows may be returned, rows that come and go."""

import numpy as np
import pytest

import annvq
from annvq.codebooks.neighbors import NeighborCodebook
from annvq.errors import CorruptIndexError, NonFiniteError, RecipeError
from annvq.evaluation import exact_neighbors, recall
from annvq.index.codes.edges import _candidates
from annvq.index.codes.graph import GraphCodes
from annvq.index.search import view
from annvq.index.search.fused import Fused

RNG = np.random.default_rng(4)
CENTRES = RNG.normal(size=(40, 24))


def clustered(n, seed):
    rng = np.random.default_rng(seed)
    return (CENTRES[rng.integers(0, 40, n)] + 0.7 * rng.normal(size=(n, 24))).astype(np.float32)


BASE, QUERIES = clustered(3000, 1), clustered(50, 2)


@pytest.fixture(scope="module", params=["ip", "l2", "cosine"])
def index(request):
    return annvq.build(BASE, "QG32x12", metric=request.param)


def same(a, b):
    assert a.ids.tolist() == b.ids.tolist()
    assert a.scores.tobytes() == b.scores.tobytes()


def staged(index, monkeypatch, *args, **options):
    with monkeypatch.context() as patch:
        patch.setitem(index.rows.current.view.__dict__, "fused", None)
        patch.setattr(Fused, "of", lambda *given: None)
        return index.search(*args, **options)


def test_one_call_and_stages_give_the_same(index, monkeypatch):
    monkeypatch.setattr(view, "_PER_ROW", np.inf)  # no filter is too narrow for a walk
    assert index.rows.current.view.fused is not None
    masks = [None, RNG.random(3000) < 0.4, RNG.random(3000) < 0.02, np.arange(3000) == 77]
    for mask in masks:
        for k, rerank in ((1, 1), (10, 10), (10, 90), (5, 370), (3000, 10)):
            whole = index.search(QUERIES, k, rerank=rerank, filter=mask)
            same(whole, staged(index, monkeypatch, QUERIES, k, rerank=rerank, filter=mask))
            single = [index.search(query, k, rerank=rerank, filter=mask) for query in QUERIES[:9]]
            assert np.concatenate([one.ids for one in single]).tolist() == whole.ids[:9].tolist()


@pytest.mark.parametrize("recipe", ["QG32", "QG32x12SQ8"])
@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
def test_recall_rises_to_that_of_exact_search(recipe, metric):
    index = annvq.build(BASE, recipe, metric=metric)
    exact, _ = exact_neighbors(BASE, QUERIES, 10, metric=metric)
    found = [recall(index.search(QUERIES, 10, rerank=rerank).ids, exact) for rerank in (10, 20, 40, 80, 3000)]
    assert found[0] < found[2]
    assert found[2] > 0.9
    assert found[3] > 0.95
    assert found[4] >= (1.0 if "SQ8" not in recipe else 0.97) - 0.01


@pytest.mark.parametrize("sigma", [0.0, 0.03, 0.1, 0.3, 1.0])
def test_under_inner_product_vectors_may_differ_in_length(sigma):
    rng = np.random.default_rng(6)
    of_one = rng.normal(size=(6000, 16)) @ rng.normal(size=(16, 48))
    of_one /= np.linalg.norm(of_one, axis=1, keepdims=True)
    vectors = (of_one * np.exp(sigma * rng.normal(size=(6000, 1)))).astype(np.float32)
    queries = (rng.normal(size=(100, 16)) @ rng.normal(size=(16, 48)) + of_one[:100]).astype(np.float32)
    index = annvq.build(vectors, "graph", metric="ip")
    exact, _ = exact_neighbors(vectors, queries, 10, metric="ip")
    assert recall(index.search(queries, 10, rerank=64).ids, exact) > 0.95
    for scale in (1e-12, 1e-3, 1e3):  # the length of a query does not change what it finds
        assert recall(index.search(queries * np.float32(scale), 10, rerank=64).ids, exact) > 0.95


def cone(n, seed, height):
    """Return vectors (n, 48) around one axis, the narrower the higher: texts' embeddings often have such an axis."""
    rng = np.random.default_rng(7)
    basis, axis = rng.normal(size=(16, 48)) / 28, rng.normal(size=48) / 7
    return (np.random.default_rng(seed).normal(size=(n, 16)) @ basis + height * axis).astype(np.float32)


@pytest.mark.parametrize("height", [0, 2, 4])
@pytest.mark.parametrize("zeros", [0, 100])
def test_under_cosine_vectors_may_lie_in_a_narrow_cone(height, zeros):
    vectors, queries = cone(6000, 1, height), cone(100, 2, height)
    vectors[:zeros] = 0
    index = annvq.build(vectors, "QG32x24", metric="cosine", zero="score-0")
    exact, _ = exact_neighbors(vectors[zeros:], queries, 10, metric="cosine")
    assert recall(index.search(queries, 10, rerank=64).ids, exact + zeros) > 0.95


@pytest.mark.parametrize("height", [0, 2, 4])
@pytest.mark.parametrize(("length", "zeros"), [(1, 0), (300, 100)])
def test_vectors_of_equal_length_may_lie_in_a_narrow_cone(height, length, zeros, monkeypatch):
    """The length of a query does not change what it finds, and scores are those of the query as it is."""
    vectors, queries = cone(6000, 1, height), cone(100, 2, height)
    vectors *= length / np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[:zeros] = 0
    index = annvq.build(vectors[:4000], "QG32x24", metric="ip")
    index.add(vectors[4000:])
    kept = index.reconstruct(np.arange(6000))
    exact, _ = exact_neighbors(kept, queries, 10, metric="ip")
    for scale in (1e-12, 0.7, 1, 1e3):
        given = queries * np.float32(scale)
        hits = index.search(given, 10, rerank=64)
        assert recall(hits.ids, exact) > 0.95
        scores = np.einsum("qkd,qd->qk", kept[hits.ids].astype(np.float64), given)
        np.testing.assert_allclose(hits.scores, scores, rtol=1e-4, atol=1e-6 * scale * length)
        index.compact()
        same(index.search(given, 10, rerank=64), staged(index, monkeypatch, given, 10, rerank=64))


def test_every_vector_is_found_by_its_direction_however_short_it_is():
    vectors = (BASE * np.exp(RNG.normal(size=(3000, 1)))).astype(np.float32)
    vectors[::100] = 0
    index = annvq.build(vectors, "QG32x12", metric="ip")
    ids = index.search(vectors, 3000, rerank=3000).ids
    assert (np.sort(ids, axis=1) == np.arange(3000)).all()


def test_candidates_are_the_nearest_also_if_clusters_are_far_apart():
    rng = np.random.default_rng(7)
    centres = 40 * rng.normal(size=(3, 32))
    vectors = (centres[rng.integers(0, 3, 6000)] + rng.normal(size=(6000, 32))).astype(np.float32)
    candidates = _candidates(vectors, np.empty(0, np.float32), 1)[0]
    exact, _ = exact_neighbors(vectors, vectors[:200], 33, metric="l2")
    assert np.mean([np.isin(exact[v, 1:], candidates[v]).mean() for v in range(200)]) > 0.99


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 0.001])
def test_filters_find_k_of_the_rows_that_pass(index, share, monkeypatch):
    monkeypatch.setattr(view, "_PER_ROW", np.inf)
    mask = np.random.default_rng(5).random(3000) < share
    passing = np.flatnonzero(mask)
    hits = index.search(QUERIES, 10, filter=mask)
    exact, _ = exact_neighbors(BASE[passing], QUERIES, min(10, len(passing)), metric=index.metric)
    assert (hits.ids >= 0).sum(axis=1).tolist() == [min(10, len(passing))] * len(QUERIES)
    assert recall(hits.ids[:, : exact.shape[1]], passing[exact]) > 0.9


def test_rows_that_pass_may_all_be_far_away(index, monkeypatch):
    """The vertices near the query do not pass: the walk has to go on until it finds some that do."""
    monkeypatch.setattr(view, "_PER_ROW", np.inf)
    for query in QUERIES[:10]:
        order = exact_neighbors(BASE, query[None], 3000, metric=index.metric)[0][0]
        hits = index.search(query, 10, filter=np.sort(order[-1500:]))
        assert set(hits.ids[0].tolist()) <= set(order[-1500:].tolist())
        assert recall(hits.ids, order[1500:1510][None]) > 0.5


def test_removed_vertices_still_lead_to_others(index):
    changed = annvq.build(BASE, "QG32x12", metric=index.metric)
    gone = np.random.default_rng(6).permutation(3000)[:2000]
    changed.remove(gone)
    left = np.setdiff1d(np.arange(3000), gone)
    exact, _ = exact_neighbors(BASE[left], QUERIES, 10, metric=index.metric)
    hits = changed.search(QUERIES, 10)
    assert not np.isin(hits.ids, gone).any()
    assert recall(hits.ids, left[exact]) > 0.9
    changed.compact()
    assert changed.stats()["deleted"] == 0
    assert recall(changed.search(QUERIES, 10).ids, left[exact]) > 0.9
    again = annvq.build(BASE[left], index.recipe, ids=left, metric=index.metric, train=BASE)
    same(again.search(QUERIES, 10), changed.search(QUERIES, 10))


def test_the_graph_does_not_depend_on_threads():
    one, other = (annvq.build(BASE, "QG32x12", metric="l2", threads=threads) for threads in (1, 3))
    for a, b in zip(one.rows.current.snapshot.segments, other.rows.current.snapshot.segments, strict=True):
        assert all(a.arrays[name].tobytes() == b.arrays[name].tobytes() for name in a.arrays)
    same(one.search(QUERIES, 10, threads=1), other.search(QUERIES, 10, threads=3))


@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
@pytest.mark.parametrize("n", [1, 2, 31, 32, 33, 65])
@pytest.mark.parametrize("rerank", [1, 1000])
def test_few_rows(metric, n, rerank, tmp_path):
    rows = BASE[:n]
    index = annvq.build(rows, "QG32", metric=metric)
    for k in (1, n, n + 5):
        hits = index.search(QUERIES, k, rerank=max(rerank, k))
        assert (hits.ids >= 0).sum(axis=1).tolist() == [min(k, n)] * len(QUERIES)
    exact, _ = exact_neighbors(rows, QUERIES, 1, metric=metric)
    assert recall(index.search(QUERIES, 1, rerank=1000).ids, exact) > 0.9
    index.save(tmp_path / "index")
    with annvq.open(tmp_path / "index", verify=True) as opened:
        same(index.search(QUERIES, n), opened.search(QUERIES, n))
    index.remove(np.arange(n))
    assert (index.search(QUERIES, 3).ids == -1).all()
    index.compact()
    index.add(rows)
    assert len(index) == n


def test_no_rows():
    index = annvq.build(BASE[:0], "QG32", train=BASE)
    assert (index.search(QUERIES, 3).ids == -1).all()
    index.add(BASE[:40])
    assert (index.search(BASE[:40], 1, rerank=40).ids[:, 0] >= 0).all()


@pytest.mark.parametrize("copies", [20, 60, 3000])
def test_equal_vectors_are_all_reached(copies):
    rows = np.repeat(BASE[: 3000 // copies], copies, axis=0)
    index = annvq.build(rows, "QG32", metric="l2")
    hits = index.search(rows[::copies], 20, rerank=5 * copies)
    assert (hits.scores == hits.scores[:, :1]).all()
    assert (hits.ids // copies == np.arange(len(hits.ids))[:, None]).all()


def test_sections_are_checked(tmp_path):
    from small_indexes import Parts

    index = annvq.build(BASE[:200], "QG32x4", metric="l2")
    index.save(tmp_path / "index")
    codes = index.rows.current.trained.codes
    name = f"array.{codes.section}"
    whole = Parts(tmp_path / "index").segments[0][name]
    damages = {
        "rows of a graph of 200": whole[:200],
        "expected uint8": whole[:, :-1],
        "are missing|expected uint8|rows of a graph": whole.reshape(-1),
    }
    for said, array in damages.items():
        parts = Parts(tmp_path / "index")
        parts.segments[0][name] = array
        parts.write(tmp_path / "other")
        with pytest.raises(CorruptIndexError, match=said):
            annvq.open(tmp_path / "other")
    ids = 24 * 2 + 16  # bytes of the vector, with its padding
    neighbor, number = np.array([200 + 9], "<u4"), np.array([np.nan], "<f4")
    damaged = ((ids, neighbor, "not there"), (ids + 128, number, "NaN"), (2, number.astype("<f2"), "NaN"))
    for at, value, said in damaged:
        array = whole.copy()
        array[7, at : at + value.nbytes] = value.view(np.uint8)
        parts = Parts(tmp_path / "index")
        parts.segments[0][name] = array
        parts.write(tmp_path / "other")
        with annvq.open(tmp_path / "other") as opened:
            assert (opened.search(QUERIES, 10, rerank=20).ids >= -1).all()  # whatever it finds, it stays in bounds
            with pytest.raises(CorruptIndexError, match=said):
                opened.verify()


@pytest.mark.parametrize("length", ["1", 1, 0.0, -1.0, np.nan, 1e30, True])
def test_the_length_of_queries_is_checked(length):
    codebook = annvq.build(BASE / np.linalg.norm(BASE, axis=1, keepdims=True), "QG32x4").rows.current.trained.codebook
    assert codebook.length == pytest.approx(1)
    assert NeighborCodebook.from_arrays(codebook.config(), codebook.arrays()).length == codebook.length
    with pytest.raises(CorruptIndexError, match="long"):
        NeighborCodebook.from_arrays({**codebook.config(), "length": length}, codebook.arrays())


def test_what_a_graph_cannot_be_made_of():
    with pytest.raises(RecipeError, match="no lists"):
        annvq.Recipe.from_toml('nlist = 4\n[codebook]\nkind = "graph"')
    with pytest.raises(RecipeError, match="32 neighbours"):
        annvq.build(BASE, "QG48")
    with pytest.raises(NonFiniteError, match="float16"):
        annvq.build(BASE * np.float32(1e6), "QG32")


def test_a_graph_over_the_first_dimensions_is_refined_by_all():
    recipe = annvq.Recipe.from_toml('rotation = "truncate"\ndims = 12\nrefine = "fp32"\n[codebook]\nkind = "graph"')
    index = annvq.build(BASE, recipe, metric="l2")
    exact, _ = exact_neighbors(BASE, QUERIES, 10, metric="l2")
    assert recall(index.search(QUERIES, 10, rerank=300).ids, exact) > 0.8
    assert isinstance(index.rows.current.trained.codes, GraphCodes)
    np.testing.assert_array_equal(index.reconstruct([5]), BASE[5:6])


def test_it_says_what_it_did(index):
    told = index.search(QUERIES, 10, explain=True).explain
    assert told.strategy == "graph"
    assert told.lists == 0
    assert 40 <= told.rows_rescored < 200
    assert told.rows_scanned == 32 * told.rows_rescored
    told = index.search(QUERIES, 10, filter=np.arange(2900), explain=True).explain
    assert told.strategy == "mask in graph"
    assert index.search(QUERIES, 10, filter=[3, 5], explain=True).explain.strategy == "exact over few rows"
