"""One trainer: what moves, what is frozen, what is kept, what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

import annvq
from annvq.errors import AnnvqError, CorruptIndexError, NonFiniteError, ParameterError, ShapeError, StorageError
from annvq.learn import (
    JPQ,
    Clustering,
    Contrast,
    Distillation,
    DistillVQ,
    Proposals,
    QuerySet,
    Ranking,
    Relevance,
    RepCONC,
    Start,
    Trainer,
)
from annvq.learn.checkpoint import FILE, load
from annvq.learn.losses import listnet
from annvq.learn.trainer import Run

RECIPE = "PQ4"


def query_sets(problem):
    documents, queries, pairs = problem
    whole = QuerySet(queries, None, Relevance.of(pairs, len(queries), len(documents)))
    return whole.split(0)


def start_of(problem, recipe=RECIPE):
    index = annvq.build(problem[0], recipe, metric="ip", threads=1)
    return Start.of(index, problem[0])


SHORT = Trainer(
    objectives=((1.0, Distillation()),),
    train=("codebook",),
    proposals=Proposals(teacher=30, random=4),
    rates={"codebook": 1e-3, "adapter": 1e-3, "rotation": 1e-3, "centroids": 1e-3},
    epochs=2,
    measure_every=10,
)


def set_to_last(run, folder):
    """Set a run to where it ended, whichever step was the best."""
    parts, _, _ = load(folder / FILE, run._asked, run._state())
    run._set_state(parts["student"])


def parts_of(run):
    trained = run.student.to_trained()
    parts = {"codebook": trained.codebook.codebooks, "codes": run.codes}
    if trained.centroids is not None:
        parts["centroids"] = trained.centroids
    if trained.rotation is not None:
        parts["rotation"] = trained.rotation.matrix
    if run.student.adapter is not None:
        parts["adapter"] = run.student.adapter.matrix()
    return parts


@pytest.mark.parametrize(
    "moving", [("codebook",), ("rotation",), ("centroids",), ("adapter",), ("adapter", "codebook")]
)
def test_what_is_not_trained_is_frozen(problem, moving, tmp_path):
    start = start_of(problem, "OPQ4,IVF8,PQ4")
    train, dev = query_sets(problem)
    before = {
        "codebook": start.trained.codebook.codebooks,
        "centroids": start.trained.centroids,
        "rotation": start.trained.rotation.matrix,
        "codes": start.codes,
        "adapter": np.eye(32, dtype=np.float32),
    }
    run = replace(SHORT, train=moving, most_steps=5, proposals=Proposals(live=20)).fit(
        start, train, dev, folder=tmp_path
    )
    set_to_last(run, tmp_path)
    for name, value in parts_of(run).items():
        assert np.array_equal(value, before[name]) != (name in moving), name


def test_distillation_finds_more_of_what_the_teacher_finds(problem):
    train, dev = query_sets(problem)
    train, dev = QuerySet(train.vectors), QuerySet(dev.vectors)
    how = replace(SHORT, epochs=6, assignment="soft", rates={"codebook": 2e-3})
    history = how.fit(start_of(problem, "OPQ4,PQ4"), train, dev).progress.history
    assert max(entry["recall@10"] for entry in history) > history[0]["recall@10"] + 0.02


@pytest.mark.parametrize("objective", [Ranking(), Contrast()])
def test_documents_that_are_relevant_to_no_query_are_no_negatives(problem, objective):
    train, dev = query_sets(problem)
    few = train.part(np.arange(10))
    how = replace(SHORT, objectives=((1.0, objective),), proposals=Proposals(live=100))
    run = Run(how, start_of(problem), few, dev, 1)
    batch = run.batch(np.arange(8), np.random.default_rng(0))
    assert not batch.judged.all()
    for how_judged, moves in ((True, False), (False, True)):
        scores = batch.scores.detach().requires_grad_()
        replace(objective, judged=how_judged)(replace(batch, scores=scores)).backward()
        assert bool(scores.grad[:, ~batch.judged].any()) == moves
        assert scores.grad[:, batch.judged].any()


def test_without_labels_all_documents_are_judged(problem):
    train, dev = query_sets(problem)
    run = Run(replace(SHORT, proposals=Proposals(live=50)), start_of(problem), QuerySet(train.vectors), dev, 1)
    assert run.batch(np.arange(4), np.random.default_rng(0)).judged.all()


def test_the_current_teacher_moves_codes_alone(problem):
    train, dev = query_sets(problem)
    how = replace(SHORT, train=("adapter", "codebook"), objectives=((1.0, Distillation(teacher="current")),))
    run = Run(how, start_of(problem, "IVF8,PQ4"), train, dev, 1)
    run.student.adapter.weight.data += 0.01
    batch = run.batch(np.arange(8), np.random.default_rng(0))
    Distillation(teacher="current")(batch).backward()
    assert run.student.codebook.codebooks.grad.any()
    assert run.student.adapter.weight.grad is None
    expected = listnet(
        batch.queries @ batch.quantized.T, batch.queries @ batch.documents.T, torch.ones_like(batch.own), 0.05
    ) + listnet(batch.queries @ batch.lists.T, batch.queries @ batch.documents.T, torch.ones_like(batch.own), 0.05)
    assert torch.isclose(Distillation(teacher="current")(batch), expected)
    with pytest.raises(ParameterError, match="teacher"):
        Distillation(teacher="next")


@pytest.mark.parametrize("assignment", ["nearest", "soft", "balanced"])
def test_assignments_change_codes_and_keep_lists(problem, assignment, tmp_path):
    start = start_of(problem, "IVF8,PQ4")
    train, dev = query_sets(problem)
    how = replace(SHORT, assignment=assignment, train=("codebook", "centroids"), most_steps=8)
    run = how.fit(start, train, dev, folder=tmp_path)
    set_to_last(run, tmp_path)
    assert np.array_equal(run.labels, start.labels)
    assert not np.array_equal(run.codes, start.codes)


def test_codes_are_fixed_where_they_are_said_to_be(problem):
    train, dev = query_sets(problem)
    how = replace(
        SHORT,
        objectives=((1.0, Ranking(cut=50)),),
        proposals=Proposals(live=50),
        train=("codebook", "adapter"),
        epochs=3,
    )
    start = start_of(problem)
    run = how.fit(start, train, dev)
    assert np.array_equal(run.codes, start.codes)
    history = run.progress.history
    assert max(entry["ndcg@10"] for entry in history) > history[0]["ndcg@10"] + 0.02


def test_the_live_search_is_that_of_the_codes_as_they_are(problem):
    start = start_of(problem)
    train, dev = query_sets(problem)
    run = replace(SHORT, most_steps=10, proposals=Proposals(live=20)).fit(start, train, dev)
    trained = run.student.to_trained()
    decoded = trained.codebook.decode(run.codes)
    run.live.update(trained)
    found = run.live.search(dev.vectors, 10, 1)
    scores = dev.vectors @ decoded.T
    best = -np.sort(-scores, axis=1)[:, :10]
    np.testing.assert_allclose(np.take_along_axis(scores, found, axis=1), best, atol=1e-5)


def test_a_mixture_of_objectives_trains_all_at_once(problem, tmp_path):
    train, dev = query_sets(problem)
    objectives = ((1.0, Contrast()), (0.1, Distillation("margin-mse")), (0.05, Clustering()))
    how = replace(SHORT, objectives=objectives, assignment="soft", most_steps=15)
    start = start_of(problem)
    run = how.fit(start, train, dev, folder=tmp_path)
    assert run.progress.step == 15
    set_to_last(run, tmp_path)
    assert not np.array_equal(parts_of(run)["codebook"], start.trained.codebook.codebooks)


def test_residual_codes_can_be_trained(problem, tmp_path):
    train, dev = query_sets(problem)
    how = replace(SHORT, assignment="nearest", epochs=3)
    start = start_of(problem, "RQ3x4")
    run = how.fit(start, train, dev, folder=tmp_path)
    set_to_last(run, tmp_path)
    assert not np.array_equal(parts_of(run)["codebook"], start.trained.codebook.codebooks)
    assert not np.array_equal(run.codes, start.codes)
    with pytest.raises(ParameterError, match="product codes"):
        replace(SHORT, assignment="balanced").fit(start_of(problem, "RQ3x4"), train, dev)


def same(one, other):
    for name, value in parts_of(one).items():
        np.testing.assert_array_equal(value, parts_of(other)[name])
    assert one.progress.history == other.progress.history


def test_the_same_seed_gives_the_same_codes(problem):
    train, dev = query_sets(problem)
    how = replace(SHORT, train=("codebook", "adapter"), proposals=Proposals(live=20, random=3), most_steps=25)
    one, other = (how.fit(start_of(problem), train, dev) for _ in range(2))
    same(one, other)
    third = replace(how, seed=1).fit(start_of(problem), train, dev)
    assert not np.array_equal(parts_of(third)["adapter"], parts_of(one)["adapter"])


def test_an_interrupted_training_goes_on_as_if_nothing_had_happened(problem, tmp_path):
    train, dev = query_sets(problem)
    how = replace(SHORT, train=("codebook", "adapter"), assignment="nearest", most_steps=30, patience=50)
    whole = how.fit(start_of(problem), train, dev)

    class Stop(Exception):
        pass

    def stop_at_20(entry):
        if entry["step"] == 20:
            raise Stop

    with pytest.raises(Stop):
        how.fit(start_of(problem), train, dev, folder=tmp_path, report=stop_at_20)
    assert (tmp_path / FILE).exists()
    steps = []
    resumed = how.fit(start_of(problem), train, dev, folder=tmp_path, report=lambda entry: steps.append(entry["step"]))
    assert steps == [20, 30]  # the measurement that was interrupted is made again
    same(whole, resumed)
    again = how.fit(start_of(problem), train, dev, folder=tmp_path)
    same(whole, again)


def test_a_checkpoint_of_something_else_is_refused(problem, tmp_path):
    train, dev = query_sets(problem)
    replace(SHORT, most_steps=2).fit(start_of(problem), train, dev, folder=tmp_path)
    with pytest.raises(ParameterError, match="another training"):
        replace(SHORT, most_steps=2, batch=16).fit(start_of(problem), train, dev, folder=tmp_path)
    fewer = QuerySet(train.vectors, None, Relevance.of([[0, 1]], len(train), len(problem[0])))
    with pytest.raises(ParameterError, match="another training"):  # other judgements of the same queries
        replace(SHORT, most_steps=2).fit(start_of(problem), fewer, dev, folder=tmp_path)
    replace(SHORT, most_steps=2, batch=16).fit(start_of(problem), train, dev, folder=tmp_path, resume=False)
    (tmp_path / FILE).write_bytes(b"nothing of the kind")
    with pytest.raises(CorruptIndexError, match="cannot be read"):
        replace(SHORT, most_steps=2).fit(start_of(problem), train, dev, folder=tmp_path)


def test_a_checkpoint_of_another_index_or_depth_is_refused(problem, tmp_path):
    train, dev = query_sets(problem)
    replace(SHORT, most_steps=2).fit(start_of(problem, "IVF8,PQ4"), train, dev, folder=tmp_path)
    for other in (start_of(problem, "IVF16,PQ4"), replace(start_of(problem, "IVF8,PQ4"), nprobe=5)):
        with pytest.raises(ParameterError, match="another training"):
            replace(SHORT, most_steps=2).fit(other, train, dev, folder=tmp_path)


def test_a_flipped_bit_in_a_checkpoint_is_noticed(problem, tmp_path):
    train, dev = query_sets(problem)
    replace(SHORT, most_steps=2).fit(start_of(problem), train, dev, folder=tmp_path)
    damaged = bytearray((tmp_path / FILE).read_bytes())
    damaged[-5] ^= 1
    (tmp_path / FILE).write_bytes(damaged)
    with pytest.raises(CorruptIndexError, match="checksum"):
        replace(SHORT, most_steps=2).fit(start_of(problem), train, dev, folder=tmp_path)


class Halved:
    """An objective of a user's own, whose repr names its address."""

    needs_relevance = False

    def __init__(self, share):
        self.share = share

    def __call__(self, batch):
        return self.share * Distillation()(batch)


