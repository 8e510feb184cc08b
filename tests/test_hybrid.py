"""Rankings joined by ranks and by scores."""

from collections import namedtuple
from fractions import Fraction

import numpy as np
import pytest

import annvq
from annvq import hybrid
from annvq.errors import DtypeError, NonFiniteError, ParameterError, ShapeError

Results = namedtuple("Results", ["documents", "scores"])  # of bm25s
INF = float("inf")
DENSE = [[("a", 0.9), ("b", 0.8), ("c", 0.1)], [("x", 2.0)]]
WORDS = [[("b", 12.0), ("d", 7.0), ("a", 2.0)], []]


def test_ranks_are_added_up_as_cormack_says():
    hits = hybrid.reciprocal_rank_fusion(DENSE, WORDS, k=4)
    wanted = {"a": Fraction(1, 61) + Fraction(1, 63), "b": Fraction(1, 62) + Fraction(1, 61),
              "c": Fraction(1, 63), "d": Fraction(1, 62)}  # fmt: skip
    order = sorted(wanted, key=lambda key: (-wanted[key], key))
    assert hits.ids[0].tolist() == order == ["b", "a", "d", "c"]
    assert hits.scores.dtype == np.float32
    assert hits.scores[0].tolist() == [np.float32(float(wanted[key])) for key in order]
    assert hits.ids[1].tolist() == ["x", None, None, None]
    assert hits.scores[1].tolist() == [np.float32(1 / 61), -INF, -INF, -INF]


def test_scores_are_scaled_per_query_and_weighted():
    hits = hybrid.weighted_scores(DENSE, WORDS, weights=(0.25, 0.75))
    assert hits.to_lists() == [
        [
            ("b", pytest.approx(0.25 * 0.7 / 0.8 + 0.75)),
            ("d", pytest.approx(0.75 * 5 / 10)),
            ("a", pytest.approx(0.25)),
            ("c", 0.0),
        ],
        [("x", 0.25)],  # all of its scores are equal
    ]


@pytest.mark.parametrize("words", [False, True])
def test_every_form_of_a_ranking_is_the_same_ranking(words):
    ids = np.array([[7, 3, 5], [2, 9, -1]])
    scores = np.array([[3, 2, 1], [8, 4, -INF]], np.float32)
    if words:
        ids = np.where(scores == -INF, None, ids.astype(str).astype(object))
    as_pairs = [list(zip(*row)) for row in zip(ids.tolist(), scores.tolist())]
    forms = [annvq.Hits(ids, scores), (ids, scores), (ids.tolist(), scores.tolist()), as_pairs,
             Results(ids, np.where(scores == -INF, 0, scores))]  # fmt: skip
    other = [[(ids[0, 2], 1.0)], [(ids[1, 1], 5.0), (ids[1, 0], 4.0)]]
    found = [hybrid.reciprocal_rank_fusion(form, other, k=3) for form in forms]
    for hits in found:
        assert hits.ids.tolist() == found[0].ids.tolist()
        assert hits.scores.tolist() == found[0].scores.tolist()
    assert found[0].ids.dtype == (object if words else np.int64)
    assert found[0].ids[1, 2] == (None if words else -1)


def test_equal_scores_come_in_the_order_of_the_ids():
    one, other = [[(30, 2.0), (4, 1.0)]], [[(4, 2.0), (30, 1.0)]]
    for rankings in ((one, other), (other, one)):
        assert hybrid.reciprocal_rank_fusion(*rankings).ids[0, :2].tolist() == [4, 30]
    three = [[[("p", 3), ("q", 2), ("r", 1)]], [[("q", 3), ("r", 2), ("p", 1)]], [[("r", 3), ("p", 2), ("q", 1)]]]
    assert hybrid.reciprocal_rank_fusion(*three, k=3).ids[0].tolist() == ["p", "q", "r"]


def test_one_ranking_keeps_its_order_and_a_repeated_id_its_first_place():
    ranking = [[(5, 9.0), (1, 8.0), (5, 7.0), (2, 7.0)]]
    assert hybrid.reciprocal_rank_fusion(ranking, k=4).ids[0].tolist() == [5, 1, 2, -1]
    assert hybrid.weighted_scores(ranking, weights=[1], k=2).ids[0].tolist() == [5, 1]


