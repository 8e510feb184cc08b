"""The same index on a device: hits and scores are those of the CPU, to the bit."""

import numpy as np
import pytest
from alike import same, same_search

import annvq
from annvq.gpu import search

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


@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
@pytest.mark.parametrize("recipe", ["flat", "SQ8", "SQfp16", "IVF4,Flat", "IVF4,SQ8"])
def test_rows(device, recipe, metric, vectors, queries):
    index = annvq.build(vectors, recipe, metric=metric)
    there = index.to(device)
    for k in (1, 10):
        same_search(there, index, queries, k, nprobe=2)


@pytest.mark.parametrize("recipe", ["SQ8", "IVF4,Flat"])
def test_filters(device, recipe, vectors, queries):
    index = annvq.build(vectors, recipe, metric="l2", attributes={"page": np.arange(N) % 5})
    there = index.to(device)
    for given in (np.arange(5), np.arange(N) % 2 == 0, "page >= 2"):
        same_search(there, index, queries, 10, filter=given)


def test_changes(device, vectors, queries):
    index = annvq.build(vectors, "IVF4,Flat", metric="l2")
    there = index.to(device)
    there.remove([3, 5])
    same_search(there, index, queries, 4)
    index.add(vectors[:40] + 0.1)
    same_search(there, index, queries, 4)


@pytest.mark.parametrize(
    ("recipe", "metric"),
    [("flat", "ip"), ("flat", "l2"), ("SQ8", "ip"), ("SQ8", "l2"), ("SQfp16", "ip"), ("IVF4,Flat", "l2")],
)
def test_many_queries_are_proposed_on_tensor_cores(device, recipe, metric, vectors):
    index = annvq.build(vectors[:80], recipe, metric=metric)
    queries = vectors[:20] + np.float32(0.01)
    queries[:3] = vectors[:3]
    same_search(index.to(device), index, queries, 5, nprobe=4)


def test_more_equal_rows_than_pools_hold(device, monkeypatch):
    monkeypatch.setattr(search, "SPARE", 8)
    index = annvq.build(np.ones((60, 16), np.float32), "flat", metric="ip")
    queries = np.ones((16, 16), np.float32)
    same_search(index.to(device), index, queries, 1)


@pytest.mark.parametrize("split", ["replicas", "lists"])
@pytest.mark.parametrize("recipe", ["flat", "IVF5,SQ8"])
def test_several_devices(device, recipe, split, vectors, queries):
    index = annvq.build(vectors, recipe, metric="l2")
    there = index.to([device] * 2, split=split)
    same_search(there, index, queries, 10, nprobe=2)
    same_search(there, index, queries, 3, filter=[0, 3, 332])
    index.add(vectors[:33] + 1)
    index.remove([3])
    same_search(there, index, queries, 10)


@pytest.mark.parametrize(("recipe", "metric"), [("flat", "ip"), ("IVF4,Flat", "l2"), ("IVF4,SQ8", "cosine")])
def test_within_a_radius(device, recipe, metric, vectors, queries):
    index = annvq.build(vectors, recipe, metric=metric)
    index.remove([11])
    radius = abs(float(index.search(queries[:1], 20).scores[0, -1]))
    for given in (None, np.arange(100)):
        found = index.to(device).range_search(queries, radius, nprobe=2, filter=given)
        wanted = index.range_search(queries, radius, nprobe=2, filter=given)
        assert len(wanted.ids) > 5
        same(found, wanted)


def test_explained(device, vectors, queries):
    index = annvq.build(vectors, "IVF4,Flat", metric="l2")
    explained = index.to(device).search(queries, 3, nprobe=2, explain=True).explain
    wanted = index.search(queries, 3, nprobe=2, explain=True).explain
    assert (explained.strategy, explained.lists, explained.rows_scanned) == (
        wanted.strategy, wanted.lists, wanted.rows_scanned,
    )  # fmt: skip
    assert set(explained.seconds) == set(wanted.seconds)


def test_zero_queries_score_0(device, vectors):
    index = annvq.build(np.vstack([vectors, np.zeros((1, D))]), "IVF4,Flat", metric="cosine", zero="score-0")
    queries = np.zeros((2, D), np.float32)
    queries[1] = vectors[0]
    same_search(index.to(device), index, queries, 5)


