"""Every peer that is installed solves a small problem; those that are not are named."""

import itertools
import sys

import numpy as np
import pytest

from annvq.bench.peers import PEERS, load_peers, version_of
from annvq.bench.peers.annvq_ import AnnvqPeer
from annvq.bench.peers.protocol import doubling, power_of_two_near
from annvq.errors import DeviceError, MissingExtraError, ParameterError
from annvq.evaluation import exact_neighbors, recall

N, DIM, K = 1500, 64, 10  # some libraries take no fewer dimensions


@pytest.mark.parametrize("metric", ["l2", "ip"])
@pytest.mark.parametrize("name", PEERS)
def test_peers_find_neighbours(name, metric):
    rng = np.random.default_rng(1)
    inner = rng.normal(size=(N + 20, 16)) @ rng.normal(size=(16, DIM))
    vectors = (inner + 0.2 * rng.normal(size=inner.shape)).astype(np.float32)
    base, queries = vectors[:N], vectors[N:]
    truth = exact_neighbors(base, queries, K, metric)[0]
    try:
        peers = load_peers(name, N, DIM, metric)
    except MissingExtraError:
        pytest.skip(f"{name} is not installed")
    except DeviceError as error:
        pytest.skip(str(error))
    assert version_of(name)
    for peer in peers:
        peer.build(base, metric, 1)
        series = peer.settings(K)
        peer.set(series[0][0])
        hasty = peer.search(queries, K, 1)
        peer.set(series[-1][-1])
        thorough = peer.search(queries, K, 1)
        assert thorough.shape == hasty.shape == (20, K)
        assert thorough.dtype == np.int64
        assert recall(thorough, truth) > 0.97
        assert recall(thorough, truth) >= recall(hasty, truth)
        assert recall(peer.search(queries[:1], K, 1), truth[:1]) >= 0.9
        assert peer.bytes_per_vector() > 7 / 8 * DIM  # none keeps fewer bits per dimension than 7


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("faiss", "faiss"),
        ("scann", "scann"),
        ("hnswlib", "hnswlib"),
        ("usearch", "usearch.index"),
        ("svs", "svs"),
        ("symphonyqg", "rabitqlib"),
        ("rabitqlib", "rabitqlib"),
        ("lorann", "lorann"),
        ("glass", "glass"),
        ("vsag", "pyvsag"),
        ("faiss-gpu", "faiss"),
        ("cuvs", "cuvs"),
    ],
)
def test_absent_libraries_are_missing_extras(name, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError):
        load_peers(name, N, DIM, "ip")


def test_unknown_peers_are_refused():
    with pytest.raises(ParameterError, match="expected some of faiss"):
        load_peers("annoy", N, DIM, "ip")


def test_doubling_rises_to_the_end():
    assert doubling(1, 1) == [1]
    assert doubling(1, 2) == [1, 2]
    values = doubling(1, 1000)
    assert values[0] == 1
    assert values[-1] == 1000
    assert all(low < high <= max(1.6 * low, low + 1) for low, high in itertools.pairwise(values))


def test_powers_of_two():
    assert [power_of_two_near(value) for value in (0, 1, 3, 900, 1100, 1500)] == [1, 1, 4, 1024, 1024, 2048]


def test_a_missing_peer_says_what_hinders_its_installation(monkeypatch):
    monkeypatch.setitem(sys.modules, "lorann", None)
    with pytest.raises(MissingExtraError, match=r"annvq\[bench-peers\]'.*compiled .* with a C\+\+17 compiler"):
        load_peers("lorann", N, DIM, "ip")


def test_glass_prints_nothing(capfd):
    pytest.importorskip("glass")
    peer = load_peers("glass", 200, DIM, "l2")[0]
    print("before", end="")
    peer.build(np.random.default_rng(0).normal(size=(200, DIM)).astype(np.float32), "l2", 1)
    print(" and after", end="")
    assert capfd.readouterr().out == "before and after"


def test_a_query_without_enough_neighbours_gets_missing_ones():
    pytest.importorskip("rabitqlib")
    base = np.random.default_rng(0).normal(size=(300, DIM)).astype(np.float32)
    peer = load_peers("rabitqlib", len(base), DIM, "l2")[0]
    peer.build(base, "l2", 1)
    peer.set({"nprobe": 1})
    found = peer.search(base[:20], K, 1)
    assert found.min() == -1
    assert found.max() < len(base)


def test_a_longer_queue_of_a_graph_is_another_setting():
    """A series ends once recall has stopped growing; lengths that come to the same queue ended it at the first."""
    rng = np.random.default_rng(4)
    base, queries = (rng.normal(size=(n, 32)).astype(np.float32) for n in (4000, 100))
    truth = exact_neighbors(base, queries, K, "l2")[0]
    peer = AnnvqPeer("graph")
    peer.build(base, "l2", 1)
    (series,) = peer.settings(K)
    recalls = []
    for params in series[:6]:
        peer.set(params)
        recalls.append(recall(peer.search(queries, K, 1), truth))
    assert all(later > earlier for earlier, later in itertools.pairwise(recalls))
