"""ann-benchmarks (https://github.com/erikbern/ann-benchmarks): the algorithm that its runner calls.

The page on integrations has the files that ann-benchmarks needs. The interface is that of its ``BaseANN``, which is
not imported: the class also runs where ann-benchmarks is not installed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import annvq
from annvq.arguments import as_choice

_METRICS = {"angular": "cosine", "euclidean": "l2", "dot": "ip"}  # annvq's by the names of ann-benchmarks


class Annvq:
    """An index of one recipe, searched with settings from fast to exact.

    Parameters
    ----------
    metric
        "angular", "euclidean" or "dot".
    recipe
        As for `annvq.build`.

    """

    def __init__(self, metric: str, recipe: Any = "balanced") -> None:
        self._metric = _METRICS[as_choice("metric", metric, tuple(_METRICS))]
        self._recipe = recipe
        self._index: annvq.Index | None = None
        self._settings: dict[str, Any] = {}
        self._found: list[np.ndarray] = []

    def fit(self, X: np.ndarray) -> None:
        """Build the index of vectors (n, d)."""
        self._index = annvq.build(X, self._recipe, metric=self._metric)

    def set_query_arguments(self, nprobe: int, rerank: int = 0) -> None:
        """Set how many lists the next searches look into and, unless it is 0, how many candidates they rescore."""
        self._settings = {"nprobe": nprobe} if rerank == 0 else {"nprobe": nprobe, "rerank": rerank}

    def query(self, q: np.ndarray, n: int) -> np.ndarray:
        """Return the ids (n,) int64 of a query's nearest vectors, or all ids if there are fewer vectors."""
        return self._searched(q, n, threads=1)[0]

    def batch_query(self, X: np.ndarray, n: int) -> None:
        """Search many queries (nq, d) at once, on all CPUs, for `get_batch_results`."""
        self._found = self._searched(X, n, threads=None)

    def get_batch_results(self) -> list[np.ndarray]:
        """Return the ids of the last batch, (n,) int64 per query."""
        return self._found

    def get_memory_usage(self) -> float:
        """Return the kibibytes that the index takes; 0 before it is built."""
        return 0.0 if self._index is None else sum(self._index.stats()["bytes"].values()) / 1024

    def get_additional(self) -> dict[str, Any]:
        """Return nothing: there is nothing else to store with a result."""
        return {}

    def done(self) -> None:
        """Release the index."""
        self._index = None

    def __str__(self) -> str:
        settings = "".join(f", {name}={value}" for name, value in self._settings.items())
        return f"annvq({self._recipe}{settings})"

    def _searched(self, queries: np.ndarray, n: int, threads: int | None) -> list[np.ndarray]:
        assert self._index is not None
        found = self._index.search(queries, n, **self._settings, threads=threads).ids
        return [ids[ids >= 0] for ids in found]
