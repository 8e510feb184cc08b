"""cuVS: inverted lists of float vectors on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from annvq.bench.peers import cuvs_runtime
from annvq.bench.peers.protocol import Params, Peer, doubling, power_of_two_near


def variants(n: int, dim: int, metric: str, device: str = "cuda") -> list[Peer]:
    """Return the one index measured."""
    cuvs_runtime.load("neighbors.ivf_flat")
    return [CuvsIvfFlat(n, cuvs_runtime.OnGpu(device))]


class CuvsIvfFlat:
    """``IVF-Flat`` with near 4 sqrt(n) lists."""

    lib = "cuvs"

    def __init__(self, n: int, gpu: cuvs_runtime.OnGpu) -> None:
        self.nlist = power_of_two_near(4 * n**0.5)
        self.recipe = f"IVF{self.nlist},Flat"
        self._n, self._gpu = n, gpu
        self._module = cuvs_runtime.load("neighbors.ivf_flat")
        self._params: Any = None
        self._index: Any = None

    def build(self, base: np.ndarray, metric: str, threads: int) -> None:
        """Build the index on the GPU."""
        params = self._module.IndexParams(n_lists=self.nlist, metric=cuvs_runtime.metric_of(metric))
        self._index = self._gpu.call(self._module.build, params, self._gpu.array(base))

    def settings(self, k: int) -> list[list[Params]]:
        """Return one series of growing n_probes."""
        return [[{"n_probes": probes} for probes in doubling(1, self.nlist)]]

    def set(self, params: Params) -> None:
        """Set n_probes."""
        self._params = self._module.SearchParams(n_probes=params["n_probes"])

    def search(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        """Return (nq, k) rows; queries and rows lie on the host, as they do for every library."""
        _, found = self._gpu.call(self._module.search, self._params, self._index, self._gpu.array(queries), k)
        return self._gpu.rows(found, self._n)

    def bytes_per_vector(self) -> float:
        """Return the size of the saved index divided by n."""
        return self._gpu.bytes_of(self._module, self._index) / self._n
