"""LoRANN: inverted lists whose scores come from low-rank regressions, one per list, and exact re-ranking."""

from __future__ import annotations

from typing import Any

import numpy as np

from annvq.bench.peers.protocol import CANDIDATES, Params, Peer, doubling, file_bytes, power_of_two_near
from annvq.errors import MissingExtraError


def variants(n: int, dim: int, metric: str) -> list[Peer]:
    """Return an index with LoRANN's recommended number of clusters, sqrt(n), and one with four times as many."""
    _load()
    root = power_of_two_near(n**0.5)
    return [Lorann(dim, root), Lorann(dim, 4 * root)]


def _load() -> Any:
    try:
        import lorann
    except ImportError:
        note = "it has no wheels and is compiled for minutes, with a C++17 compiler and OpenMP"
        raise MissingExtraError("lorann", "bench-peers", note) from None
    return lorann


class Lorann:
    """Parameters of rank 32 and 8 bits; vectors reduced to as many dimensions as LoRANN recommends for theirs.

    LoRANN takes vectors of at least 64 dimensions.
    """

    lib = "lorann"

    def __init__(self, dim: int, clusters: int) -> None:
        self.clusters = clusters
        self._reduced = None if dim < 200 else 128 if dim <= 1000 else 256
        self.recipe = f"{clusters} clusters, {self._reduced or 'all'} dimensions, rank 32"
        self._params: Params = {}
        self._index: Any = None

    def build(self, base: np.ndarray, metric: str, threads: int) -> None:
        """Cluster and fit the regressions, on the base itself; the index reads the base in place."""
        lorann = _load()
        distance = {"l2": lorann.L2, "ip": lorann.IP}[metric]
        self._index = lorann.LorannIndex(base, self.clusters, self._reduced, distance=distance)
        self._index.build(n_threads=threads)

    def settings(self, k: int) -> list[list[Params]]:
        """Return a series of growing numbers of clusters for each number of re-ranked candidates."""
        return [
            [{"clusters": clusters, "rerank": factor * k} for clusters in doubling(1, self.clusters)]
            for factor in (*CANDIDATES[1:], 64)
        ]

    def set(self, params: Params) -> None:
        """Keep clusters and re-ranked candidates for the searches to come."""
        self._params = params

    def search(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        """Return (nq, k) rows; a single query goes in as a vector."""
        clusters, rerank = self._params["clusters"], self._params["rerank"]
        asked = queries[0] if len(queries) == 1 else queries
        found = self._index.search(asked, k, clusters, rerank, n_threads=threads)
        return found.reshape(-1, k).astype(np.int64)

    def bytes_per_vector(self) -> float:
        """Return the size of the saved index divided by n (float vectors included)."""
        return file_bytes(self._index.save) / self._index.n_samples
