"""VSAG's HGraph: a hierarchical graph over 8-bit codes, re-ranked with float32."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from annvq.bench.peers.protocol import Params, Peer, doubling
from annvq.errors import MissingExtraError

_EF_CONSTRUCTION = 400  # as in VSAG's own benchmarks
_PAGE = 4096


def variants(n: int, dim: int, metric: str) -> list[Peer]:
    """Return one index with the degree that VSAG's benchmarks give to short vectors, one with that of long ones."""
    _load()
    return [Vsag(n, dim, degree) for degree in (32, 96)]


def _load() -> Any:
    try:
        import pyvsag
    except ImportError:
        raise MissingExtraError("pyvsag", "bench-peers", "it has no wheels for Python 3.13 and newer") from None
    pyvsag.set_logger_off()
    return pyvsag


class Vsag:
    """``hgraph`` over ``sq8_uniform``, re-ordered by ``fp32``; one query per call, also where a batch is asked for."""

    lib = "vsag"

    def __init__(self, n: int, dim: int, degree: int) -> None:
        self.recipe = f"HGraph degree={degree} efc={_EF_CONSTRUCTION} SQ8+FP32"
        self._n, self._dim, self._degree = n, dim, degree
        self._params = ""
        self._index: Any = None

    def build(self, base: np.ndarray, metric: str, threads: int) -> None:
        """Build the graph."""
        graph = {
            "base_quantization_type": "sq8_uniform",
            "use_reorder": True,
            "precise_quantization_type": "fp32",
            "max_degree": self._degree,
            "ef_construction": _EF_CONSTRUCTION,
            "build_thread_count": threads,
        }
        described = {"dtype": "float32", "metric_type": metric, "dim": self._dim, "index_param": graph}
        self._index = _load().Index("hgraph", json.dumps(described))
        self._index.build(base.reshape(-1), np.arange(self._n, dtype=np.int64), self._n, self._dim)

    def settings(self, k: int) -> list[list[Params]]:
        """Return one series of growing ef_search."""
        return [[{"ef_search": ef} for ef in doubling(k, 64 * k)]]

    def set(self, params: Params) -> None:
        """Keep ef_search for the searches to come, as JSON, which VSAG parses at every call."""
        self._params = json.dumps({"hgraph": params})

    def search(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        """Return (nq, k) rows; pyvsag has no function for batches, and holds Python's lock while it searches."""
        rows = np.full((len(queries), k), -1, np.int64)
        for row, query in zip(rows, queries):
            found = self._index.knn_search(query, k, self._params)[0]
            row[: len(found)] = found
        return rows

    def bytes_per_vector(self) -> float:
        """Return what the saved index holds divided by n, without pages of zeros: VSAG reserves room by 128 MB."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "index"
            self._index.save(str(path))
            pages = np.memmap(path, np.uint8, "r")
            whole = len(pages) // _PAGE * _PAGE
            return int(pages[:whole].reshape(-1, _PAGE).any(axis=1).sum()) * _PAGE / self._n
