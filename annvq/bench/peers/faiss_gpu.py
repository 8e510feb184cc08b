"""Faiss on a GPU: inverted lists of float vectors and of product codes, by its own kernels and by those of cuVS."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from annvq.bench.peers import faiss_runtime
from annvq.bench.peers.protocol import CANDIDATES, Params, Peer, divisor_at_most, doubling, power_of_two_near
from annvq.errors import DeviceError, MissingExtraError

_MOST = 2048  # rows that a search returns, and lists that it visits
_CODE_BYTES = (1, 2, 3, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96)  # for which Faiss has kernels of its own


def variants(n: int, dim: int, metric: str, device: str = "cuda") -> list[Peer]:
    """Return an index of floats, one with four and one with eight dimensions per byte, each by every set of kernels."""
    faiss, number = load(), device_number(device)
    lengths = sorted({divisor_at_most(dim, dim // 4, _CODE_BYTES), divisor_at_most(dim, dim // 8, _CODE_BYTES)})
    kernels = (True, False) if "CUVS" in faiss.get_compile_options() else (False,)
    return [FaissGpu(n, dim, M, uses_cuvs, number) for M, uses_cuvs in product((None, *lengths[::-1]), kernels)]


def load() -> Any:
    """Import a Faiss that was built for GPUs.

    Raises
    ------
    MissingExtraError
        There is no Faiss, or it is one for CPUs: both are the module ``faiss``, and one takes the place of the other.

    """
    note = "in an environment without faiss-cpu, whose module has the same name"
    try:
        import faiss
    except ImportError:
        raise MissingExtraError("faiss-gpu-cuvs", "bench-gpu", note) from None
    if not hasattr(faiss, "StandardGpuResources"):
        raise MissingExtraError("faiss-gpu-cuvs", "bench-gpu", note)
    return faiss


def device_number(device: str) -> int:
    """Return the number of the GPU that "cuda" or "cuda:1" names (DeviceError if Faiss sees no such GPU)."""
    number, count = int(device.partition(":")[2] or 0), load().get_num_gpus()
    if number >= count:
        raise DeviceError(f"device {device!r}: there are {count} GPUs that Faiss can use")
    return number


class FaissGpu:
    """``IVF{nlist},Flat``, or ``IVF{nlist},PQ{M}`` re-ranked with the float vectors; nlist is near 4 sqrt(n).

    Codes and lists are on the GPU, where they are built, too. Faiss re-ranks on the CPU only.
    """

    lib = "faiss-gpu"

    def __init__(self, n: int, dim: int, M: int | None, uses_cuvs: bool, device: int = 0) -> None:
        self.nlist = power_of_two_near(4 * n**0.5)
        self._factory = f"IVF{self.nlist}," + ("Flat" if M is None else f"PQ{M}")
        self.recipe = self._factory + ("" if M is None else ",RFlat") + (" (cuVS)" if uses_cuvs else "")
        self._dim, self._M, self._uses_cuvs, self._device = dim, M, uses_cuvs, device
        self._resources: Any = None
        self._lists: Any = None  # on the GPU
        self._index: Any = None  # the same, or what re-ranks

    def build(self, base: np.ndarray, metric: str, threads: int) -> None:
        """Train and fill the index on the GPU."""
        faiss = load()
        options = faiss.GpuClonerOptions()
        options.use_cuvs = self._uses_cuvs
        options.useFloat16 = True  # look-up tables of codes; vectors stay float32
        self._resources = faiss.StandardGpuResources()
        empty = faiss_runtime.make(self._dim, self._factory, metric)
        self._lists = faiss.index_cpu_to_gpu(self._resources, self._device, empty, options)
        self._index = self._lists if self._M is None else faiss.IndexRefineFlat(self._lists)
        faiss_runtime.build(self._index, base, threads)

    def settings(self, k: int) -> list[list[Params]]:
        """Return a series of growing nprobe, for codes one for each k_factor (candidates re-ranked)."""
        probes = doubling(1, min(self.nlist, _MOST))
        if self._M is None:
            return [[{"nprobe": nprobe} for nprobe in probes]]
        factors = [factor for factor in CANDIDATES if factor * k <= _MOST]
        return [[{"nprobe": nprobe, "k_factor": factor} for nprobe in probes] for factor in factors]

    def set(self, params: Params) -> None:
        """Set nprobe and k_factor."""
        self._lists.nprobe = params["nprobe"]
        if self._M is not None:
            self._index.k_factor = params["k_factor"]

    def search(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        """Return (nq, k) rows; queries and rows lie on the host, as they do for every library."""
        return faiss_runtime.search(self._index, queries, k, threads)

    def bytes_per_vector(self) -> float:
        """Return the serialized size divided by n (float vectors for re-ranking included)."""
        lists = faiss_runtime.bytes_per_vector(load().index_gpu_to_cpu(self._lists))
        return lists + (0 if self._M is None else 4 * self._dim)
