import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annvq.errors import DtypeError, ParameterError, ShapeError, ZeroVectorError
from annvq.evaluation import exact, exact_neighbors, exact_scores


def plain(base, queries, k, metric):
    """Score every pair alone in float64 and sort by (score descending, row ascending)."""
    base, queries = base.astype(np.float64), queries.astype(np.float64)
    rows = np.full((len(queries), k), -1)
    for q, query in enumerate(queries):
        if metric == "l2":
            scores = [-(((row - query) ** 2).sum()) for row in base]
        else:
            scores = [(row * query).sum() for row in base]
            if metric == "cosine":
                scores = [s / np.linalg.norm(row) / np.linalg.norm(query) for s, row in zip(scores, base)]
        order = sorted(range(len(base)), key=lambda row: (-scores[row], row))[:k]
        rows[q, : len(order)] = order
    return rows


@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
@pytest.mark.parametrize("n", [1, 31, 32, 33, 100])
def test_it_equals_a_plain_loop(metric, n):
    rng = np.random.default_rng(n)
    base, queries = rng.normal(size=(n, 7)).astype(np.float32), rng.normal(size=(5, 7)).astype(np.float32)
    rows, scores = exact_neighbors(base, queries, 10, metric)
    assert np.array_equal(rows, plain(base, queries, 10, metric))
    assert rows.dtype == np.int64
    assert np.array_equal(scores, exact_scores(base, queries, rows, metric))
    assert np.all(scores[:, min(n, 10) :] == -np.inf)


def test_blocks_of_the_base_do_not_show(monkeypatch):
    rng = np.random.default_rng(0)
    base = rng.integers(0, 3, size=(200, 4)).astype(np.float32)  # many ties across blocks
    queries = rng.integers(0, 3, size=(9, 4)).astype(np.float32)
    whole = exact_neighbors(base, queries, 15, "l2")
    monkeypatch.setattr(exact, "_BASE_BLOCK", 13)
    monkeypatch.setattr(exact, "_QUERY_BLOCK", 2)
    blocked = exact_neighbors(base, queries, 15, "l2")
    assert np.array_equal(whole[0], blocked[0])
    assert np.array_equal(whole[1], blocked[1])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(1, 40), st.integers(1, 12), st.sampled_from(["ip", "l2"]), st.integers(0, 2**32 - 1))
def test_equal_rows_have_equal_scores_and_stand_by_row(n, k, metric, seed):
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(5, 3)).astype(np.float32)[rng.integers(0, 5, n)]
    queries = rng.normal(size=(3, 3)).astype(np.float32)
    rows, scores = exact_neighbors(base, queries, k, metric)
    assert np.array_equal(rows, plain(base, queries, k, metric))
    ties = (scores[:, 1:] == scores[:, :-1]) & (rows[:, 1:] >= 0)
    assert np.all(np.diff(rows, axis=1)[ties] > 0)


def test_large_vectors_close_together_are_told_apart():
    base = (1e4 + np.arange(5)[:, None] * np.ones((1, 64)) * 1e-2).astype(np.float32)
    rows, _ = exact_neighbors(base, base[3:4], 3, "l2")
    assert rows[0, 0] == 3  # float32 arithmetic would lose the differences in the squares


def test_bytes_do_not_overflow():
    base = np.full((3, 300), 255, np.uint8)
    _, scores = exact_neighbors(base, np.zeros((1, 300), np.uint8), 1, "l2")
    assert scores[0, 0] == -300 * 255.0**2


def test_empty_sides():
    rows, scores = exact_neighbors(np.empty((0, 4), np.float32), np.ones((2, 4)), 3, "ip")
    assert np.all(rows == -1)
    assert np.all(scores == -np.inf)
    assert exact_neighbors(np.ones((2, 4)), np.empty((0, 4)), 3, "ip")[0].shape == (0, 3)


def test_what_is_masked_is_no_number():
    masked = np.ma.masked_array(np.ones((2, 2)), [[True, False], [False, False]])
    for base, queries in ((masked, np.ones((1, 2))), (np.ones((2, 2)), masked)):
        with pytest.raises(DtypeError, match="masked"):
            exact_neighbors(base, queries, 1)
    with pytest.raises(DtypeError, match="masked"):
        exact_scores(np.ones((2, 2)), np.ones((1, 2)), np.ma.masked_array([[0, 1]], [[True, False]]))
    assert exact_neighbors(np.ma.masked_array(np.ones((2, 2))), np.ones((1, 2)), 1)[0].tolist() == [[0]]


def test_bad_input_is_refused():
    ones = np.ones((2, 4))
    with pytest.raises(ShapeError):
        exact_neighbors(ones, np.ones((2, 5)), 1)
    with pytest.raises(ShapeError):
        exact_neighbors(ones, np.ones(4), 1)
    with pytest.raises(ParameterError):
        exact_neighbors(ones, ones, 0)
    with pytest.raises(ParameterError):
        exact_neighbors(ones, ones, 1, "euclidean")
    with pytest.raises(ZeroVectorError):
        exact_neighbors(np.zeros((2, 4)), ones, 1, "cosine")
