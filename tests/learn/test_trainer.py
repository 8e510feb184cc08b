"""One trainer: what moves, what is frozen, what is kept, what is refused."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

import annvq
from annvq.errors import CorruptIndexError, NonFiniteError, ParameterError
from annvq.learn import (
    Clustering,
    Contrast,
    Distillation,
    Proposals,
    QuerySet,
    Ranking,
    Relevance,
    Start,
    Trainer,
)
from annvq.learn.step.losses import listnet
from annvq.learn.training.checkpoint import FILE, load
from annvq.learn.training.trainer import Run

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
