"""The same index on a device: hits and scores are those of the CPU, to the bit."""

import numpy as np
import pytest

import annvq

N, D = 333, 37


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(1)
    made = rng.normal(size=(N, D)).astype(np.float32)
    made[7] = made[3]  # equal scores
    return made


@pytest.fixture(scope="module")
def queries(vectors):
    made = np.random.default_rng(2).normal(size=(3, D)).astype(np.float32)
    made[0] = vectors[3]
    return made


def same(hits, wanted):
    np.testing.assert_array_equal(hits.ids, wanted.ids)
    assert hits.scores.tobytes() == wanted.scores.tobytes()


@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
@pytest.mark.parametrize("recipe", ["flat", "SQ8", "SQfp16", "IVF4,Flat", "IVF4,SQ8"])
def test_rows(recipe, metric, vectors, queries):
    index = annvq.build(vectors, recipe, metric=metric)
    there = index.to("interpreter")
    for k in (1, 10):
        same(there.search(queries, k, nprobe=2), index.search(queries, k, nprobe=2))


@pytest.mark.parametrize("recipe", ["SQ8", "IVF4,Flat"])
def test_filters(recipe, vectors, queries):
    index = annvq.build(vectors, recipe, metric="l2", attributes={"page": np.arange(N) % 5})
    there = index.to("interpreter")
    for given in (np.arange(5), np.arange(N) % 2 == 0, "page >= 2"):
        same(there.search(queries, 10, filter=given), index.search(queries, 10, filter=given))


def test_changes(vectors, queries):
    index = annvq.build(vectors, "IVF4,Flat", metric="l2")
    there = index.to("interpreter")
    there.remove([3, 5])
    same(there.search(queries, 4), index.search(queries, 4))
    index.add(vectors[:40] + 0.1)
    same(there.search(queries, 4), index.search(queries, 4))


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("recipe", ["flat", "SQ8", "SQfp16", "IVF4,Flat"])
def test_many_queries_are_proposed_on_tensor_cores(recipe, metric, vectors):
    index = annvq.build(vectors[:150], recipe, metric=metric)
    queries = vectors[:20] + np.float32(0.01)
    queries[:3] = vectors[:3]
    same(index.to("interpreter").search(queries, 5, nprobe=4), index.search(queries, 5, nprobe=4))
