"""Centroids and codebooks that are learned on a device: those of the CPU, to the bit."""

import numpy as np
import pytest
import torch

from annvq.codebooks.product import start_codebooks, train_codebooks
from annvq.gpu import trained
from annvq.gpu.training.points import PointsThere
from annvq.gpu.training.subspaces import learned_codebooks
from annvq.kernels.clusters.lloyd import sum_members
from annvq.kernels.clusters.propose import byte_sites, labels_of
from annvq.kernels.vectors import gemm


@pytest.fixture
def where(device):
    return torch.device("cpu" if device == "interpreter" else device)


@pytest.mark.parametrize(("n", "k", "d"), [(1, 1, 1), (33, 7, 5), (70, 130, 17), (65, 3, 64)])
def test_labels_are_those_of_the_cpu_and_the_nearest(where, n, k, d):
    rng = np.random.default_rng(n)
    rows = rng.normal(size=(n, d)).astype(np.float32)
    centroids = rng.normal(size=(k, d)).astype(np.float32)
    found = PointsThere(rows, where).labels(byte_sites(centroids))
    np.testing.assert_array_equal(found, labels_of(rows, byte_sites(centroids), 1))
    distances = np.square(rows[:, None].astype(np.float64) - centroids).sum(axis=2)
    np.testing.assert_allclose(distances[np.arange(n), found], distances.min(axis=1), rtol=1e-5)


def test_labels_with_penalties_ties_and_many_centroids_that_are_near(where):
    rng = np.random.default_rng(5)
    rows = np.repeat(rng.normal(size=(3, 12)), 11, axis=0).astype(np.float32)
    centroids = np.concatenate([np.zeros((2, 12)), np.repeat(rows[:3], 20, axis=0) + 1e-6]).astype(np.float32)
    centroids = np.concatenate([centroids, centroids])  # of two equal ones, the first; more are near than a row lists
    penalties = np.linspace(0, 1e-3, len(centroids))
    for given in (None, penalties):
        sites = byte_sites(centroids, given)
        found = PointsThere(rows, where).labels(sites)
        np.testing.assert_array_equal(found, labels_of(rows, sites, 1))
    assert (found < 62).all()


def test_no_rows_have_no_labels(where):
    assert len(PointsThere(np.empty((0, 4), np.float32), where).labels(byte_sites(np.eye(4, dtype=np.float32)))) == 0


@pytest.mark.parametrize("d", [1, 5, 130])
def test_sums_are_those_of_the_cpu(where, d):
    rng = np.random.default_rng(d)
    rows = (rng.normal(size=(20, d)) * 10.0 ** rng.integers(-9, 9, (20, 1))).astype(np.float32)
    labels = rng.integers(0, 4, 20)
    labels[labels == 2] = 3  # a cluster without members
    order, starts = np.argsort(labels, kind="stable"), np.searchsorted(np.sort(labels), np.arange(5))
    wanted = np.empty((4, d))
    sum_members(rows, order, starts, 0, 4, wanted)
    found = PointsThere(rows, where).sums(order, starts)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_allclose(found[1], rows[labels == 1].astype(np.float64).sum(axis=0), rtol=1e-9, atol=1e-12)
    assert not found[2].any()


@pytest.mark.parametrize(
    ("n", "d", "M", "ksub", "niter"), [(37, 6, 3, 16, 3), (30, 7, 3, 16, 2), (50, 5, 2, 16, 2), (12, 4, 2, 16, 2)]
)
def test_codebooks_are_those_of_the_cpu(where, n, d, M, ksub, niter):
    """Among them sub-spaces of two dimensions, of more than the vectors have, and with more entries than points."""
    rng = np.random.default_rng(n)
    rows = rng.normal(size=(n, d)).astype(np.float32) + 100
    start = start_codebooks(rows, M, ksub, rng)
    np.testing.assert_array_equal(learned_codebooks(rows, start, niter, where), train_codebooks(rows, start, niter, 1))


@pytest.mark.slow
def test_codebooks_of_256_entries_with_empty_ones(where):
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(90, 6)).astype(np.float32)
    start = start_codebooks(rows, 2, 256, rng)
    np.testing.assert_array_equal(learned_codebooks(rows, start, 3, where), train_codebooks(rows, start, 3, 1))


def test_products_of_many_rows_are_of_several_grids(where, monkeypatch):
    """A grid has at most 65,535 programs along its second axis."""
    grids, launch = [], trained.launch

    def noted(kernel, grid, *given, **named):
        grids.append(grid)
        launch(kernel, grid, *given, **named)

    monkeypatch.setattr("annvq.gpu.trained._MOST_PROGRAMS", 1)
    monkeypatch.setattr(trained, "launch", noted)
    rng = np.random.default_rng(2)
    rows, matrix = rng.normal(size=(70, 3)).astype(np.float32), rng.normal(size=(5, 3)).astype(np.float32)
    there = torch.from_numpy(rows).to(where)
    found = trained.multiplied(there, torch.from_numpy(matrix.T.copy()).to(where)).cpu().numpy()
    np.testing.assert_array_equal(found, gemm.products(rows, gemm.pack(matrix), 5))
    sites = byte_sites(matrix)
    in_bytes = trained.in_bytes(sites.matrix, sites.shift, 5, where)
    assert trained.multiplied_in_bytes(there, in_bytes).shape == (70, 5)
    assert [grid[1] for grid in grids if isinstance(grid, tuple)] == [1] * 4
