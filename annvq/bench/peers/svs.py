"""Intel Scalable Vector Search: a Vamana graph over LVQ-compressed or float vectors.

On a CPU of another maker SVS refuses LVQ by ending the process, so float32 is measured there.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from annvq.bench.machine import is_intel
from annvq.bench.peers.protocol import Params, Peer, doubling
from annvq.errors import MissingExtraError

_DEGREE, _WINDOW = 32, 128
_PRIMARY_BITS, _RESIDUAL_BITS = 4, 8


def variants(n: int, dim: int, metric: str) -> list[Peer]:
    """Return the one index measured."""
    _load()
    return [Svs(n)]


def _load() -> Any:
    try:
        import svs
    except ImportError:
        raise MissingExtraError("scalable-vs", "bench") from None
    return svs


class Svs:
    """Degree 32, build window 128; LVQ 4x8 on Intel's CPUs, else float32."""

    lib = "svs"

    def __init__(self, n: int) -> None:
        self._compressed = is_intel()
        codes = f"LVQ{_PRIMARY_BITS}x{_RESIDUAL_BITS}" if self._compressed else "Flat"
        self.recipe = f"Vamana{_DEGREE},{codes}"
        self._n = n
        self._index: Any = None

    def build(self, base: np.ndarray, metric: str, threads: int) -> None:
        """Build the graph (SVS compresses only what it loads from a file)."""
        svs = _load()
        parameters = svs.VamanaBuildParameters(graph_max_degree=_DEGREE, window_size=_WINDOW)
        distance = {"l2": svs.DistanceType.L2, "ip": svs.DistanceType.MIP}[metric]
        if not self._compressed:
            self._index = svs.Vamana.build(parameters, base, distance, num_threads=threads)
            return
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "base.fvecs")
            svs.write_vecs(base, path)
            vectors = svs.VectorDataLoader(path, svs.float32, base.shape[1])
            codes = svs.LVQLoader(vectors, primary=_PRIMARY_BITS, residual=_RESIDUAL_BITS)
            self._index = svs.Vamana.build(parameters, codes, distance, num_threads=threads)

    def settings(self, k: int) -> list[list[Params]]:
        """Return growing search windows."""
        return [[{"search_window_size": window} for window in doubling(k, 64 * k)]]

    def set(self, params: Params) -> None:
        """Set the search window."""
        self._index.search_window_size = params["search_window_size"]

    def search(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        """Return (nq, k) rows."""
        if self._index.num_threads != threads:
            self._index.num_threads = threads
        return self._index.search(queries, k)[0].astype(np.int64)

    def bytes_per_vector(self) -> float:
        """Return the size of the saved graph and vectors over n."""
        with tempfile.TemporaryDirectory() as folder:
            self._index.save(f"{folder}/config", f"{folder}/graph", f"{folder}/data")
            return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / self._n
