"""hnswlib: the reference implementation of HNSW."""

from __future__ import annotations

from typing import Any

import numpy as np

from annvq.bench.peers.protocol import Params, Peer, doubling
from annvq.errors import MissingExtraError

_M, _EF_CONSTRUCTION = 16, 200


def variants(n: int, dim: int, metric: str) -> list[Peer]:
    """Return the one index measured."""
    _load()
    return [Hnswlib(n, dim)]


def _load() -> Any:
    try:
        import hnswlib
    except ImportError:
        raise MissingExtraError("hnswlib", "bench") from None
    return hnswlib


class Hnswlib:
    """M = 16, ef_construction = 200 by default."""

    lib = "hnswlib"

    def __init__(self, n: int, dim: int, ef_construction: int = _EF_CONSTRUCTION) -> None:
        self.recipe = f"HNSW M={_M} efc={ef_construction}"
        self._n, self._dim, self._ef_construction = n, dim, ef_construction
        self._index: Any = None

    def build(self, base: np.ndarray, metric: str, threads: int) -> None:
        """Build the graph."""
        self._index = _load().Index(space=metric, dim=self._dim)
        self._index.init_index(max_elements=self._n, M=_M, ef_construction=self._ef_construction, random_seed=0)
        self._index.set_num_threads(threads)
        self._index.add_items(base, num_threads=threads)

    def settings(self, k: int) -> list[list[Params]]:
        """Return one series of growing ef."""
        return [[{"ef": ef} for ef in doubling(k, 64 * k)]]

    def set(self, params: Params) -> None:
        """Set ef."""
        self._index.set_ef(params["ef"])

    def search(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        """Return (nq, k) rows."""
        return self._index.knn_query(queries, k, num_threads=threads)[0].astype(np.int64)

    def bytes_per_vector(self) -> float:
        """Return the size of the index file divided by n."""
        return self._index.index_file_size() / self._n
