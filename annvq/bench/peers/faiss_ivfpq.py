"""Faiss: inverted lists, 4-bit product codes with fast scan, re-ranked with the float vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from annvq.bench.peers import faiss_runtime
from annvq.bench.peers.protocol import CANDIDATES, Params, Peer, divisor_at_most, doubling, power_of_two_near


def variants(n: int, dim: int, metric: str) -> list[Peer]:
    """Return one index with two and one with four dimensions per sub-quantizer (as far as they divide d)."""
    faiss_runtime.load()
    counts = {divisor_at_most(dim, dim // 2), divisor_at_most(dim, dim // 4)}
    return [FaissIvfPq(n, dim, M) for M in sorted(counts, reverse=True)]


class FaissIvfPq:
    """``IVF{nlist},PQ{M}x4fs,RFlat`` with nlist near 4 sqrt(n)."""

    lib = "faiss"

    def __init__(self, n: int, dim: int, M: int) -> None:
        self.nlist = power_of_two_near(4 * n**0.5)
        self.recipe = f"IVF{self.nlist},PQ{M}x4fs,RFlat"
        self._dim = dim
        self._index: Any = None

    def build(self, base: np.ndarray, metric: str, threads: int) -> None:
        """Train and fill the index."""
        self._index = faiss_runtime.make(self._dim, self.recipe, metric)
        faiss_runtime.build(self._index, base, threads)

    def settings(self, k: int) -> list[list[Params]]:
        """Return a series of growing nprobe for each k_factor (candidates re-ranked, in multiples of k)."""
        return [[{"nprobe": nprobe, "k_factor": factor} for nprobe in doubling(1, self.nlist)] for factor in CANDIDATES]

    def set(self, params: Params) -> None:
        """Set nprobe and k_factor."""
        faiss_runtime.load().extract_index_ivf(self._index).nprobe = params["nprobe"]
        self._index.k_factor = params["k_factor"]

    def search(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        """Return (nq, k) rows."""
        return faiss_runtime.search(self._index, queries, k, threads)

    def bytes_per_vector(self) -> float:
        """Return the serialized size divided by n (float vectors included)."""
        return faiss_runtime.bytes_per_vector(self._index)
