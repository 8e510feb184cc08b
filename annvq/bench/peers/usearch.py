"""USearch: HNSW with SIMD distance kernels, over float32 and over bfloat16, its default where the CPU has it."""

from __future__ import annotations

from typing import Any

import numpy as np

from annvq.bench.peers.protocol import Params, Peer, doubling
from annvq.errors import MissingExtraError

_CONNECTIVITY, _EXPANSION = 16, 200


def variants(n: int, dim: int, metric: str) -> list[Peer]:
    """Return an index of float32 and one of bfloat16."""
    _load()
    return [USearch(dim, dtype) for dtype in ("f32", "bf16")]


def _load() -> Any:
    try:
        from usearch.index import Index
    except ImportError:
        raise MissingExtraError("usearch", "bench") from None
    return Index


class USearch:
    """Connectivity 16, expansion_add 200 by default (USearch's words for M and efConstruction)."""

    lib = "usearch"

    def __init__(self, dim: int, dtype: str, expansion_add: int = _EXPANSION) -> None:
        self.recipe = f"HNSW M={_CONNECTIVITY} efc={expansion_add} {dtype}"
        self._dim, self._expansion_add = dim, expansion_add
        self._dtype = dtype
        self._index: Any = None

    def build(self, base: np.ndarray, metric: str, threads: int) -> None:
        """Build the graph."""
        self._index = _load()(
            ndim=self._dim,
            metric={"l2": "l2sq", "ip": "ip"}[metric],
            dtype=self._dtype,
            connectivity=_CONNECTIVITY,
            expansion_add=self._expansion_add,
        )
        self._index.add(np.arange(len(base), dtype=np.uint64), base, threads=threads)

    def settings(self, k: int) -> list[list[Params]]:
        """Return growing expansion_search."""
        return [[{"expansion_search": expansion} for expansion in doubling(k, 64 * k)]]

    def set(self, params: Params) -> None:
        """Set expansion_search."""
        self._index.expansion_search = params["expansion_search"]

    def search(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        """Return (nq, k) rows; a single query's result has one axis less in USearch."""
        keys = self._index.search(queries, k, threads=threads).keys
        return np.asarray(keys).reshape(len(queries), -1).astype(np.int64)

    def bytes_per_vector(self) -> float:
        """Return the serialized length over n."""
        return self._index.serialized_length / len(self._index)