def test_an_objective_of_ones_own_can_be_resumed(problem, tmp_path):
    train, dev = query_sets(problem)
    for _ in range(2):
        how = replace(SHORT, objectives=((1.0, Halved(0.5)),), most_steps=2)
        run = how.fit(start_of(problem), train, dev, folder=tmp_path)
    assert run.progress.step == 2
    with pytest.raises(ParameterError, match="another training"):
        replace(how, objectives=((1.0, Halved(0.4)),)).fit(start_of(problem), train, dev, folder=tmp_path)


@pytest.mark.parametrize("assignment", ["nearest", "balanced", "soft"])
def test_clustering_pulls_at_what_makes_the_documents(problem, assignment):
    train, dev = query_sets(problem)
    parts = dict(objectives=((1.0, Clustering()),), train=("rotation", "codebook"), assignment=assignment)
    run = Run(replace(SHORT, **parts), start_of(problem, "OPQ4,PQ4"), train, dev, 1)
    Clustering()(run.batch(np.arange(8), np.random.default_rng(0))).backward()
    assert run.student.rotation.skew.grad.abs().max() > 0


def test_a_rotation_that_is_not_square_stays_as_it_is(problem):
    train, dev = query_sets(problem)
    start = start_of(problem, "PCA16,PQ4")
    run = replace(SHORT, most_steps=4, rates={"codebook": 1e-2}).fit(start, train, dev)
    np.testing.assert_array_equal(run.student.to_trained().rotation.matrix, start.trained.rotation.matrix)
    with pytest.raises(ParameterError, match="as many dimensions"):
        replace(SHORT, train=("rotation",)).fit(start, train, dev)


