from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annvq.kernels.clusters.assign import assign, assign_many, assign_to, sites
from annvq.kernels.registers.tiles import LANES, ROWS
from annvq.kernels.vectors import gemm

SHAPES = [
    (1, 1, 1),
    (31, 3, 2),
    (32, 15, 16),
    (33, 16, 17),
    (LANES, 17, ROWS),
    (LANES + 1, 40, ROWS + 1),
    (700, 97, 130),
]


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def exact_scores(vectors, centroids, metric):
    x, c = vectors.astype(np.float64), centroids.astype(np.float64)
    if metric == "ip":
        return x @ c.T
    return -np.square(x[:, None] - c[None]).sum(axis=2)


@pytest.mark.parametrize("metric", ["l2", "ip"])
@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
def test_assign_is_nearest(n, d, k, metric):
    vectors, centroids = normal(n, n, d), normal(k, k, d)
    labels, scores = assign(vectors, centroids, metric=metric)
    exact = exact_scores(vectors, centroids, metric)
    assert labels.dtype == np.int32
    assert scores.dtype == np.float32
    best = exact.max(axis=1)
    np.testing.assert_allclose(exact[np.arange(n), labels], best, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(scores, exact[np.arange(n), labels], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_no_vectors(metric):
    labels, scores = assign(normal(0, 0, 5), normal(1, 3, 5), metric=metric, threads=2)
    assert labels.shape == scores.shape == (0,)
    labels, scores = assign_many(normal(0, 0, 5), normal(1, 3, 5), metric=metric, n_best=2)
    assert labels.shape == scores.shape == (0, 2)


@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_same_bytes_for_any_threads_and_split(metric):
    vectors, centroids = normal(0, 2500, 50), normal(1, 77, 50)
    labels, scores = assign(vectors, centroids, metric=metric)
    for threads in (2, 3):
        again = assign(vectors, centroids, metric=metric, threads=threads)
        assert np.array_equal(again[0], labels)
        assert again[1].tobytes() == scores.tobytes()
    for cuts in ([0, 1, 2500], [0, 63, 64, 65, 1300, 2500]):
        parts = [assign(vectors[a:b], centroids, metric=metric) for a, b in pairwise(cuts)]
        assert np.array_equal(np.concatenate([part[0] for part in parts]), labels)
        assert np.concatenate([part[1] for part in parts]).tobytes() == scores.tobytes()


@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_ties_go_to_the_lower_centroid(metric):
    centroids = np.repeat(normal(3, 9, 20), 5, axis=0)  # each five times
    vectors = normal(4, 200, 20)
    labels, _ = assign(vectors, centroids, metric=metric)
    assert np.all(labels % 5 == 0)
    many, scores = assign_many(vectors, centroids, metric=metric, n_best=7)
    assert np.array_equal(many[:, :5] - many[:, :1], np.tile(np.arange(5), (200, 1)))
    assert np.all(np.diff(scores, axis=1) <= 0)


def test_far_from_the_origin():
    """|x|^2 is 10^10 times the distances: without the shift float32 could not tell them apart."""
    centroids = normal(5, 50, 24) + np.float32(1e4)
    vectors = normal(6, 500, 24) + np.float32(1e4)
    labels, scores = assign(vectors, centroids, metric="l2")
    exact = exact_scores(vectors, centroids, "l2")
    np.testing.assert_allclose(exact[np.arange(500), labels], exact.max(axis=1), rtol=1e-3)
    np.testing.assert_allclose(scores, exact.max(axis=1), rtol=1e-3)


def test_penalties_push_away():
    vectors, centroids = normal(7, 400, 8), normal(8, 5, 8)
    penalties = np.array([0, 1e6, 0, 1e6, 0.0])
    labels, _ = assign_to(vectors, sites(centroids, "l2", penalties), 1)
    assert set(np.unique(labels)) == {0, 2, 4}


def test_non_finite_vectors_still_get_a_label():
    vectors = normal(9, 4, 6)
    vectors[0] = np.nan
    vectors[1, 2] = np.inf
    vectors[2] = 1e30
    labels, _ = assign(vectors, normal(10, 3, 6), metric="l2")
    assert np.all((labels >= 0) & (labels < 3))


@pytest.mark.parametrize("metric", ["l2", "ip"])
@pytest.mark.parametrize("n_best", [1, 2, 9, 30])
def test_assign_many_is_the_sorted_head(metric, n_best):
    vectors, centroids = normal(11, 130, 33), normal(12, 30, 33)
    labels, scores = assign_many(vectors, centroids, metric=metric, n_best=n_best, threads=2)
    exact = exact_scores(vectors, centroids, metric)
    np.testing.assert_allclose(scores, -np.sort(-exact, axis=1)[:, :n_best], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(scores, np.take_along_axis(exact, labels.astype(int), 1), rtol=1e-5, atol=1e-5)
    assert all(len(set(row)) == n_best for row in labels.tolist())
    if n_best == 1:
        one = assign(vectors, centroids, metric=metric)
        assert np.array_equal(labels[:, 0], one[0])
        assert scores[:, 0].tobytes() == one[1].tobytes()


@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
def test_products(n, d, k):
    rows, others = normal(n, n, d), normal(k + 1, k, d)
    panels = gemm.pack(others)
    out = gemm.products(rows, panels, k)
    np.testing.assert_allclose(out, rows.astype(np.float64) @ others.T, rtol=1e-4, atol=1e-4)
    one_by_one = np.concatenate([gemm.products(rows[i : i + 1], panels, k) for i in range(n)])
    assert out.tobytes() == one_by_one.tobytes()
    assert out.tobytes() == gemm.products(rows, panels, k, threads=3).tobytes()


PROPERTY = settings(max_examples=25, deadline=None, derandomize=True)
SEEDS = st.integers(0, 2**31)


@PROPERTY
@given(
    n=st.one_of(st.integers(0, 40), st.sampled_from([255, 256, 257, 520])), d=st.integers(0, 40),
    k=st.one_of(st.integers(0, 140), st.sampled_from([0, 15, 31, 63, 64, 65, 127, 128])),
    scale=st.sampled_from([2.0**-50, 1.0, 2.0**50]), threads=st.integers(1, 3), seed=SEEDS,
)  # fmt: skip
def test_products_of_integers_are_exact(n, d, k, scale, threads, seed):
    rng = np.random.default_rng(seed)
    rows, others = rng.integers(-99, 100, (n, d)), rng.integers(-99, 100, (k, d))
    panels = gemm.pack((scale * others).astype(np.float32))
    out = gemm.products((scale * rows).astype(np.float32), panels, k, threads=threads)
    assert out.dtype == np.float32
    assert np.array_equal(out, scale**2 * (rows @ others.T))


def balanced(rng, k, d):
    """Return integers (k, d) of few values whose mean is an integer too: less it, none is rounded."""
    half = rng.integers(-2, 3, (k // 2, d))
    rows = np.concatenate([half, -half, np.zeros((k % 2, d))]) + rng.integers(-99, 100, d)
    return rng.permutation(rows).astype(np.float32)


@PROPERTY
@given(
    n=st.integers(0, 100), d=st.integers(1, 40), k=st.integers(1, 70), n_best=st.integers(1, 70),
    metric=st.sampled_from(["l2", "ip"]), penalized=st.booleans(), threads=st.integers(1, 3), seed=SEEDS,
)  # fmt: skip
def test_assignment_of_integers_is_exact(n, d, k, n_best, metric, penalized, threads, seed):
    """Near the centroids or not, labels and scores are NumPy's, ties included."""
    rng, n_best = np.random.default_rng(seed), min(n_best, k)
    centroids = balanced(rng, k, d)
    vectors = (centroids[rng.integers(k, size=n)] + rng.integers(-2, 3, (n, d))).astype(np.float32)
    exact = exact_scores(vectors, centroids, metric)
    many, scores = assign_many(vectors, centroids, metric=metric, n_best=n_best, threads=threads)
    assert np.array_equal(many, np.argsort(-exact, axis=1, kind="stable")[:, :n_best])
    assert np.array_equal(scores, np.take_along_axis(exact, many.astype(int), 1))
    penalties = rng.integers(0, 9 * penalized + 1, k).astype(np.float64)
    labels, scores = assign_to(vectors, sites(centroids, metric, penalties), threads)
    deciding = exact / (2 if metric == "l2" else 1) - penalties  # L2: less |x|^2 / 2, of all alike
    assert np.array_equal(labels, deciding.argmax(axis=1))
    assert np.array_equal(scores, exact[np.arange(n), labels])


@PROPERTY
@given(n=st.integers(0, 150), d=st.integers(1, 40), k=st.integers(1, 70), seed=st.integers(0, 2**31))
def test_integers_are_exact(n, d, k, seed):
    """Small integers leave nothing to rounding: labels are those of NumPy's arg-min, ties included."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-3, 4, (n, d)).astype(np.float32)
    centroids = rng.integers(-3, 4, (k, d)).astype(np.float32)
    centroids -= centroids.mean(axis=0, dtype=np.float64).round().astype(np.float32)
    exact = exact_scores(vectors, centroids, "ip")
    labels, scores = assign(vectors, centroids, metric="ip")
    assert np.array_equal(labels, exact.argmax(axis=1))
    assert np.array_equal(scores, exact.max(axis=1))
