"""Queries that are rotated, and whose lists are chosen, on a device, as on the CPU, to the bit."""

import numpy as np
import pytest
from alike import same_search

import annvq

torch = pytest.importorskip("torch")

from annvq.codebooks import ProductCodebook  # noqa: E402
from annvq.gpu import trained  # noqa: E402
from annvq.gpu.device import resolve  # noqa: E402
from annvq.gpu.trained import ResidentTrained, multiplied  # noqa: E402
from annvq.index.codes.probes import coarse_of  # noqa: E402
from annvq.index.search.stages import probe  # noqa: E402
from annvq.kernels.vectors import gemm  # noqa: E402


@pytest.fixture(scope="module")
def there(device):
    return resolve(device)


def normal(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


class Learned:
    """What `ResidentTrained` reads of an index whose centroids are given."""

    rotation = center = mean = None

    def __init__(self, centroids, l2, codebook=None, *, in_bytes=False):
        self.centroids, self.l2, self.nlist = centroids, l2, len(centroids)
        self.coarse = coarse_of(centroids, l2, codebook, in_bytes=in_bytes)


def same_choice(learned, there, queries, nprobe, need, live):
    wanted = probe(learned, queries, nprobe, need, live)
    found = ResidentTrained(learned, there).probed(torch.from_numpy(queries).to(there), nprobe, need, live)
    lists, scores = found.lists.cpu().numpy(), found.centroid_scores.cpu().numpy()
    for q, count in enumerate(wanted.counts):
        chosen = np.sort(wanted.lists[q, :count])
        np.testing.assert_array_equal(np.sort(lists[q][lists[q] >= 0]), chosen)
        np.testing.assert_array_equal(
            scores[q, chosen].view(np.int32), wanted.centroid_scores[q, chosen].view(np.int32)
        )
    return wanted.counts


@pytest.mark.parametrize(("n", "d", "k"), [(1, 1, 1), (3, 37, 65), (17, 16, 64), (70, 5, 3), (0, 4, 4)])
def test_products_are_summed_in_the_order_of_dimensions(there, n, d, k):
    rows, matrix = normal(n, d) * np.float32(1e3), normal(k, d, 1)
    found = multiplied(torch.from_numpy(rows).to(there), torch.from_numpy(np.ascontiguousarray(matrix.T)).to(there))
    assert found.cpu().numpy().tobytes() == gemm.products(rows, gemm.pack(matrix), k).tobytes()
    np.testing.assert_allclose(found.cpu().numpy(), rows.astype(np.float64) @ matrix.T, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("in_bytes", [False, True])
@pytest.mark.parametrize("l2", [False, True])
@pytest.mark.parametrize(("nq", "d", "nlist"), [(1, 37, 1), (3, 16, 17), (18, 7, 33), (2, 70, 70)])
def test_lists_are_those_of_the_cpu(there, nq, d, nlist, l2, in_bytes):
    centroids, queries = normal(nlist, d) + np.float32(3), normal(nq, d, 1) + np.float32(3)
    queries[0] = centroids[0]
    centroids[-1] = centroids[0]  # equal scores
    queries[-1] = 0
    learned = Learned(centroids, l2, in_bytes=in_bytes)
    live = np.random.default_rng(2).integers(0, 4, nlist)
    live[0] = 5
    for nprobe, need in ((1, 0), (4, 6), (4, 1000), (nlist + 3, 0), (2, int(live.sum()))):
        same_choice(learned, there, queries, nprobe, need, live)


def test_more_lists_for_some_queries_only(there):
    learned = Learned(normal(100, 8), True)
    counts = same_choice(learned, there, normal(9, 8, 1), 4, 30, np.arange(100) % 20)
    assert counts.min() == 4 < counts.max()


@pytest.mark.parametrize("in_bytes", [False, True])
@pytest.mark.parametrize("l2", [False, True])
def test_lists_that_codes_of_centroids_find(there, l2, in_bytes, monkeypatch):
    monkeypatch.setattr(trained, "_AT_ONCE", 2)  # of three queries
    centroids, queries = normal(100, 7), normal(3, 7, 1)
    codebook = ProductCodebook.train(centroids, M=4, nbits=4, seed=0)
    learned = Learned(centroids, l2, codebook, in_bytes=in_bytes)
    every = np.full(100, 3)
    same_choice(learned, there, queries, 2, 4, every)
    same_choice(learned, there, queries, 2, 100, every)  # too many rows for what codes find
    same_choice(learned, there, queries, 2, 4, np.where(np.arange(100) % 7 == 0, 3, 0))


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("recipe", ["OPQ8,IVF4,PQ8x4fsr", "IVF5,PQ9x4fsr", "balanced", "fast", "IVF4,RaBitQ2"])
def test_queries_are_turned_as_on_the_cpu(there, recipe, metric):
    vectors = normal(300, 37)
    learned = annvq.build(vectors, recipe, metric=metric).rows.current.trained
    queries = np.concatenate([vectors[:18] * np.float32(1.5), np.zeros((1, 37), np.float32)])
    found = ResidentTrained(learned, there).turned(torch.from_numpy(queries).to(there))
    assert found.cpu().numpy().tobytes() == learned.turn(queries).tobytes()


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("recipe", ["IVF17,Flat", "IVF5,PQ9x4fsr", "balanced"])
def test_searches_with_lists_that_filters_leave_few_rows(device, recipe, metric):
    vectors = normal(300, 37)
    index = annvq.build(vectors, recipe, metric=metric)
    there = index.to(device)
    for given in (None, np.arange(300) % 3 == 0, np.arange(9)):
        same_search(there, index, vectors[:2], 7, nprobe=2, filter=given)