def test_dev_queries_without_relevant_documents_are_refused(problem):
    train, dev = query_sets(problem)
    none = replace(dev, relevance=Relevance.of([], len(dev), len(problem[0])))
    with pytest.raises(ParameterError, match="none of 60 dev queries"):
        SHORT.fit(start_of(problem), train, none)


def test_it_stops_when_nothing_gets_better(problem):
    train, dev = query_sets(problem)
    how = replace(SHORT, rates={"codebook": 0.0}, measure_every=1, patience=3, epochs=5)
    run = how.fit(start_of(problem), train, dev)
    assert run.progress.step == 3
    assert "no better ndcg@10" in run.progress.stopped


def test_the_best_step_is_kept_not_the_last(problem):
    train, dev = query_sets(problem)
    how = replace(SHORT, rates={"codebook": 3.0}, assignment="nearest", measure_every=5, most_steps=20)
    start = start_of(problem)
    run = how.fit(start, train, dev)
    history = run.progress.history
    assert history[-1]["ndcg@10"] < history[0]["ndcg@10"]  # such steps destroy the codes
    assert run.progress.best_step == 0
    np.testing.assert_array_equal(parts_of(run)["codebook"], start.trained.codebook.codebooks)


def test_nan_stops_and_says_what_was_wrong(problem):
    train, dev = query_sets(problem)
    how = replace(SHORT, objectives=((1.0, Clustering()),), rates={"codebook": 1e25}, most_steps=5)
    with pytest.raises(NonFiniteError, match=r"the loss became inf in step 1: use smaller learning rates"):
        how.fit(start_of(problem), train, dev)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(objectives=()), "at least one objective"),
        (dict(assignment="hard"), "fixed, nearest, soft, balanced"),
        (dict(batch=0), "batch must be a whole number of at least 1"),
        (dict(rates={"code": 1.0}), "codebook, centroids"),
        (dict(rates={"codebook": -1.0}), "rate of codebook must not be below 0"),
        (dict(most_steps=0), "most_steps must be a whole number of at least 1"),
        (dict(patience=-1), "patience"),
        (dict(epochs=1.5), "epochs"),
        (dict(warm_up=2), "warm_up is a share"),
        (dict(seed=-1), "seed"),
        (dict(softness=0), "softness"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ParameterError, match=message):
        replace(SHORT, **change)


