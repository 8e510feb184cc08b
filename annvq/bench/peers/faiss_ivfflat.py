"""Faiss: inverted lists of float vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from annvq.bench.peers import faiss_runtime
from annvq.bench.peers.protocol import Params, Peer, doubling, power_of_two_near


def variants(n: int, dim: int, metric: str) -> list[Peer]:
    """Return the one index measured."""
    faiss_runtime.load()
    return [FaissIvfFlat(n, dim)]


class FaissIvfFlat:
    """``IVF{nlist},Flat`` with nlist near 4 sqrt(n)."""

    lib = "faiss"

    def __init__(self, n: int, dim: int) -> None:
        self.nlist = power_of_two_near(4 * n**0.5)
        self.recipe = f"IVF{self.nlist},Flat"
        self._dim = dim
        self._index: Any = None

    def build(self, base: np.ndarray, metric: str, threads: int) -> None:
        """Train and fill the index."""
        self._index = faiss_runtime.make(self._dim, self.recipe, metric)
        faiss_runtime.build(self._index, base, threads)

    def settings(self, k: int) -> list[list[Params]]:
        """Return one series of growing nprobe."""
        return [[{"nprobe": nprobe} for nprobe in doubling(1, self.nlist)]]

    def set(self, params: Params) -> None:
        """Set nprobe."""
        self._index.nprobe = params["nprobe"]

    def search(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        """Return (nq, k) rows."""
        return faiss_runtime.search(self._index, queries, k, threads)

    def bytes_per_vector(self) -> float:
        """Return the serialized size divided by n."""
        return faiss_runtime.bytes_per_vector(self._index)
