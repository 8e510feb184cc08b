"""JPQ, RepCONC and Distill-VQ: better than their start on queries never seen, and where they are given nonsense."""

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

import annvq
from annvq.errors import AnnvqError, NonFiniteError, ParameterError, ShapeError, StorageError
from annvq.learn import JPQ, DistillVQ, RepCONC

RECIPE = "PQ4"


def shared(found, wanted):
    """Return the share of wanted documents that were found."""
    return np.mean([np.isin(one, other).mean() for one, other in zip(wanted, found, strict=True)])


@pytest.mark.parametrize("method", [JPQ, RepCONC, DistillVQ])
def test_learning_beats_the_start_on_queries_never_seen(problem, method):
    documents, queries, pairs = problem
    held = pairs[:, 0] >= 450
    how = method(recipe="OPQ4,PQ4", epochs=5, batch=32, rates={"codebook": 2e-3, "adapter": 2e-3})
    labels = {} if method is DistillVQ else {"relevance": pairs[~held]}
    learned = how.fit(documents, queries[:450], **labels)
    wanted = pairs[held, 1][:, None]
    if method is DistillVQ:
        wanted = annvq.build(documents, "flat").search(queries[450:], 10).ids
    before = shared(learned.start.search(queries[450:], 10).ids, wanted)
    after = shared(learned.index.search(learned.queries(queries[450:]), 10).ids, wanted)
    assert after > before + 0.01


def test_without_labels_the_teachers_best_are_taken(problem):
    documents, queries, _ = problem
    how = JPQ(recipe=RECIPE, epochs=3, rates={"codebook": 1e-3, "adapter": 1e-3})
    (history,) = how.fit(documents, queries).history
    assert max(entry["recall@10"] for entry in history) > history[0]["recall@10"]


def test_ids_are_those_given_and_the_index_is_an_ordinary_one(problem, tmp_path):
    documents, queries, _pairs = problem
    ids = [f"d{row}" for row in range(len(documents))]
    how = DistillVQ(recipe="IVF8,PQ4", most_steps=10)
    learned = how.fit(documents, queries, ids=ids, out=tmp_path / "out")
    opened = annvq.open(tmp_path / "out" / "index", mode="rw")
    hits = learned.index.search(queries[:5], 3)
    assert opened.search(queries[:5], 3).ids.tolist() == hits.ids.tolist()
    assert set(hits.ids.ravel()) <= set(ids)
    opened.add(documents[:2] * 0.5, ids=["new", "newer"])
    opened.remove(["d0"])
    opened.verify()
    about = json.loads((tmp_path / "out" / "history.json").read_text())
    assert about["method"] == "distill-vq"
    assert 0 < about["health"]["after"]["utilization"] <= 1
    assert len(about["stages"][0]) == len(learned.history[0])


def test_an_adapter_is_written_beside_the_index(problem, tmp_path):
    documents, queries, pairs = problem
    how = JPQ(recipe=RECIPE, most_steps=20, rates={"adapter": 1e-2})
    learned = how.fit(documents, queries, relevance=pairs, out=tmp_path)
    matrix = np.load(tmp_path / "adapter.npy", allow_pickle=False)
    np.testing.assert_allclose(learned.queries(queries), queries @ matrix.T, atol=1e-5)


def test_the_same_ranking_in_faiss(problem):
    faiss = pytest.importorskip("faiss")
    from annvq.interop.faiss import to_faiss

    documents, queries, _ = problem
    learned = DistillVQ(recipe="OPQ4,IVF8,PQ4", most_steps=10).fit(documents, queries)
    asked = learned.queries(queries[:50])
    hits = learned.index.search(asked, 5, nprobe=8)
    made = to_faiss(learned.index)
    lists = faiss.extract_index_ivf(made)
    lists.nprobe = 8
    scores, _ = made.search(asked, 5)
    np.testing.assert_allclose(scores, hits.scores, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(relevance=[[0, 5000]]), ParameterError, "names document 5000, there are 1000"),
        (dict(relevance=[[-1, 0]]), ParameterError, "names query -1"),
        (dict(relevance=[0, 1, 2]), ShapeError, "pairs"),
        (dict(relevance=np.array([[0.5, 1.0]])), AnnvqError, "whole numbers"),
        (dict(queries=np.zeros((5, 31), np.float32)), ShapeError, "31"),
        (dict(queries=np.ones((5, 32), np.float32)), ParameterError, "at least 40"),
        (dict(queries=["a text"]), ParameterError, "give an encoder"),
        (dict(documents=np.full((1000, 32), np.nan, np.float32)), NonFiniteError, "NaN"),
        (dict(encoder=5), ParameterError, "SentenceTransformer, its name or folder"),
    ],
)
def test_bad_input_is_refused(problem, change, error, message):
    documents, queries, pairs = problem
    given = dict(documents=documents, queries=queries, relevance=pairs) | change
    if "relevance" not in change:
        given["relevance"] = None
    with pytest.raises(error, match=message):
        JPQ(recipe=RECIPE, most_steps=1).fit(given.pop("documents"), given.pop("queries"), **given)