@pytest.mark.parametrize(
    ("recipe", "train", "message"),
    [
        ("SQ8", ("codebook",), "'sq8' cannot be trained"),
        ("PQ4,Refine(SQ8)", ("codebook",), "refine store"),
        ("PQ4", ("centroids",), "no lists"),
        ("PQ4", ("rotation",), "no rotation"),
        ("PQ4", ("codebook", "query_encoder"), "none is given"),
        ("PQ4", ("codes",), "expected some of"),
        ("PQ4", (), "expected some of"),
    ],
)
def test_parts_that_cannot_be_trained_are_named(problem, recipe, train, message):
    queries, dev = query_sets(problem)
    with pytest.raises(ParameterError, match=message):
        replace(SHORT, train=train).fit(start_of(problem, recipe), queries, dev)


def shared(found, wanted):
    """Return the share of wanted documents that were found."""
    return np.mean([np.isin(one, other).mean() for one, other in zip(wanted, found, strict=True)])


class TestMethods:
    @pytest.mark.parametrize("method", [JPQ, RepCONC, DistillVQ])
    def test_learning_beats_the_start_on_queries_never_seen(self, problem, method):
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

    def test_without_labels_the_teachers_best_are_taken(self, problem):
        documents, queries, _ = problem
        how = JPQ(recipe=RECIPE, epochs=3, rates={"codebook": 1e-3, "adapter": 1e-3})
        (history,) = how.fit(documents, queries).history
        assert max(entry["recall@10"] for entry in history) > history[0]["recall@10"]

    def test_ids_are_those_given_and_the_index_is_an_ordinary_one(self, problem, tmp_path):
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

    def test_an_adapter_is_written_beside_the_index(self, problem, tmp_path):
        documents, queries, pairs = problem
        how = JPQ(recipe=RECIPE, most_steps=20, rates={"adapter": 1e-2})
        learned = how.fit(documents, queries, relevance=pairs, out=tmp_path)
        matrix = np.load(tmp_path / "adapter.npy", allow_pickle=False)
        np.testing.assert_allclose(learned.queries(queries), queries @ matrix.T, atol=1e-5)

    def test_the_same_ranking_in_faiss(self, problem):
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
    def test_bad_input_is_refused(self, problem, change, error, message):
        documents, queries, pairs = problem
        given = dict(documents=documents, queries=queries, relevance=pairs) | change
        if "relevance" not in change:
            given["relevance"] = None
        with pytest.raises(error, match=message):
            JPQ(recipe=RECIPE, most_steps=1).fit(given.pop("documents"), given.pop("queries"), **given)

    @pytest.mark.parametrize("method", [JPQ, RepCONC, DistillVQ])
    def test_shipped_recipes_take_dimensions_that_no_code_divides(self, problem, method):
        documents, queries, pairs = (problem[0][:, :30].copy(), problem[1][:, :30].copy(), problem[2])
        learned = method(most_steps=1).fit(documents, queries, relevance=pairs)
        assert learned.index.search(learned.queries(queries[:3]), 5).ids.shape == (3, 5)

    @pytest.mark.parametrize("method", [RepCONC, DistillVQ])
    def test_residual_codes_take_every_method(self, problem, method):
        documents, queries, pairs = problem
        assert method(recipe="RQ4", most_steps=1).fit(documents, queries, relevance=pairs).history

    def test_another_training_leaves_nothing_of_the_former(self, problem, tmp_path):
        documents, queries, pairs = problem
        JPQ(recipe=RECIPE, most_steps=2).fit(documents, queries, relevance=pairs, out=tmp_path)
        assert (tmp_path / "adapter.npy").exists()
        (tmp_path / "notes.txt").write_text("of the user's own")
        DistillVQ(recipe=RECIPE, most_steps=1).fit(documents, queries, out=tmp_path, resume=False)
        assert not (tmp_path / "adapter.npy").exists()
        assert (tmp_path / "notes.txt").exists()

    def test_places_that_cannot_be_written_are_refused_before_training(self, problem, tmp_path):
        (tmp_path / "file").write_text("")
        (tmp_path / "out" / "index").mkdir(parents=True)
        (tmp_path / "out" / "index" / "mine.txt").write_text("")
        reports = []
        for place in ("file", "out"):
            with pytest.raises(StorageError):
                DistillVQ(recipe=RECIPE).fit(*problem[:2], out=tmp_path / place, report=reports.append)
        assert not reports

    def test_queries_without_labels_count_where_labels_do_not(self, problem):
        documents, queries, pairs = problem
        learned = DistillVQ(recipe=RECIPE, most_steps=1).fit(documents, queries, relevance=pairs[:10])
        assert len(learned._last.queries) == 540

    @pytest.mark.parametrize(
        "given", [dict(seed=-1), dict(batch="3"), dict(options={"x": 1}), dict(options={"epochs": 1}), dict(epochs=0)]
    )
    def test_wrong_settings_are_refused_at_once(self, given):
        with pytest.raises(ParameterError):
            JPQ(**given)

    def test_dev_relevance_needs_dev_queries(self, problem):
        with pytest.raises(ParameterError, match="without dev_queries"):
            JPQ(recipe=RECIPE).fit(*problem[:2], dev_relevance=problem[2])

    @pytest.mark.parametrize("given", [np.ones((2, 8), np.float32), np.full((2, 32), np.nan, np.float32), "a", None])
    def test_queries_of_a_learned_index_are_checked(self, problem, given):
        learned = DistillVQ(recipe=RECIPE, most_steps=1).fit(*problem[:2])
        with pytest.raises(AnnvqError):
            learned.queries(given)

    def test_metrics_other_than_inner_products_are_refused(self, problem):
        with pytest.raises(ParameterError, match="'ip' or 'cosine'"):
            JPQ(recipe=RECIPE, metric="l2").fit(problem[0], problem[1])
