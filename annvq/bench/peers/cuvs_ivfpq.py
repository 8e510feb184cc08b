"""cuVS: inverted lists of product codes on a GPU, re-ranked there with the float vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from annvq.bench.peers import cuvs_runtime
from annvq.bench.peers.protocol import CANDIDATES, Params, Peer, doubling, power_of_two_near


def variants(n: int, dim: int, metric: str, device: str = "cuda") -> list[Peer]:
    """Return one index with four and one with eight dimensions per byte, as far as these differ."""
    cuvs_runtime.load("neighbors.ivf_pq")
    gpu = cuvs_runtime.OnGpu(device)
    lengths = sorted({cuvs_runtime.pq_length(dim, dims) for dims in (4, 8)}, reverse=True)
    return [CuvsIvfPq(n, dim, length, gpu) for length in lengths]


class CuvsIvfPq:
    """``IVF-PQ`` with near 4 sqrt(n) lists, 8 bits per sub-quantizer, look-up tables of float16, and ``refine``."""

    lib = "cuvs"

    def __init__(self, n: int, dim: int, length: int, gpu: cuvs_runtime.OnGpu) -> None:
        self.nlist = power_of_two_near(4 * n**0.5)
        self.recipe = f"IVF{self.nlist},PQ{length},refine"
        self._n, self._dim, self._length, self._gpu = n, dim, length, gpu
        self._module = cuvs_runtime.load("neighbors.ivf_pq")
        self._metric = ""
        self._base: Any = None
        self._index: Any = None
        self._params: Any = None
        self._factor = 1

    def build(self, base: np.ndarray, metric: str, threads: int) -> None:
        """Build the index on the GPU; float vectors stay there for re-ranking."""
        self._metric = cuvs_runtime.metric_of(metric)
        self._base = self._gpu.array(base)
        params = self._module.IndexParams(n_lists=self.nlist, metric=self._metric, pq_bits=8, pq_dim=self._length)
        self._index = self._gpu.call(self._module.build, params, self._base)

    def settings(self, k: int) -> list[list[Params]]:
        """Return a series of growing n_probes for each number of re-ranked candidates (in multiples of k)."""
        return [
            [{"n_probes": probes, "refine_ratio": factor} for probes in doubling(1, self.nlist)]
            for factor in CANDIDATES
        ]

    def set(self, params: Params) -> None:
        """Set n_probes and the number of candidates."""
        self._params = self._module.SearchParams(n_probes=params["n_probes"], lut_dtype=np.float16)
        self._factor = params["refine_ratio"]

    def search(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        """Return (nq, k) rows; queries and rows lie on the host, as they do for every library."""
        there, wanted = self._gpu.array(queries), self._factor * k
        _, found = self._gpu.call(self._module.search, self._params, self._index, there, wanted)
        if self._factor > 1:
            refine = cuvs_runtime.load("neighbors").refine
            _, found = self._gpu.call(refine, self._base, there, found, k=k, metric=self._metric)
        return self._gpu.rows(found, self._n)

    def bytes_per_vector(self) -> float:
        """Return the size of the saved index and the float vectors divided by n."""
        return self._gpu.bytes_of(self._module, self._index) / self._n + 4 * self._dim