def test_what_an_index_says_of_itself(device, vectors, tmp_path):
    import copy

    index = annvq.build(vectors, "flat", metric="l2")
    there = index.to(device)
    assert repr(there) == f"Index(n=333, dim=37, metric='l2', recipe='flat', device={there.device!r})"
    assert there.stats()["device"] == there.device
    assert there.stats()["device_bytes"][0] >= 333 * 37 * 4
    assert type(there.to("cpu")) is type(copy.copy(there)) is annvq.Index
    assert there.copy().device == there.device
    there.save(tmp_path / "index")
    assert len(annvq.open(tmp_path / "index")) == 333
    there.close()
    with pytest.raises(annvq.errors.StateError):
        there.search(vectors[:1])


def test_a_budget_that_does_not_hold_the_codes(device, vectors):
    index = annvq.build(vectors, "flat", metric="l2")
    with pytest.raises(annvq.errors.DeviceMemoryError, match=r"take 53,280 bytes, device_bytes=10,000: 62 rows would"):
        index.to(device, device_bytes=10_000)


def test_tune_searches_on_the_device(device, vectors, queries):
    index = annvq.build(vectors, "IVF4,Flat", metric="l2")
    report = index.to(device).tune(queries, k=3, recall=0.9)
    assert report.params.nprobe == index.copy().tune(queries, k=3, recall=0.9).params.nprobe


@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
def test_tensors_come_in_and_go_out(device, metric, vectors, queries):
    import torch

    where = "cpu" if device == "interpreter" else device
    index = annvq.build(vectors, "IVF4,SQ8", metric=metric, ids=np.arange(N) * 7)
    there = index.to(device)
    given = torch.from_numpy(queries).to(where)
    for options in ({"k": 3}, {"k": 4, "offset": 2, "filter": [0, 7, 14]}):
        hits, wanted = there.search(given, **options), index.search(queries, **options)
        assert hits.ids.device == hits.scores.device == given.device
        np.testing.assert_array_equal(hits.ids.cpu().numpy(), wanted.ids)
        assert hits.scores.cpu().numpy().tobytes() == wanted.scores.tobytes()
        assert hits.distances.device == hits.similarities.device == given.device
        np.testing.assert_array_equal(hits.distances.cpu().numpy(), wanted.distances)
        np.testing.assert_allclose(hits.similarities.cpu().numpy(), wanted.similarities, rtol=2e-7)
        assert hits.to_lists() == wanted.to_lists()
        assert hits.to_arrow().equals(wanted.to_arrow())
    for offset in (N - 1, N, N + 50):  # fewer rows than places, or none
        hits, wanted = (
            there.search(given, 3, nprobe=4, offset=offset),
            index.search(queries, 3, nprobe=4, offset=offset),
        )
        assert hits.ids.tolist() == wanted.ids.tolist()
        assert hits.scores.tolist() == wanted.scores.tolist()
    with pytest.raises(annvq.errors.ParameterError, match="threads must be"):
        there.search(given, threads=0)
    with pytest.raises(TypeError, match=r"GpuIndex.search\(\) got an unexpected"):
        there.search(given, ef=3)
    with pytest.raises(annvq.errors.ShapeError, match="dimension 36, expected 37"):
        there.search(given[:, :36])
    with pytest.raises(annvq.errors.ParameterError, match="no columns"):
        there.search(given, explain=True)
    named = annvq.build(vectors[:20], "flat", ids=[f"id {i}" for i in range(20)]).to(device)
    assert named.search(given, 1).ids.shape == (3, 1)


def test_zero_tensors_score_0(device, vectors):
    import torch

    where = "cpu" if device == "interpreter" else device
    index = annvq.build(vectors, "flat", metric="cosine", zero="score-0")
    hits = index.to(device).search(torch.zeros(1, D, device=where), 3)
    assert (hits.ids.tolist(), hits.scores.tolist()) == ([[0, 1, 2]], [[0.0, 0.0, 0.0]])
