"""rabitqlib: a hierarchical navigable small-world graph over RaBitQ codes."""

from __future__ import annotations

from typing import Any

import numpy as np

from annvq.bench.peers import rabitqlib_runtime
from annvq.bench.peers.protocol import Params, Peer, doubling, file_bytes

_M, _EF_CONSTRUCTION, _CLUSTERS = 16, 200, 16  # rabitqlib's defaults, and the clusters that it recommends


def variants(n: int, dim: int, metric: str) -> list[Peer]:
    """Return an index of 7 bits per dimension, and one of 9, the most there are: no vectors re-rank what they find."""
    rabitqlib_runtime.load()
    return [RaBitQHnsw(n, dim, bits) for bits in (7, 9)]


class RaBitQHnsw:
    """M = 16, ef_construction = 200, codes around 16 centroids."""

    lib = "rabitqlib"

    def __init__(self, n: int, dim: int, bits: int) -> None:
        self.recipe = f"HNSW M={_M} efc={_EF_CONSTRUCTION} RaBitQ{bits}"
        self._n, self._dim, self._bits = n, dim, bits
        self._ef = 0
        self._index: Any = None

    def build(self, base: np.ndarray, metric: str, threads: int) -> None:
        """Cluster and build the graph."""
        centroids, clusters = rabitqlib_runtime.cluster(base, _CLUSTERS, threads)
        self._index = rabitqlib_runtime.load().HnswIndex(self._dim, self._n, _M, _EF_CONSTRUCTION, self._bits, metric)
        self._index.build(base, centroids, clusters, num_threads=threads)

    def settings(self, k: int) -> list[list[Params]]:
        """Return one series of growing ef."""
        return [[{"ef": ef} for ef in doubling(k, 64 * k)]]

    def set(self, params: Params) -> None:
        """Keep ef for the searches to come."""
        self._ef = params["ef"]

    def search(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        """Return (nq, k) rows."""
        return rabitqlib_runtime.rows(self._index.search(queries, k, self._ef, num_threads=threads)[0])

    def bytes_per_vector(self) -> float:
        """Return the size of the saved index divided by n."""
        return file_bytes(self._index.save) / self._index.num_points
