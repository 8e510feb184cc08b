"""All ranking measures against their definitions in plain Python, over scores that float32 cannot tell apart."""

import math
import random

import numpy as np
import pytest

from annvq.errors import ParameterError, ShapeError
from annvq.evaluation import evaluate, evaluate_per_query, mrr, ndcg, run_from_ids
from annvq.evaluation.clicks import auc, log_loss, recall_and_ndcg

pytest.importorskip("pytrec_eval")


def ordered(documents):
    """Score descending, then id descending: trec_eval's order, in float64."""
    return [key for _, key in sorted(((score, key) for key, score in documents.items()), reverse=True)]


def gain(grade):
    return max(grade, 0)


def dcg(grades):
    return sum(gain(grade) / math.log2(place + 2) for place, grade in enumerate(grades))


def plain(grades, documents, k):
    """Return the measures of one query."""
    found = [grades.get(key, 0) for key in ordered(documents)]
    relevant = sum(grade >= 1 for grade in grades.values())
    hits = [place + 1 for place, grade in enumerate(found[:k]) if grade >= 1]
    ideal = dcg(sorted(map(gain, grades.values()), reverse=True)[:k])
    return {
        f"ndcg@{k}": dcg(found[:k]) / ideal if ideal else 0.0,
        f"recall@{k}": len(hits) / relevant if relevant else 0.0,
        f"map@{k}": sum((i + 1) / place for i, place in enumerate(hits)) / relevant if relevant else 0.0,
        f"precision@{k}": len(hits) / k,
        f"mrr@{k}": 1 / hits[0] if hits else 0.0,
    }


def drawn(seed, scores):
    """Return judgements and a run of some queries; not all of either are in the other."""
    rng = random.Random(seed)
    names = [f"d{i}" for i in range(12)] + ["é", "z", "日本", "𝒳", "ｚ", ""]
    qrels = {f"q{q}": {key: rng.choice([-1, 0, 0, 1, 1, 2, 3]) for key in rng.sample(names, 7)} for q in range(6)}
    run = {f"q{q}": {key: scores(rng) for key in rng.sample(names, rng.randint(0, 14))} for q in range(1, 8)}
    return qrels, run


SCORES = {
    "apart": lambda rng: rng.gauss(0, 1),
    "tied": lambda rng: float(rng.randint(0, 2)),
    "beyond float32's digits": lambda rng: 100000 + rng.randint(0, 9) / 1000,
    "beyond float32's range": lambda rng: rng.choice([1e300, 2e300, -1e300, math.inf, -math.inf]),
    "tiny": lambda rng: rng.randint(-3, 3) * 1e-300,
    "whole": lambda rng: 2**53 + 2 * rng.randint(0, 9),
    "of numpy": lambda rng: np.float32(rng.randint(0, 4)),
}


@pytest.mark.parametrize("k", [1, 2, 5, 10, 100])
@pytest.mark.parametrize("scores", SCORES)
def test_measures_are_their_definitions(scores, k):
    for seed in range(5):
        qrels, run = drawn(seed, SCORES[scores])
        found = evaluate_per_query(
            qrels, run, [f"{kind}@{k}" for kind in ("ndcg", "recall", "map", "precision", "mrr")]
        )
        expected = {qid: plain(grades, run.get(qid, {}), k) for qid, grades in qrels.items()}
        assert found.keys() == expected.keys()
        for qid in qrels:
            assert found[qid] == pytest.approx(expected[qid], rel=1e-12), qid
        mean = evaluate(qrels, run, [f"mrr@{k}"])[f"mrr@{k}"]
        assert mean == pytest.approx(sum(one[f"mrr@{k}"] for one in expected.values()) / len(qrels))


def test_float32_does_not_part_what_float64_does():
    near = {"q": {"a": 100000.002, "b": 100000.001}}
    assert mrr({"q": {"a": 1}}, near) == 1.0
    assert ndcg({"q": {"b": 1}}, near, 1) == 0.0


@pytest.mark.parametrize("score", [math.nan, np.nan, None, "high", 10**400])
def test_scores_that_have_no_order_are_refused(score):
    with pytest.raises(ParameterError, match="score"):
        evaluate({"q": {"a": 1}}, {"q": {"a": score}})


def test_the_best_place_of_a_repeated_id_counts():
    assert run_from_ids(["q"], [["a", "b", "a"]]) == {"q": {"a": 0.0, "b": -1.0}}
    assert run_from_ids(["q"], np.array([[4, 4, -1, 7]])) == {"q": {"4": 0.0, "7": -3.0}}
    assert mrr({"q": {"a": 1}}, run_from_ids(["q"], [["a", "b", "a"]])) == 1.0


def test_queries_have_different_names():
    with pytest.raises(ParameterError, match="'q' is given twice"):
        run_from_ids(["q", "r", "q"], [["a"], ["b"], ["c"]])
    with pytest.raises(ParameterError, match="2 query ids for the results of 1 queries"):
        run_from_ids(["q", "r"], [["a"]])
    assert run_from_ids(iter(["q", "r"]), iter([["a"], []])) == {"q": {"a": 0.0}, "r": {}}


@pytest.mark.parametrize(
    "scores", [lambda rng: rng.random(), lambda rng: rng.randint(0, 3), lambda rng: 1e8 + rng.random()]
)
def test_auc_and_log_loss_are_their_definitions(scores):
    rng = random.Random(0)
    given, labels = [scores(rng) for _ in range(60)], [rng.randint(0, 1) for _ in range(60)]
    pairs = [(a > b) + (a == b) / 2 for a, x in zip(given, labels) if x for b, y in zip(given, labels) if not y]
    assert auc(np.array(given), np.array(labels)) == pytest.approx(sum(pairs) / len(pairs))
    chances = [min(max(p / 1e9, 1e-7), 1 - 1e-7) for p in given]
    plain_loss = -sum(math.log(p if label else 1 - p) for p, label in zip(chances, labels)) / 60
    assert log_loss(np.array(given) / 1e9, np.array(labels)) == pytest.approx(plain_loss)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_has_no_order_has_no_auc(bad):
    with pytest.raises(ParameterError, match="finite"):
        auc(np.array([0.1, bad, 0.3]), np.array([0, 1, 1]))
    with pytest.raises(ParameterError, match="finite"):
        log_loss(np.array([0.1, bad]), np.array([0, 1]))
    with pytest.raises(ParameterError, match="0 and 1"):
        auc(np.array([0.1, 0.2, 0.3]), np.array([0, 1, 2]))
    with pytest.raises(ShapeError):
        log_loss(np.array([0.1, 0.2]), np.array([0, 1, 1]))


def test_recommendations_are_their_definitions():
    rng = np.random.default_rng(0)
    found = np.stack([rng.permutation(30)[:10] for _ in range(20)])
    found[3, 6:] = -1
    wanted = [rng.permutation(30)[: rng.integers(0, 15)] for _ in range(20)]
    recalls, gains = [], []
    for items, ranked in zip(wanted, found):
        if len(items):
            hits = [place for place, item in enumerate(ranked) if item >= 0 and item in items]
            recalls.append(len(hits) / len(items))
            ideal = sum(1 / math.log2(place + 2) for place in range(min(len(items), 10)))
            gains.append(sum(1 / math.log2(place + 2) for place in hits) / ideal)
    assert recall_and_ndcg(found, wanted) == pytest.approx((np.mean(recalls), np.mean(gains)))
