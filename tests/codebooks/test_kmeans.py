from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annvq.codebooks import KMeans
from annvq.errors import CorruptIndexError, DtypeError, NonFiniteError, ParameterError, ShapeError


def blobs(n, d, groups, seed=0, spread=0.5):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((groups, d))
    return (centres[rng.integers(groups, size=n)] + spread * rng.standard_normal((n, d))).astype(np.float32)


def error(vectors, centroids):
    x, c = vectors.astype(np.float64), centroids.astype(np.float64)
    distances = np.square(x).sum(1)[:, None] - 2 * x @ c.T + np.square(c).sum(1)
    return distances.min(axis=1).mean()


def test_error_does_not_grow():
    vectors = blobs(2000, 20, 12)
    errors = [error(vectors, KMeans.train(vectors, 30, niter=niter).centroids) for niter in range(9)]
    assert all(after <= before * (1 + 1e-6) for before, after in pairwise(errors))
    assert errors[-1] < 0.8 * errors[0]


@pytest.mark.parametrize("init", ["random", "k-means++"])
@pytest.mark.parametrize("options", [{}, {"metric": "ip"}, {"balance": 0.5}, {"sample": 900}])
def test_same_bytes_for_any_threads(init, options):
    vectors = blobs(2000, 17, 9)
    runs = [KMeans.train(vectors, 21, init=init, seed=5, threads=threads, **options) for threads in (1, 2, 3)]
    assert len({run.centroids.tobytes() for run in runs}) == 1
    other = KMeans.train(vectors, 21, init=init, seed=6, **options)
    assert other.centroids.tobytes() != runs[0].centroids.tobytes()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    n=st.integers(1, 64), d=st.integers(1, 20), distinct=st.integers(1, 64), threads=st.integers(1, 2),
    init=st.sampled_from(["random", "k-means++"]), seed=st.integers(0, 2**31), data=st.data(),
)  # fmt: skip
def test_training_on_integers(n, d, distinct, threads, init, seed, data):
    """Starts are vectors, one iteration makes exact means, more never err more."""
    rng, k = np.random.default_rng(seed), data.draw(st.integers(1, n))
    vectors = rng.integers(-9, 10, (distinct, d))[rng.integers(distinct, size=n)].astype(np.float32)
    start, once, more = (
        KMeans.train(vectors, k, init=init, niter=niter, seed=seed, threads=threads) for niter in (0, 1, 7)
    )
    rows, found = ({tuple(row) for row in array.tolist()} for array in (vectors, start.centroids))
    assert found <= rows
    assert init == "random" or len(found) == min(k, len(rows))
    labels, scores = start.assign(vectors)
    distances = np.square(vectors[:, None].astype(np.float64) - start.centroids).sum(axis=2)
    assert np.array_equal(scores, -distances.min(axis=1))
    assert np.array_equal(distances[np.arange(n), labels], distances.min(axis=1))
    for j in np.unique(labels):
        assert np.array_equal(once.centroids[j], vectors[labels == j].mean(axis=0, dtype=np.float64).astype(np.float32))
    errors = [error(vectors, km.centroids) for km in (start, once, more)]
    assert errors[2] <= errors[1] + 1e-4 <= errors[0] + 2e-4
    assert (vectors.min(axis=0) <= more.centroids).all()
    assert (more.centroids <= vectors.max(axis=0)).all()


def test_finds_clear_clusters():
    vectors = blobs(1000, 10, 8, spread=0.01)
    km = KMeans.train(vectors, 8, init="k-means++")
    assert error(vectors, km.centroids) < 0.01
    assert error(vectors, km.centroids) <= error(vectors, KMeans.train(vectors, 8).centroids)