def test_results_of_bm25s_name_rows_or_ids_and_shared_no_word_is_missing():
    results = Results(np.array([[2, 0, 1]]), np.array([[4.0, 1.0, 0.0]], np.float32))
    hits = hybrid.from_bm25s(results, ["a", "b", "c"])
    assert hits.to_lists() == [[("c", 4.0), ("a", 1.0)]]
    assert hybrid.from_bm25s(results, [10, 20, 30]).ids.tolist() == [[30, 10, -1]]
    assert hybrid.from_bm25s(Results(np.array([["c", "a", "b"]]), results.scores)).ids.tolist() == [["c", "a", None]]
    with pytest.raises(ParameterError, match="row 2"):
        hybrid.from_bm25s(results, ["a", "b"])
    with pytest.raises(DtypeError, match="leave ids out"):
        hybrid.from_bm25s(Results(np.array([["c", "a", "b"]]), results.scores), ["a", "b", "c"])


def test_a_retriever_of_bm25s():
    bm25s = pytest.importorskip("bm25s")
    texts, names = ["a cat sits", "a dog barks", "cats and dogs bark"], np.array(["p", "q", "r"])
    retriever = bm25s.BM25()
    retriever.index(bm25s.tokenize(texts, show_progress=False), show_progress=False)
    asked = bm25s.tokenize(["cat", "zebra"], show_progress=False)
    rows = retriever.retrieve(asked, k=2, show_progress=False)
    named = retriever.retrieve(asked, k=2, corpus=names, show_progress=False)
    assert hybrid.from_bm25s(rows, names).to_lists()[1] == []
    assert hybrid.from_bm25s(rows, names).ids[0, 0] == "p"
    dense = [[("q", 1.0)], [("r", 1.0)]]
    assert hybrid.reciprocal_rank_fusion(dense, named).ids[:, 0].tolist() == ["p", "r"]


def test_hits_of_an_index_are_joined():
    rows = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    index = annvq.build(rows, "flat", ids=[f"d{i}" for i in range(50)])
    found = index.search(rows[:4], k=60)
    joined = hybrid.reciprocal_rank_fusion(found, found, k=50)
    assert joined.ids.tolist() == found.ids[:, :50].tolist()


@pytest.mark.parametrize(
    ("rankings", "error", "message"),
    [
        ((), ParameterError, "at least one"),
        ((DENSE, WORDS[:1]), ShapeError, "2, 1 queries"),
        ((DENSE, [[(1, 2.0)], []]), DtypeError, "one kind in all"),
        (([[("a", 1.0), ("b", 2.0)]],), ParameterError, "ranking 0, query 0 is not best first"),
        ((DENSE, [[("a", float("nan"))], []]), NonFiniteError, "ranking 1, query 0: score nan of id 'a'"),
        (([["a", "b"]],), ShapeError, r"'a', expected a pair \(id, score\)"),
        (([[(1.5, 2.0)]],), DtypeError, "id 1.5 of float"),
        (([[(True, 2.0)]],), DtypeError, "id True of bool"),
        (("abc",), ShapeError, "ranking 0: str"),
        (([3],), ShapeError, "ranking 0, query 0: int"),
        (((np.zeros((2, 3)), np.zeros((2, 4))),), ShapeError, "two arrays"),
        (((1, 2, 3),), ShapeError, "a tuple of 3"),
    ],
)
def test_what_is_no_ranking_is_refused(rankings, error, message):
    with pytest.raises(error, match=message):
        hybrid.reciprocal_rank_fusion(*rankings)


@pytest.mark.parametrize("weights", [[], [1], [0, 0], [1, -1], [1, float("nan")], ["a", 1], 3, {"a": 1}])
def test_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises((ParameterError, ShapeError), match="weights"):
        hybrid.weighted_scores(DENSE, WORDS, weights=weights)


@pytest.mark.parametrize("given", [{"k": 0}, {"k": 1.5}, {"constant": -1}, {"constant": INF}])
def test_numbers_out_of_range_are_refused(given):
    with pytest.raises(ParameterError):
        hybrid.reciprocal_rank_fusion(DENSE, WORDS, **given)
