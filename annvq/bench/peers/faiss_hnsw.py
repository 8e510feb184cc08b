"""Faiss: a hierarchical navigable small-world graph over float vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from annvq.bench.peers import faiss_runtime
from annvq.bench.peers.protocol import Params, Peer, doubling

_M, _EF_CONSTRUCTION = 16, 200


def variants(n: int, dim: int, metric: str) -> list[Peer]:
    """Return the one index measured."""
    faiss_runtime.load()
    return [FaissHnsw(dim)]


class FaissHnsw:
    """``HNSW16,Flat`` with efConstruction 200 by default."""

    lib = "faiss"
    recipe = f"HNSW{_M},Flat"

    def __init__(self, dim: int, ef_construction: int = _EF_CONSTRUCTION) -> None:
        self._dim, self._ef_construction = dim, ef_construction
        self._index: Any = None

    def build(self, base: np.ndarray, metric: str, threads: int) -> None:
        """Build the graph."""
        self._index = faiss_runtime.make(self._dim, self.recipe, metric)
        self._index.hnsw.efConstruction = self._ef_construction
        faiss_runtime.build(self._index, base, threads)

    def settings(self, k: int) -> list[list[Params]]:
        """Return one series of growing efSearch."""
        return [[{"efSearch": ef} for ef in doubling(k, 64 * k)]]

    def set(self, params: Params) -> None:
        """Set efSearch."""
        self._index.hnsw.efSearch = params["efSearch"]

    def search(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        """Return (nq, k) rows."""
        return faiss_runtime.search(self._index, queries, k, threads)

    def bytes_per_vector(self) -> float:
        """Return the serialized size divided by n."""
        return faiss_runtime.bytes_per_vector(self._index)