def test_centroids_are_means():
    vectors = blobs(1500, 12, 5)
    km = KMeans.train(vectors, 10, niter=100)
    labels, scores = km.assign(vectors)
    for j in range(10):
        np.testing.assert_allclose(km.centroids[j], vectors[labels == j].mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(-scores, np.square(vectors - km.centroids[labels]).sum(axis=1), rtol=1e-4)


def test_as_many_centroids_as_vectors():
    vectors = blobs(40, 6, 3)
    km = KMeans.train(vectors, 40)
    assert np.array_equal(np.sort(km.assign(vectors)[0]), np.arange(40))
    assert error(vectors, km.centroids) < 1e-9


@pytest.mark.parametrize("init", ["random", "k-means++"])
@pytest.mark.parametrize("value", [0.0, 1.0, -3e5])
def test_constant_vectors(init, value):
    vectors = np.full((50, 7), value, np.float32)
    km = KMeans.train(vectors, 10, init=init)
    assert np.array_equal(km.centroids, np.full((10, 7), value, np.float32))


def test_fewer_distinct_vectors_than_centroids():
    distinct = blobs(6, 5, 6)
    vectors = np.repeat(distinct, 20, axis=0)
    km = KMeans.train(vectors, 30, niter=30)
    assert np.isfinite(km.centroids).all()
    assert error(vectors, km.centroids) < 1e-6


def test_empty_clusters_are_refilled():
    """Most vectors are alike: nearly all of the first centroids are the same."""
    vectors = np.concatenate([np.zeros((900, 8), np.float32), blobs(100, 8, 10)])
    km = KMeans.train(vectors, 20, niter=20)
    used = np.unique(km.assign(vectors)[0])
    assert len(used) >= 15


def test_spherical():
    vectors = blobs(800, 9, 6)
    assert np.allclose(np.linalg.norm(KMeans.train(vectors, 12, metric="ip").centroids, axis=1), 1, atol=1e-6)
    loose = KMeans.train(vectors, 12, metric="ip", spherical=False, niter=2)
    assert not np.allclose(np.linalg.norm(loose.centroids, axis=1), 1, atol=1e-3)
    tight = KMeans.train(vectors, 12, spherical=True)
    assert np.allclose(np.linalg.norm(tight.centroids, axis=1), 1, atol=1e-6)


def test_balance_evens_lists_out():
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((20, 16))
    groups = (rng.random(6000) ** 3 * 20).astype(int)
    vectors = (centres[groups] + 0.6 * rng.standard_normal((6000, 16))).astype(np.float32)

    def imbalance(balance):
        labels, _ = KMeans.train(vectors, 60, balance=balance, niter=20).assign(vectors)
        return 60 * np.square(np.bincount(labels, minlength=60) / 6000).sum()

    assert imbalance(1.0) - 1 < 0.75 * (imbalance(0.0) - 1)


def test_assign_many():
    vectors = blobs(100, 8, 4)
    km = KMeans.train(vectors, 15)
    labels, scores = km.assign(vectors, 4)
    one_label, one_score = km.assign(vectors)
    assert np.array_equal(labels[:, 0], one_label)
    assert np.array_equal(scores[:, 0], one_score)
    with pytest.raises(ParameterError, match="15"):
        km.assign(vectors, 16)


def test_wrong_input():
    vectors = blobs(10, 4, 2)
    with pytest.raises(ParameterError, match=r"at least 11 vectors, 10"):
        KMeans.train(vectors, 11)
    with pytest.raises(ParameterError, match="at least 5 vectors, the sample is to have 4"):
        KMeans.train(vectors, 5, sample=4)
    for options in ({"metric": "cosine"}, {"init": "best"}, {"niter": -1}, {"balance": -0.1}, {"balance": np.nan}):
        with pytest.raises(ParameterError):
            KMeans.train(vectors, 2, **options)
    with pytest.raises(ParameterError, match="k must be"):
        KMeans.train(vectors, 0)
    with pytest.raises(ShapeError):
        KMeans.train(vectors[0], 2)
    with pytest.raises(DtypeError):
        KMeans.train(vectors.astype(complex), 2)
    vectors[3, 1] = np.inf
    with pytest.raises(NonFiniteError, match="row 3"):
        KMeans.train(vectors, 2)
    with pytest.raises(ShapeError):
        KMeans.train(blobs(10, 4, 2), 2).assign(blobs(10, 5, 2))


def test_half_and_integer_vectors():
    vectors = np.random.default_rng(0).integers(0, 255, (300, 8))
    for dtype in (np.uint8, np.float16, np.float64):
        assert np.array_equal(
            KMeans.train(vectors.astype(dtype), 5).centroids,
            KMeans.train(vectors.astype(np.float32), 5).centroids,
        )


def test_from_arrays():
    km = KMeans.train(blobs(50, 4, 2), 3, metric="ip")
    again = KMeans.from_arrays(km.config(), km.arrays())
    assert again.metric == "ip"
    assert again.centroids.tobytes() == km.centroids.tobytes()
    for config, arrays in (
        ({"metric": "other"}, km.arrays()),
        ({}, km.arrays()),
        (km.config(), {}),
        (km.config(), {"centroids": km.centroids[0]}),
        (km.config(), {"centroids": km.centroids.astype(np.float64)}),
        (km.config(), {"centroids": np.full((2, 2), np.nan, np.float32)}),
        (km.config(), {"centroids": np.empty((0, 4), np.float32)}),
    ):
        with pytest.raises(CorruptIndexError):
            KMeans.from_arrays(config, arrays)


def test_as_good_as_faiss():
    faiss = pytest.importorskip("faiss")
    faiss.omp_set_num_threads(1)  # small work: its threads would only wait for each other
    vectors = blobs(8000, 32, 40, spread=0.8)
    theirs = faiss.Kmeans(32, 64, niter=10, seed=1, max_points_per_centroid=10_000)
    theirs.train(vectors)
    ours = KMeans.train(vectors, 64, niter=10)
    assert error(vectors, ours.centroids) < 1.02 * error(vectors, theirs.centroids)
