"""cuVS: CAGRA, a graph that is built and searched on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from annvq.bench.peers import cuvs_runtime
from annvq.bench.peers.protocol import Params, Peer, doubling

_WIDTHS = (1, 4)  # vertices that a step expands: few are faster, more reach further
_MOST_KEPT = 512  # candidates that one block of threads holds


def variants(n: int, dim: int, metric: str, device: str = "cuda") -> list[Peer]:
    """Return a graph of degree 32 and one of degree 64."""
    cuvs_runtime.load("neighbors.cagra")
    gpu = cuvs_runtime.OnGpu(device)
    return [CuvsCagra(n, degree, gpu) for degree in (32, 64)]


class CuvsCagra:
    """A graph of one degree, made of one of twice the degree; float vectors are part of it."""

    lib = "cuvs"

    def __init__(self, n: int, degree: int, gpu: cuvs_runtime.OnGpu) -> None:
        self.recipe = f"CAGRA{degree}"
        self._n, self._degree, self._gpu = n, degree, gpu
        self._module = cuvs_runtime.load("neighbors.cagra")
        self._base: Any = None
        self._index: Any = None
        self._params: Any = None

    def build(self, base: np.ndarray, metric: str, threads: int) -> None:
        """Build the graph on the GPU; the index reads the vectors where they are."""
        self._base = self._gpu.array(base)
        params = self._module.IndexParams(
            metric=cuvs_runtime.metric_of(metric),
            intermediate_graph_degree=2 * self._degree,
            graph_degree=self._degree,
        )
        self._index = self._gpu.call(self._module.build, params, self._base)

    def settings(self, k: int) -> list[list[Params]]:
        """Return a series of growing itopk_size for each search_width."""
        sizes = doubling(max(k, 16), max(k, _MOST_KEPT))
        return [[{"itopk_size": size, "search_width": width} for size in sizes] for width in _WIDTHS]

    def set(self, params: Params) -> None:
        """Set itopk_size and search_width; cuVS chooses among its kernels by the number of queries."""
        self._params = self._module.SearchParams(**params)

    def search(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        """Return (nq, k) rows; queries and rows lie on the host, as they do for every library."""
        _, found = self._gpu.call(self._module.search, self._params, self._index, self._gpu.array(queries), k)
        return self._gpu.rows(found, self._n)

    def bytes_per_vector(self) -> float:
        """Return the size of the saved index, vectors included, divided by n."""
        return self._gpu.bytes_of(self._module, self._index) / self._n
