"""Exact neighbours where float64 has few digits to spare: against rational numbers, and differences in float64."""

from fractions import Fraction

import numpy as np
import pytest

from annvq.errors import NonFiniteError, ZeroVectorError
from annvq.evaluation import exact, exact_neighbors, exact_scores


def rational(vector):
    return [Fraction(float(value)) for value in vector]


def key(row, query, metric):
    """Return a number that orders as the metric does, without rounding."""
    if metric == "l2":
        return -sum((a - b) ** 2 for a, b in zip(row, query))
    product = sum(a * b for a, b in zip(row, query))
    return product if metric == "ip" else abs(product) * product / sum(a * a for a in row)


def truth(base, queries, k, metric):
    """Return the rows of largest keys, the lower row among equals."""
    exact_base = [rational(row) for row in base]
    found = []
    for query in queries:
        asked = rational(query)
        keys = [key(row, asked, metric) for row in exact_base]
        found.append(sorted(range(len(base)), key=lambda row: (-keys[row], row))[:k])
    return np.array(found)


@pytest.fixture(params=[(4, 3), (32_768, 256)])
def blocks(request, monkeypatch):
    monkeypatch.setattr(exact, "_BASE_BLOCK", request.param[0])
    monkeypatch.setattr(exact, "_QUERY_BLOCK", request.param[1])


@pytest.mark.parametrize("metric", ["ip", "cosine", "l2"])
@pytest.mark.parametrize(
    ("offset", "spread"), [(0, 1), (1e4, 1e-3), (1e6, 1), (1e8, 1), (-1e8, 1e-2), (1e12, 10), (0, 1e-130), (0, 1e130)]
)
def test_neighbors_are_those_of_rational_numbers(blocks, metric, offset, spread):
    rng = np.random.default_rng(0)
    base, queries = rng.normal(size=(40, 5)) * spread + offset, rng.normal(size=(5, 5)) * spread + offset
    base = np.concatenate([base, base[::3], base[:5]])  # equal rows, of which the lower come first
    rows, scores = exact_neighbors(base, queries, 12, metric)
    assert np.array_equal(rows, truth(base, queries, 12, metric))
    assert np.array_equal(scores, exact_scores(base, queries, rows, metric))
    assert np.all(np.diff(scores, axis=1) <= 0)


@pytest.mark.parametrize("metric", ["ip", "cosine", "l2"])
def test_queries_elsewhere(blocks, metric):
    rng = np.random.default_rng(1)
    base = rng.normal(size=(60, 4)) + 1e7
    for queries in (rng.normal(size=(4, 4)), rng.normal(size=(4, 4)) - 1e7, rng.normal(size=(4, 4)) * 1e9):
        if metric != "l2":  # distances of 1e14 have no digits of what parts these rows
            assert np.array_equal(exact_neighbors(base, queries, 9, metric)[0], truth(base, queries, 9, metric))
        else:
            distances = np.square(base - queries[:, None]).sum(2)
            expected = np.argsort(distances, axis=1, kind="stable")[:, :9]
            assert np.array_equal(exact_neighbors(base, queries, 9, metric)[0], expected)


@pytest.mark.parametrize("metric", ["ip", "cosine", "l2"])
def test_clusters_far_apart(blocks, metric):
    rng = np.random.default_rng(2)
    centers = np.array([1e6, -1e6, 0.0, 3e7])[rng.integers(0, 4, 80)]
    base = rng.normal(size=(80, 3)) + centers[:, None]
    queries = base[::16] + 1e-3
    assert np.array_equal(exact_neighbors(base, queries, 20, metric)[0], truth(base, queries, 20, metric))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8, np.int64])
@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_any_dtype_and_layout(blocks, dtype, metric):
    rng = np.random.default_rng(3)
    base, queries = (rng.integers(0, 100, (m, 6)).astype(dtype) for m in (50, 3))
    expected = truth(base, queries, 50, metric)
    for given in (base, np.asfortranarray(base), np.ascontiguousarray(base[::-1])[::-1]):
        assert np.array_equal(exact_neighbors(given, queries, 50, metric)[0], expected)


@pytest.mark.parametrize("d", [1, 2, 7, 8, 9, 127, 128, 129, 300])
@pytest.mark.parametrize("metric", ["ip", "cosine", "l2"])
def test_scores_do_not_depend_on_what_else_is_scored(d, metric):
    rng = np.random.default_rng(d)
    base, queries = rng.normal(size=(30, d)) + 10, rng.normal(size=(4, d))
    rows, scores = exact_neighbors(base, queries, 30, metric)
    for q in range(4):
        for place in (0, 7, 29):
            alone = base[rows[q, place]][None]
            assert exact_neighbors(alone, queries[q : q + 1], 1, metric)[1][0, 0] == scores[q, place]
    expected = np.einsum("qd,nd->qn", queries, base)
    if metric == "l2":
        expected = -np.square(queries[:, None] - base).sum(2)
    elif metric == "cosine":
        expected = expected / np.linalg.norm(queries, axis=1)[:, None] / np.linalg.norm(base, axis=1)
    np.testing.assert_allclose(scores, -np.sort(-expected, axis=1), rtol=1e-12, atol=1e-13)


def test_inner_products_are_rounded_once():
    base = np.array([[1e16, 1.0, -1e16], [1e16, 0.0, -1e16], [0.1, 0.1, 0.1]])
    rows, scores = exact_neighbors(base, np.ones((1, 3)), 3)
    assert rows.tolist() == [[0, 2, 1]]
    assert scores.tolist() == [[1.0, float(3 * Fraction(0.1)), 0.0]]


@pytest.mark.parametrize("metric", ["ip", "cosine", "l2"])
def test_tiny_and_huge_numbers(metric):
    base = np.array([[3.0, 4.0], [4.0, 3.0], [-3.0, 4.0], [3.0, 4.0]])
    expected = exact_neighbors(base, base, 4, metric)[0]
    for scale in (2.0**-500, 2.0**-100, 2.0**500):
        assert np.array_equal(exact_neighbors(base * scale, base * scale, 4, metric)[0], expected)
    if metric == "cosine":
        for scale in (2.0**-1060, 2.0**1020):
            assert np.array_equal(exact_neighbors(base * scale, base * scale, 4, metric)[0], expected)
    else:  # squares of denormal numbers are 0: all are equal
        assert exact_neighbors(base * 2.0**-1060, base * 2.0**-1060, 4, metric)[0][1].tolist() == [0, 1, 2, 3]
        with pytest.raises(NonFiniteError, match="overflow float64"):
            exact_neighbors(base * 2.0**1020, -base * 2.0**1020, 4, metric)


def test_many_equal_rows_stand_by_row(blocks):
    base = np.full((50, 3), 1e8 + 0.25)
    rows, _ = exact_neighbors(base, base[:2] + 1, 60, "l2")
    assert np.array_equal(rows[:, :50], np.tile(np.arange(50), (2, 1)))
    assert np.all(rows[:, 50:] == -1)


@pytest.mark.parametrize("metric", ["ip", "cosine", "l2"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(metric, bad):
    good, spoilt = np.ones((4, 3)), np.ones((4, 3))
    spoilt[2, 1] = bad
    for given in ((spoilt, good), (good, spoilt)):
        with pytest.raises(NonFiniteError, match="row 2 holds NaN or infinity"):
            exact_neighbors(*given, 2, metric)
    with pytest.raises(ZeroVectorError, match="row 1"):
        exact_neighbors(np.diag([1.0, 0.0]), np.ones((1, 2)), 1, "cosine")
