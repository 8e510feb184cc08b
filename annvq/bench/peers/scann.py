"""ScaNN: a partitioning tree, 4-bit score-aware codes of pairs of dimensions, exact re-ordering."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from annvq.bench.peers.protocol import CANDIDATES, Params, Peer, doubling
from annvq.errors import MissingExtraError

_ANISOTROPIC_THRESHOLD = 0.2  # ScaNN's own recommendation for inner products
_SOAR_LAMBDA = 1.5  # as in ScaNN's documentation


def variants(n: int, dim: int, metric: str) -> list[Peer]:
    """Return an index with ScaNN's documented number of leaves, sqrt(n), one with four times as many, one with SOAR.

    The one with SOAR (a second leaf for every vector) also has four times as many; it is for inner products only.
    """
    _load()
    root = round(n**0.5)
    spilled = [Scann(n, 4 * root, soar=True)] if metric == "ip" else []
    return [Scann(n, root), Scann(n, 4 * root), *spilled]


def _load() -> Any:
    try:
        import scann
    except ImportError:
        raise MissingExtraError("scann", "bench") from None
    return scann


class Scann:
    """``tree(leaves) + score_ah(2) + reorder``."""

    lib = "scann"

    def __init__(self, n: int, leaves: int, soar: bool = False) -> None:
        self.leaves = leaves
        self.soar = soar
        self.recipe = f"tree({leaves}{',SOAR' if soar else ''})+AH(2)+reorder"
        self._n = n
        self._params: Params = {}
        self._searcher: Any = None
        self._threads = 0

    def build(self, base: np.ndarray, metric: str, threads: int) -> None:
        """Train and fill the searcher; leaves and re-ordering are set anew at every search."""
        distance = {"l2": "squared_l2", "ip": "dot_product"}[metric]
        score_aware = {"anisotropic_quantization_threshold": _ANISOTROPIC_THRESHOLD} if metric == "ip" else {}
        builder = _load().scann_ops_pybind.builder(base, 10, distance)
        builder.set_n_training_threads(threads)
        self._searcher = (
            builder.tree(
                num_leaves=self.leaves,
                num_leaves_to_search=max(1, self.leaves // 20),
                training_sample_size=min(self._n, 250_000),
                soar_lambda=_SOAR_LAMBDA if self.soar else None,
            )
            .score_ah(2, **score_aware)
            .reorder(100)
            .build()
        )

    def settings(self, k: int) -> list[list[Params]]:
        """Return a series of growing numbers of leaves for each number of re-ordered candidates."""
        return [
            [{"leaves": leaves, "reorder": factor * k} for leaves in doubling(1, self.leaves)] for factor in CANDIDATES
        ]

    def set(self, params: Params) -> None:
        """Keep leaves and re-ordering for the searches to come."""
        self._params = params

    def search(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        """Return (nq, k) rows; `search` for one query, batches on one thread or in parallel."""
        options = {
            "final_num_neighbors": k,
            "leaves_to_search": self._params["leaves"],
            "pre_reorder_num_neighbors": self._params["reorder"],
        }
        if len(queries) == 1:
            found = self._searcher.search(queries[0], **options)[0][None]
        elif threads == 1:
            found = self._searcher.search_batched(queries, **options)[0]
        else:
            if threads != self._threads:
                self._searcher.set_num_threads(threads)
                self._threads = threads
            found = self._searcher.search_batched_parallel(queries, **options)[0]
        return _padded(np.asarray(found), k)

    def bytes_per_vector(self) -> float:
        """Return the size of the serialized searcher divided by n."""
        with tempfile.TemporaryDirectory() as folder:
            self._searcher.serialize(folder)
            return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / self._n


def _padded(found: np.ndarray, k: int) -> np.ndarray:
    """Return (nq, k) rows: a single search returns fewer than k when its leaves hold fewer."""
    rows = np.full((len(found), k), -1, np.int64)
    rows[:, : found.shape[1]] = found.astype(np.int64)
    return rows