@pytest.mark.parametrize("method", [JPQ, RepCONC, DistillVQ])
def test_shipped_recipes_take_dimensions_that_no_code_divides(problem, method):
    documents, queries, pairs = (problem[0][:, :30].copy(), problem[1][:, :30].copy(), problem[2])
    learned = method(most_steps=1).fit(documents, queries, relevance=pairs)
    assert learned.index.search(learned.queries(queries[:3]), 5).ids.shape == (3, 5)


@pytest.mark.parametrize("method", [RepCONC, DistillVQ])
def test_residual_codes_take_every_method(problem, method):
    documents, queries, pairs = problem
    assert method(recipe="RQ4", most_steps=1).fit(documents, queries, relevance=pairs).history


def test_another_training_leaves_nothing_of_the_former(problem, tmp_path):
    documents, queries, pairs = problem
    JPQ(recipe=RECIPE, most_steps=2).fit(documents, queries, relevance=pairs, out=tmp_path)
    assert (tmp_path / "adapter.npy").exists()
    (tmp_path / "notes.txt").write_text("of the user's own")
    DistillVQ(recipe=RECIPE, most_steps=1).fit(documents, queries, out=tmp_path, resume=False)
    assert not (tmp_path / "adapter.npy").exists()
    assert (tmp_path / "notes.txt").exists()


def test_places_that_cannot_be_written_are_refused_before_training(problem, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "out" / "index").mkdir(parents=True)
    (tmp_path / "out" / "index" / "mine.txt").write_text("")
    reports = []
    for place in ("file", "out"):
        with pytest.raises(StorageError):
            DistillVQ(recipe=RECIPE).fit(*problem[:2], out=tmp_path / place, report=reports.append)
    assert not reports


def test_queries_without_labels_count_where_labels_do_not(problem):
    documents, queries, pairs = problem
    learned = DistillVQ(recipe=RECIPE, most_steps=1).fit(documents, queries, relevance=pairs[:10])
    assert len(learned._last.queries) == 540


@pytest.mark.parametrize("given", [dict(seed=-1), dict(batch="3"), dict(x=1), dict(options={"x": 1}), dict(epochs=0)])
@pytest.mark.filterwarnings("ignore:options")
def test_wrong_settings_are_refused_at_once(given):
    with pytest.raises(ParameterError):
        JPQ(**given)


@pytest.mark.slow
def test_clustering_holds_codes_to_the_documents(problem):
    documents, queries, pairs = problem
    rates = {"codebook": 2e-3, "adapter": 2e-3}

    def error(weight):
        learned = RepCONC(recipe=RECIPE, clustering=weight, epochs=2, rates=rates).fit(
            documents, queries, relevance=pairs, dev_queries=queries[:50], dev_relevance=pairs[:50]
        )
        return np.square(learned.index.reconstruct(np.arange(len(documents))) - documents).sum()

    assert error(10.0) < error(0)
    with pytest.raises(ParameterError, match="clustering must be a finite number of at least 0"):
        RepCONC(clustering=-1.0)


def test_dev_relevance_needs_dev_queries(problem):
    with pytest.raises(ParameterError, match="without dev_queries"):
        JPQ(recipe=RECIPE).fit(*problem[:2], dev_relevance=problem[2])


@pytest.mark.parametrize("given", [np.ones((2, 8), np.float32), np.full((2, 32), np.nan, np.float32), "a", None])
def test_queries_of_a_learned_index_are_checked(problem, given):
    learned = DistillVQ(recipe=RECIPE, most_steps=1).fit(*problem[:2])
    with pytest.raises(AnnvqError):
        learned.queries(given)


def test_metrics_other_than_inner_products_are_refused(problem):
    with pytest.raises(ParameterError, match="'ip' or 'cosine'"):
        JPQ(recipe=RECIPE, metric="l2").fit(problem[0], problem[1])


def test_stages_have_what_is_asked_for_in_place_of_their_own():
    parts = frozenset({"codebook", "query_encoder", "encoder"})
    own, jpq = RepCONC().trainers(parts)
    assert [jpq] == JPQ().trainers(parts)
    first, second = RepCONC(epochs=1, seed=5, rates={"codebook": 1.0}, accumulate=2, patience=None).trainers(parts)
    rates = {**own.rates, "codebook": 1.0}
    assert first == replace(own, epochs=1, seed=5, rates=rates, accumulate=2)
    assert second == replace(jpq, epochs=1, seed=5, rates={**jpq.rates, "codebook": 1.0})
    assert [method().wants_encoder for method in (JPQ, RepCONC, DistillVQ)] == [True, True, False]
    assert DistillVQ(train=("codebook", "query_encoder")).wants_encoder
    with pytest.warns(DeprecationWarning, match="give its entries themselves"):
        old = JPQ(options={"accumulate": 2})
    assert old.trainers(parts) == JPQ(accumulate=2).trainers(parts)


def test_stages_of_ones_own_take_the_place_of_a_methods(problem):
    documents, queries, _ = problem
    stages = [replace(stage, most_steps=2) for stage in DistillVQ().trainers(frozenset({"codebook"}))] * 2
    learned = replace(DistillVQ(recipe=RECIPE), trainers=lambda parts: stages).fit(documents, queries)
    assert [history[-1]["step"] for history in learned.history] == [2, 2]
