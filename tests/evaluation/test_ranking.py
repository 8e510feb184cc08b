import math
import sys

import numpy as np
import pytest

pytest.importorskip("pytrec_eval")

from annvq.errors import MissingExtraError, ParameterError, ShapeError
from annvq.evaluation import (
    evaluate,
    evaluate_per_query,
    mean_average_precision,
    mrr,
    ndcg,
    qrel_recall,
    run_from_ids,
)


def ranked(*documents):
    return run_from_ids(["q"], [documents])


def torch_tensor(rows):
    return pytest.importorskip("torch").tensor(rows)


def test_ndcg_uses_the_grades_as_gains():
    qrels = {"q": {"a": 3, "b": 2, "c": 1}}
    gained = 2 / math.log2(2) + 3 / math.log2(4)  # b first, a third
    ideal = 3 / math.log2(2) + 2 / math.log2(3) + 1 / math.log2(4)
    assert ndcg(qrels, ranked("b", "x", "a"), 10) == pytest.approx(gained / ideal)


def test_ndcg_is_cut():
    qrels = {"q": {"a": 1}}
    assert ndcg(qrels, ranked("x", "y", "a"), 2) == 0.0
    assert ndcg(qrels, ranked("x", "y", "a"), 3) == pytest.approx(1 / math.log2(4))


def test_mrr_is_cut_at_its_rank():
    eleventh = ranked(*"bcdefghijk", "a")
    assert mrr({"q": {"a": 1}}, eleventh, 10) == 0.0
    assert mrr({"q": {"a": 1}}, eleventh, 11) == pytest.approx(1 / 11)
    both = evaluate({"q": {"a": 1}}, eleventh, ["mrr@10", "mrr@20"])
    assert both == {"mrr@10": 0.0, "mrr@20": pytest.approx(1 / 11)}


def test_map_averages_precision_at_the_relevant():
    qrels = {"q": {"a": 1, "b": 2, "c": 1}}
    expected = (1 / 1 + 2 / 3) / 3  # a first, b third, c never
    assert mean_average_precision(qrels, ranked("a", "x", "b"), 100) == pytest.approx(expected)


def test_recall_counts_grade_one_and_more_as_relevant():
    qrels = {"q": {"a": 1, "b": 3, "c": 0}}
    assert qrel_recall(qrels, ranked("c", "a"), 100) == 0.5
    assert qrel_recall(qrels, ranked("c", "a"), 1) == 0.0


def test_precision_divides_by_the_cut():
    assert evaluate({"q": {"a": 1}}, ranked("a"), ["precision@5"]) == {"precision@5": 0.2}


def test_queries_without_results_count_zero():
    qrels = {"q": {"a": 1}, "silent": {"a": 1}, "empty": {"a": 1}}
    run = {**ranked("a"), "empty": {}, "not judged": {"a": 1.0}}
    assert evaluate(qrels, run) == {
        name: pytest.approx(1 / 3) for name in ("ndcg@10", "recall@100", "mrr@10", "map@100")
    }
    values = evaluate_per_query(qrels, run, ["mrr@10"])
    assert values == {"q": {"mrr@10": 1.0}, "silent": {"mrr@10": 0.0}, "empty": {"mrr@10": 0.0}}


def test_queries_without_relevant_documents_count_zero():
    assert evaluate({"q": {"a": 0}}, ranked("a"), ["ndcg@10", "mrr@10"]) == {"ndcg@10": 0.0, "mrr@10": 0.0}


def test_ties_follow_trec_eval_and_the_cut_agrees_with_it():
    tied = {"q": {"a": 1.0, "b": 1.0}}  # trec_eval: document id descending, so b before a
    assert mrr({"q": {"a": 1}}, tied, 10) == 0.5
    assert mrr({"q": {"a": 1}}, tied, 1) == 0.0
    assert mrr({"q": {"b": 1}}, tied, 1) == 1.0


