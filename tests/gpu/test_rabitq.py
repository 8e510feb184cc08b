"""RaBitQ codes on a device: hits and scores are those of the CPU, to the bit."""

import numpy as np
import pytest
from alike import same, same_search

import annvq

N, D = 140, 70


@pytest.fixture(scope="module")
def vectors():
    made = np.random.default_rng(1).normal(size=(N, D)).astype(np.float32)
    made[7] = made[3]  # equal scores
    made[50] = 0.0
    return made


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("nbits", [1, 2, 4, 8, *(pytest.param(bits, marks=pytest.mark.slow) for bits in (3, 5, 6, 7))])
def test_few_queries(device, nbits, metric, vectors):
    index = annvq.build(vectors, f"IVF3,RaBitQ{nbits}", metric=metric)
    queries = np.vstack([vectors[:1], np.random.default_rng(nbits).normal(size=(1, D)) * 100])
    there = index.to(device)
    same_search(there, index, queries, 20, nprobe=2)


@pytest.mark.parametrize(("recipe", "metric"), [("RaBitQ", "cosine"), ("IVF3,RaBitQ4", "l2"), ("RaBitQ8", "ip")])
def test_many_queries(device, recipe, metric, vectors):
    index = annvq.build(vectors, recipe, metric=metric, **({"zero": "score-0"} if metric == "cosine" else {}))
    queries = vectors[:17] + np.float32(0.1)
    same_search(index.to(device), index, queries, 5, nprobe=3)


@pytest.mark.parametrize(("recipe", "refine"), [("IVF3,RaBitQ1", ""), ("IVF3,RaBitQ4", ",Refine(SQfp16)")])
def test_filters_and_radius(device, recipe, refine, vectors):
    index = annvq.build(vectors, recipe + refine, metric="l2")
    there, queries = index.to(device), vectors[:2] + np.float32(0.2)
    for given in ([1, 5, 9], np.arange(N) % 2 == 0):
        same_search(there, index, queries, 10, filter=given)
    wanted = index.range_search(queries, 120.0)
    assert len(wanted.ids)
    same(there.range_search(queries, 120.0), wanted)


@pytest.mark.parametrize("dim", [1, 63, 64, 130, 200])
def test_prepared_queries_are_those_of_the_cpu(device, dim):
    import torch

    from annvq.codebooks import RaBitQCodebook
    from annvq.gpu.codes.kind import ResidentProbes
    from annvq.gpu.codes.rabitq import ResidentRaBitQ
    from annvq.index.codes.rabitq import RaBitQCodes

    queries = np.random.default_rng(dim).normal(size=(6, dim)).astype(np.float32)
    queries[1], queries[2], queries[3] = 0.0, 1e-20, queries[0] * 1e15
    codebook = RaBitQCodebook.train(queries, nbits=4)
    where = torch.device("cpu" if device == "interpreter" else device)
    resident = ResidentRaBitQ(RaBitQCodes(codebook, "l2", np.zeros((1, dim), np.float32)), where)
    none = torch.zeros((6, 1), dtype=torch.float32, device=where)
    made = resident.prepare(torch.from_numpy(queries).to(where), ResidentProbes(none.long(), none))
    wanted = codebook.prepare_trusted(queries)
    words = codebook.padded_dim // 64
    planes = np.ascontiguousarray(wanted.planes[:, :, :words]).view(np.int32)
    np.testing.assert_array_equal(made.planes.cpu().numpy(), planes)
    np.testing.assert_array_equal(made.levels[:, 0].cpu().numpy(), wanted.high.view(np.int8))
    np.testing.assert_array_equal(made.levels[:, 1].cpu().numpy(), wanted.low.view(np.int8))
    assert made.factors.cpu().numpy().tobytes() == wanted.factors.tobytes()
    np.testing.assert_array_equal(made.totals.cpu().numpy(), wanted.totals)


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_distances_to_centroids_are_those_of_the_cpu(device, metric):
    import torch

    from annvq.codebooks import RaBitQCodebook
    from annvq.gpu.codes.rabitq import ResidentRaBitQ
    from annvq.index.codes.probes import Probes
    from annvq.index.codes.rabitq import RaBitQCodes

    rng = np.random.default_rng(0)
    queries, centroids = rng.normal(size=(70, 21)).astype(np.float32), rng.normal(size=(5, 21)).astype(np.float32)
    bases = queries @ centroids.T if metric == "ip" else -np.square(queries[:, None] - centroids).sum(axis=2)
    codes = RaBitQCodes(RaBitQCodebook.train(queries, nbits=8), metric, centroids)
    lists = np.tile(np.arange(5), (70, 1))
    wanted = codes.prepare(queries, Probes(lists, np.full(70, 5), bases)).distances
    where = torch.device("cpu" if device == "interpreter" else device)
    found = ResidentRaBitQ(codes, where)._distances(*(torch.from_numpy(one).to(where) for one in (queries, bases)))
    assert found.cpu().numpy().tobytes() == wanted.tobytes()
