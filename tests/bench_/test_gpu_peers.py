"""The libraries for GPUs, which need one to run: here small stand-ins take their places and record how they are called.

The stand-ins accept what the libraries document, no more, and search exactly: `index_cpu_to_gpu` and the options of
Faiss 1.15, and parameters, functions and types of ids of cuVS 26.06 (`ivf_rabitq` by the names of its C++ interface).
"""

import contextlib
import itertools
import sys
import types

import numpy as np
import pytest

from annvq.bench.peers import load_peers, version_of
from annvq.bench.peers.protocol import divisor_at_most
from annvq.errors import DeviceError, MissingExtraError
from annvq.evaluation import exact_neighbors

N, DIM, K = 400, 24, 5


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(0).normal(size=(N, DIM)).astype(np.float32)


def nearest(base, queries, k, metric):
    return exact_neighbors(base, queries, k, metric)[0]


class Options:
    """A name that the library does not have is an error."""

    __slots__ = ("allowCpuCoarseQuantizer", "indicesOptions", "useFloat16", "usePrecomputed", "use_cuvs")


class Lists:
    """An inverted file, on the CPU or on a GPU."""

    def __init__(self, factory, metric, where):
        self.factory, self.metric, self.where = factory, metric, where
        self.nprobe, self.ntotal, self.trained = 1, 0, False

    def train(self, base):
        self.trained = True

    def add(self, base):
        assert self.trained
        self.base, self.ntotal = base, len(base)

    def search(self, queries, k):
        assert 0 < k <= 2048
        assert self.where is not None, "searched on the CPU"
        rows = nearest(self.base, queries, k, self.metric)
        rows[:, self.nprobe :] = -1  # one more for each list
        return None, rows


class Refine(Lists):
    def __init__(self, lists):
        super().__init__(lists.factory, lists.metric, lists.where)
        assert not lists.ntotal
        self.lists, self.k_factor = lists, 1.0

    def train(self, base):
        super().train(base)
        self.lists.train(base)

    def add(self, base):
        super().add(base)
        self.lists.add(base)

    def search(self, queries, k):
        return None, self.lists.search(queries, int(k * self.k_factor))[1][:, :k]


@pytest.fixture
def faiss(monkeypatch):
    made = types.ModuleType("faiss")
    made.METRIC_INNER_PRODUCT, made.METRIC_L2 = 0, 1
    made.clones, made.gpus, made.options = [], 2, "OPTIMIZE AVX2 GPU NVIDIA CUVS "
    made.StandardGpuResources, made.GpuClonerOptions, made.IndexRefineFlat = type("R", (), {}), Options, Refine
    made.get_num_gpus, made.get_compile_options = lambda: made.gpus, lambda: made.options
    made.omp_set_num_threads = lambda threads: None
    made.index_factory = lambda d, factory, metric: Lists(factory, ("ip", "l2")[metric], None)

    def index_cpu_to_gpu(provider, device, index, options=None):
        assert isinstance(provider, made.StandardGpuResources)
        made.clones.append((index.factory, device, options.use_cuvs, options.useFloat16))
        return Lists(index.factory, index.metric, device)

    def index_gpu_to_cpu(gpu_index):
        assert type(gpu_index) is Lists
        there = Lists(gpu_index.factory, gpu_index.metric, None)
        there.ntotal = gpu_index.ntotal
        return there

    made.index_cpu_to_gpu, made.index_gpu_to_cpu = index_cpu_to_gpu, index_gpu_to_cpu
    made.serialize_index = lambda index: np.zeros(index.ntotal * 10, np.uint8)
    monkeypatch.setitem(sys.modules, "faiss", made)
    return made


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_faiss_is_built_and_searched_on_the_gpu(faiss, metric, vectors):
    peers = load_peers("faiss-gpu", N, DIM, metric, "cuda:1")
    assert [peer.recipe for peer in peers] == [
        "IVF64,Flat (cuVS)", "IVF64,Flat", "IVF64,PQ4,RFlat (cuVS)", "IVF64,PQ4,RFlat", "IVF64,PQ3,RFlat (cuVS)",
        "IVF64,PQ3,RFlat",
    ]  # fmt: skip
    assert {peer.lib for peer in peers} == {"faiss-gpu"}
    wanted = nearest(vectors, vectors[:7], K, metric)
    for peer in peers:
        peer.build(vectors, metric, 1)
        series = peer.settings(K)
        assert all(later["nprobe"] > earlier["nprobe"] for one in series for earlier, later in itertools.pairwise(one))
        peer.set(series[-1][-1])
        found = peer.search(vectors[:7], K, 1)
        assert np.array_equal(found, wanted)
        peer.set(series[0][0])
        assert (peer.search(vectors[:7], K, 1)[:, 1:] == -1).all()
        assert peer.bytes_per_vector() == (10 if "PQ" not in peer.recipe else 10 + 4 * DIM)
    assert faiss.clones == [
        (peer.recipe.removesuffix(" (cuVS)").removesuffix(",RFlat"), 1, "cuVS" in peer.recipe, True) for peer in peers
    ]


