"""Labels that products of bytes propose, against distances in float64."""

from itertools import pairwise

import numpy as np
import pytest

from annvq.kernels.clusters.propose import byte_sites, labels_of


def normal(n, d, seed, spread=1.0):
    return (np.random.default_rng(seed).normal(size=(n, d)) * spread).astype(np.float32)


def squared_distances(vectors, centroids):
    differences = vectors[:, None].astype(np.float64) - centroids
    return np.square(differences).sum(axis=2)


@pytest.mark.parametrize(("n", "d", "k"), [(1, 1, 1), (5, 3, 2), (67, 16, 64), (130, 17, 65), (300, 100, 200)])
@pytest.mark.parametrize("far", [0, 300])
def test_labels_are_nearest(n, d, k, far):
    vectors, centroids = normal(n, d, 0) + np.float32(far), normal(k, d, 1) + np.float32(far)
    labels = labels_of(vectors, byte_sites(centroids), 1)
    between = squared_distances(vectors, centroids)
    assert labels.dtype == np.int32
    np.testing.assert_allclose(between[np.arange(n), labels], between.min(axis=1), rtol=1e-5)


def test_scales_of_dimensions_and_rows_differ():
    spread = np.geomspace(1, 100, 40)
    vectors, centroids = normal(500, 40, 0, spread), normal(70, 40, 1, spread)
    vectors *= np.geomspace(0.01, 10, 500)[:, None].astype(np.float32)
    labels = labels_of(vectors, byte_sites(centroids), 1)
    between = squared_distances(vectors, centroids)
    assert (between[np.arange(500), labels] <= between.min(axis=1) * (1 + 1e-5)).all()


def test_penalties_count_and_equal_centroids_go_to_the_first():
    vectors, centroids = normal(200, 8, 0), normal(10, 8, 1)
    penalties = np.linspace(0, 3, 10)
    labels = labels_of(vectors, byte_sites(centroids, penalties), 1)
    penalized = squared_distances(vectors, centroids) / 2 + penalties
    np.testing.assert_allclose(penalized[np.arange(200), labels], penalized.min(axis=1), rtol=1e-5)
    assert not labels_of(vectors, byte_sites(np.repeat(centroids[:1], 70, axis=0)), 1).any()
    assert not labels_of(vectors, byte_sites(np.zeros((3, 8), np.float32)), 1).any()


def test_labels_do_not_depend_on_threads_or_batches():
    vectors, sites = normal(2500, 24, 0), byte_sites(normal(90, 24, 1))
    labels = labels_of(vectors, sites, 1)
    assert labels_of(vectors, sites, 3).tobytes() == labels.tobytes()
    cuts = [0, 1, 2, 7, 64, 1000, 2500]
    parts = [labels_of(vectors[a:b], sites, 1) for a, b in pairwise(cuts)]
    assert np.concatenate(parts).tobytes() == labels.tobytes()
    assert labels_of(vectors[:0], sites, 2).shape == (0,)


@pytest.mark.parametrize("scale", [1e-30, 1e18])
def test_extreme_scales(scale):
    vectors, centroids = normal(100, 12, 0, scale), normal(20, 12, 1, scale)
    labels = labels_of(vectors, byte_sites(centroids), 1)
    assert ((labels >= 0) & (labels < 20)).all()
    if scale > 1:
        between = squared_distances(vectors, centroids)
        np.testing.assert_allclose(between[np.arange(100), labels], between.min(axis=1), rtol=1e-5)
