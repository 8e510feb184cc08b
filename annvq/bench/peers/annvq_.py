"""annvq itself: one recipe over its search parameters."""

from __future__ import annotations

import numpy as np

import annvq
from annvq.bench.peers.protocol import CANDIDATES, Params, doubling


class AnnvqPeer:
    """One annvq recipe, on the CPU or on a device that `annvq.Index.to` takes.

    On a device, building is counted with what it takes to get the index there.
    """

    lib = "annvq"

    def __init__(self, recipe: str, device: str = "cpu") -> None:
        self.recipe = recipe
        self._device = device
        self._index: annvq.Index
        self._params: Params = {}

    def build(self, base: np.ndarray, metric: str, threads: int) -> None:
        """Build the index."""
        self._index = annvq.build(base, self.recipe, metric=metric, threads=threads, device=self._device)

    def settings(self, k: int) -> list[list[Params]]:
        """Return a series of growing nprobe for each number of re-ranked candidates (if there is a refine store).

        For a graph, which has one number for both, it is one series.
        """
        recipe = self._index.recipe
        if recipe.codebook.kind == "graph":
            return [[{"rerank": length} for length in doubling(k, 50 * k)]]
        probes = doubling(1, recipe.nlist) if isinstance(recipe.nlist, int) else []
        reranks = [factor * k for factor in CANDIDATES] if recipe.refine is not None else []
        if not probes:
            return [[{"rerank": rerank} for rerank in reranks] or [{}]]
        if not reranks:
            return [[{"nprobe": nprobe} for nprobe in probes]]
        return [[{"nprobe": nprobe, "rerank": rerank} for nprobe in probes] for rerank in reranks]

    def set(self, params: Params) -> None:
        """Keep nprobe and rerank for the searches to come."""
        self._params = params

    def search(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        """Return (nq, k) rows."""
        nprobe, rerank = self._params.get("nprobe"), self._params.get("rerank")
        return self._index.search(queries, k=k, nprobe=nprobe, rerank=rerank, threads=threads).ids

    def bytes_per_vector(self) -> float:
        """Return the bytes of what the index keeps (codes, refine store, ids, centroids, codebooks), divided by n."""
        return sum(self._index.stats()["bytes"].values()) / len(self._index)