def test_faiss_is_asked_for_no_more_than_it_does(faiss):
    flat, *_, codes = load_peers("faiss-gpu", 10_000_000, DIM, "ip")
    assert flat.settings(K)[-1][-1] == {"nprobe": 2048}
    assert max(one[-1]["k_factor"] for one in codes.settings(100)) == 16


def test_a_faiss_without_cuvs_has_its_own_kernels_alone(faiss):
    faiss.options = "OPTIMIZE AVX2 GPU "
    assert [peer.recipe for peer in load_peers("faiss-gpu", N, DIM, "ip")] == [
        "IVF64,Flat", "IVF64,PQ4,RFlat", "IVF64,PQ3,RFlat",
    ]  # fmt: skip


def test_faiss_sees_no_such_gpu(faiss):
    with pytest.raises(DeviceError, match="'cuda:2': there are 2 GPUs that Faiss can use"):
        load_peers("faiss-gpu", N, DIM, "ip", "cuda:2")
    faiss.gpus = 0
    with pytest.raises(DeviceError, match="0 GPUs"):
        load_peers("faiss-gpu", N, DIM, "ip")


def test_a_faiss_for_cpus_is_not_the_one_that_is_missing(faiss, monkeypatch):
    del faiss.StandardGpuResources
    with pytest.raises(MissingExtraError, match=r"faiss-gpu-cuvs .*annvq\[bench-gpu\].*without faiss-cpu"):
        load_peers("faiss-gpu", N, DIM, "ip")
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match="faiss-gpu-cuvs"):
        load_peers("faiss-gpu", N, DIM, "ip")


class Ids:
    """An array on a GPU."""

    def __init__(self, values):
        self.values = values

    def copy_to_host(self):
        return self.values


class Params:
    """Parameters that only take the names that are documented; all of them are given by name."""

    def __init__(self, **given):
        assert set(given) <= self.names
        self.given = given


def params(*names):
    return type("Params", (Params,), {"names": frozenset(names)})


class Built:
    def __init__(self, base, metric, bytes_each):
        self.base, self.metric, self.bytes_each = base, metric, bytes_each


METRICS = {"sqeuclidean": "l2", "inner_product": "ip"}


@pytest.fixture
def cuvs(monkeypatch):
    torch = pytest.importorskip("torch")
    calls = types.SimpleNamespace(built=[], synced=0, devices=[])

    class Resources:
        def sync(self):
            calls.synced += 1

    def on_gpu(array):
        assert isinstance(array, torch.Tensor)
        assert array.is_contiguous()
        assert array.dtype == torch.float32
        return array.numpy()

    def module(name, index_params, search_params, missing, dtype):
        made = types.ModuleType(f"cuvs.neighbors.{name}")
        made.IndexParams, made.SearchParams = params(*index_params), params(*search_params)

        def build(index_params, dataset, resources=None):
            assert isinstance(resources, Resources)
            calls.built.append((name, index_params.given))
            return Built(on_gpu(dataset), METRICS[index_params.given["metric"]], 3)

        def search(search_params, index, queries, k, neighbors=None, distances=None, resources=None, filter=None):
            assert isinstance(search_params, made.SearchParams)
            assert isinstance(resources, Resources)
            found = nearest(index.base, on_gpu(queries), min(k, N), index.metric).astype(dtype)
            found[:, search_params.given.get("n_probes", N) :] = missing
            return Ids(np.zeros(found.shape, np.float32)), Ids(found)

        def save(filename, index, include_dataset=True, resources=None):
            with open(filename, "wb") as file:
                file.write(bytes(index.bytes_each * len(index.base)))

        made.build, made.search, made.save = build, search, save
        return made

    def refine(
        dataset, queries, candidates, k=None, metric="sqeuclidean", indices=None, distances=None, resources=None
    ):
        assert isinstance(candidates, Ids)
        assert candidates.values.dtype == np.int64
        on_gpu(dataset), on_gpu(queries)
        calls.built.append(("refine", {"metric": metric, "candidates": candidates.values.shape[1]}))
        return Ids(None), Ids(candidates.values[:, :k])

    ivf = ("n_lists", "metric", "metric_arg", "kmeans_n_iters", "kmeans_trainset_fraction", "add_data_on_build")
    pq = (*ivf, "pq_bits", "pq_dim", "codebook_kind", "force_random_rotation", "max_train_points_per_pq_code")
    no_id = np.iinfo(np.int64).max
    modules = {
        "ivf_flat": module("ivf_flat", ivf, ["n_probes"], no_id, np.int64),
        "ivf_pq": module("ivf_pq", pq, ["n_probes", "lut_dtype", "internal_distance_dtype"], no_id, np.int64),
        "ivf_rabitq": module(
            "ivf_rabitq", ["n_lists", "metric", "bits_per_dim", "kmeans_n_iters"], ["n_probes", "mode"], no_id, np.int64
        ),
        "cagra": module(
            "cagra", ["metric", "intermediate_graph_degree", "graph_degree", "build_algo", "nn_descent_niter"],
            ["max_queries", "itopk_size", "max_iterations", "algo", "team_size", "search_width"],
            2**32 - 1, np.uint32,
        ),
    }  # fmt: skip
    root, common, neighbors = (types.ModuleType(name) for name in ("cuvs", "cuvs.common", "cuvs.neighbors"))
    common.Resources, neighbors.refine, root.__path__, neighbors.__path__ = Resources, refine, [], []
    named = {"cuvs": root, "cuvs.common": common, "cuvs.neighbors": neighbors}
    named |= {f"cuvs.neighbors.{name}": made for name, made in modules.items()}
    for name, made in named.items():
        monkeypatch.setitem(sys.modules, name, made)
    monkeypatch.setattr(
        "annvq.bench.peers.cuvs_runtime.resolve", lambda name: calls.devices.append(name) or torch.device("cpu")
    )
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    return calls


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_cuvs_is_built_and_searched_on_the_gpu(cuvs, metric, vectors):
    peers = load_peers("cuvs", N, DIM, metric, "cuda:1")
    assert [peer.recipe for peer in peers] == [
        "IVF64,Flat", "IVF64,PQ8,refine", "CAGRA32", "CAGRA64", "IVF64,RaBitQ3", "IVF64,RaBitQ5", "IVF64,RaBitQ7",
    ]  # fmt: skip
    assert set(cuvs.devices) == {"cuda:1"}
    wanted = nearest(vectors, vectors[:7], K, metric)
    for peer in peers:
        peer.build(vectors, metric, 1)
        series = peer.settings(K)
        assert len({tuple(params) for one in series for params in one}) == 1
        peer.set(series[-1][-1])
        before = cuvs.synced
        found = peer.search(vectors[:7], K, 1)
        assert cuvs.synced > before
        assert found.dtype == np.int64
        assert np.array_equal(found, wanted)
        if "IVF" in peer.recipe:
            peer.set(series[0][0])
            assert (peer.search(vectors[:7], K, 1)[:, 1:] == -1).all()
        assert peer.bytes_per_vector() == (3 + 4 * DIM if "refine" in peer.recipe else 3)
    name = {"l2": "sqeuclidean", "ip": "inner_product"}[metric]
    assert cuvs.built == [
        ("ivf_flat", {"n_lists": 64, "metric": name}),
        ("ivf_pq", {"n_lists": 64, "metric": name, "pq_bits": 8, "pq_dim": 8}),
        ("refine", {"metric": name, "candidates": 32 * K}),
        ("cagra", {"metric": name, "intermediate_graph_degree": 64, "graph_degree": 32}),
        ("cagra", {"metric": name, "intermediate_graph_degree": 128, "graph_degree": 64}),
        *[("ivf_rabitq", {"n_lists": 64, "metric": name, "bits_per_dim": bits}) for bits in (3, 5, 7)],
    ]