def test_runs_from_ids_keep_the_order_given():
    run = run_from_ids(["q"], [["a", "b", None]])
    assert mrr({"q": {"a": 1}}, run, 1) == 1.0
    assert run_from_ids(["q"], [[7, 3, -1]]) == {"q": {"7": 0.0, "3": -1.0}}
    assert run_from_ids(["q"], [[-7, -1, -3]]) == {"q": {"-7": 0.0, "-3": -2.0}}
    with pytest.raises(ValueError):
        run_from_ids(["q", "r"], [[1]])


def test_a_rank_may_be_as_deep_as_promised():
    deep = [f"{kind}@1000000000" for kind in ("ndcg", "recall", "mrr", "map")]
    assert evaluate({"q": {"a": 1}}, ranked("a"), deep) == dict.fromkeys(deep, 1.0)


@pytest.mark.parametrize("kind", [np.array, np.uint64, torch_tensor])
def test_ids_of_arrays_are_the_numbers_in_them(kind):
    assert run_from_ids(["q"], kind([[7, 3, 7]])) == {"q": {"7": 0.0, "3": -1.0}}


@pytest.mark.parametrize("row", ["abc", b"abc", np.int64(3), 3, None])
def test_a_row_that_is_none_is_refused(row):
    with pytest.raises(ShapeError, match="best first"):
        run_from_ids(["q"], [row])


@pytest.mark.parametrize("key", [1.0, math.nan, True, b"a", np.arange(2), ("a",), object()])
def test_ids_that_are_neither_integers_nor_text_are_refused(key):
    with pytest.raises(ParameterError, match="expected integers or strings"):
        run_from_ids(["q"], [[key]])


def test_identical_ids_are_ignored_only_on_request():
    qrels, run = {"1": {"1": 1}}, {"1": {"1": 2.0, "2": 1.0}}
    assert mrr(qrels, run) == 1.0
    assert evaluate(qrels, run, ["mrr@10"], ignore_identical_ids=True) == {"mrr@10": 0.0}
    assert run == {"1": {"1": 2.0, "2": 1.0}}  # BEIR's own code changes it


def test_no_queries_give_zeros():
    assert evaluate({}, {}, ["ndcg@10"]) == {"ndcg@10": 0.0}


@pytest.mark.parametrize(
    "metric",
    [
        "ndcg",
        "ndcg@",
        "ndcg@0",
        "ndcg@-1",
        "bleu@4",
        "ndcg@1.5",
        "@10",
        "ndcg@1000000001",
        "map@999999999999999999999",
        "mrr@" + "9" * 5000,
    ],
)
def test_unknown_metrics_are_refused(metric):
    with pytest.raises(ParameterError, match="expected one of"):
        evaluate({"q": {"a": 1}}, ranked("a"), [metric])


@pytest.mark.parametrize(
    ("qrels", "run"),
    [
        ({"q": {"d\ud800": 1}}, {}),  # trec_eval crashes
        ({"q": {"d": 1}}, {"q": {"d\ud800": 1.0}}),
        ({"q": {"d\0a": 1}}, {}),  # is cut to "d"
        ({1: {"d": 1}}, {}),
        ({"q": {1: 1}}, {}),
        ({"q": {"d": 1.5}}, {}),
        ({"q": {"d": 2**40}}, {}),
        ({"q": {"d": float("nan")}}, {}),
        ({"q": {"d": "high"}}, {}),
        ({"q": {"d": 1}}, {"q": {"d": float("nan")}}),
        ({"q": {"d": 1}}, {"q": {"d": None}}),
    ],
)
def test_what_trec_eval_cannot_hold_is_refused(qrels, run):
    with pytest.raises(ParameterError, match=r"expected|ids"):
        evaluate(qrels, run)


def test_grades_may_be_as_large_as_promised():
    assert ndcg({"q": {"a": 1_000_000, "ü": -3}}, ranked("a", "ü")) == 1.0


def test_without_pytrec_eval_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytrec_eval", None)
    with pytest.raises(MissingExtraError, match=r"annvq\[eval\]"):
        evaluate({"q": {"a": 1}}, ranked("a"))