def test_missing_ids_are_those_beyond_the_base(cuvs):
    from annvq.bench.peers.cuvs_runtime import OnGpu

    gpu = OnGpu("cuda")
    for dtype, missing in ((np.uint32, 2**32 - 1), (np.int64, 2**63 - 1), (np.int64, -1)):
        assert gpu.rows(Ids(np.array([[3, missing]], dtype)), N).tolist() == [[3, -1]]


def test_codes_of_cuvs_are_as_long_as_those_of_others(cuvs):
    recipes = [peer.recipe for peer in load_peers("cuvs", N, 384, "ip")]
    assert [recipe for recipe in recipes if "PQ" in recipe] == ["IVF64,PQ96,refine", "IVF64,PQ48,refine"]


def test_a_cuvs_without_rabitq_has_the_others(cuvs, monkeypatch):
    monkeypatch.setitem(sys.modules, "cuvs.neighbors.ivf_rabitq", None)
    assert not any("RaBitQ" in peer.recipe for peer in load_peers("cuvs", N, DIM, "ip"))


def test_cuvs_is_missing_or_has_no_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuvs", None)
    with pytest.raises(MissingExtraError, match=r"cuvs-cu13 .*annvq\[bench-gpu\].*cuvs-cu12"):
        load_peers("cuvs", N, DIM, "ip")


def test_cuvs_says_that_there_is_no_gpu(cuvs, monkeypatch):
    def refused(device):
        raise DeviceError(f"device {device!r} cannot be used")

    monkeypatch.setattr("annvq.bench.peers.cuvs_runtime.resolve", refused)
    with pytest.raises(DeviceError, match="'cuda' cannot be used"):
        load_peers("cuvs", N, DIM, "ip")


def test_versions_are_those_of_whichever_distribution_is_there(monkeypatch):
    monkeypatch.setattr("annvq.bench.peers.package_version", {"cuvs-cu12": "26.8.0", "faiss-gpu": "1.15.1"}.get)
    assert (version_of("cuvs"), version_of("faiss-gpu"), version_of("vsag")) == ("26.8.0", "1.15.1", None)


def test_divisors():
    assert [divisor_at_most(24, limit) for limit in (0, 1, 5, 7, 30)] == [1, 1, 4, 6, 24]
    assert [divisor_at_most(100, limit, (1, 2, 3, 4, 8, 20)) for limit in (19, 25)] == [4, 20]
