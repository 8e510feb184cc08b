"""Glass: HNSW over scalar codes of 8 or 4 bits, re-ranked with float16."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from annvq.bench.peers.protocol import Params, Peer, doubling, file_bytes
from annvq.errors import MissingExtraError

_DEGREE, _EF_CONSTRUCTION = 32, 200  # as in Glass's examples
_LINE = 64  # bytes to a multiple of which Glass pads a row of codes


def variants(n: int, dim: int, metric: str) -> list[Peer]:
    """Return an index that is searched by codes of 8 bits, and one by 4 bits, as Glass's own rule of thumb has it.

    Under inner product, codes of 4 bits lose most neighbours of vectors with components of both signs.
    """
    _load()
    return [Glass(n, dim, bits) for bits in ((8, 4) if metric == "l2" else (8,))]


def _load() -> Any:
    try:
        import glass
    except ImportError:
        raise MissingExtraError("pyglass-portable", "bench-peers", "it has no wheels for Python 3.14") from None
    return glass


class Glass:
    """Degree 32, L = 200, built with 8 bits per dimension."""

    lib = "glass"

    def __init__(self, n: int, dim: int, bits: int) -> None:
        self._codes = f"SQ{bits}U"
        self.recipe = f"HNSW R={_DEGREE} L={_EF_CONSTRUCTION} {self._codes}+FP16"
        self._n, self._dim, self._bits = n, dim, bits
        self._graph_bytes = 0
        self._searcher: Any = None

    def build(self, base: np.ndarray, metric: str, threads: int) -> None:
        """Build the graph, encode the vectors, and let Glass measure how far ahead it had best prefetch."""
        glass = _load()
        glass.set_num_threads(threads)
        name = metric.upper()
        with _silence():
            graph = glass.Index("HNSW", name, "SQ8U", _DEGREE, _EF_CONSTRUCTION).build(base)
            self._graph_bytes = file_bytes(graph.save)  # now, because the searcher takes the graph over
            self._searcher = glass.Searcher(graph, base, name, self._codes, "FP16")
            self._searcher.optimize(threads)

    def settings(self, k: int) -> list[list[Params]]:
        """Return one series of growing ef, from the candidates that Glass re-ranks, 1.5 k."""
        return [[{"ef": ef} for ef in doubling(k + k // 2, 64 * k)]]

    def set(self, params: Params) -> None:
        """Set ef."""
        self._searcher.set_ef(params["ef"])

    def search(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        """Return (nq, k) rows; one query and a batch have a function each."""
        if len(queries) == 1:
            return self._searcher.search(queries[0], k)[0][None].astype(np.int64)
        return self._searcher.batch_search(queries, k, threads)[0].astype(np.int64)

    def bytes_per_vector(self) -> float:
        """Return the size of the saved graph divided by n, and a row of each kind of codes (Glass saves none)."""
        rows = sum(-(-bits * self._dim // (8 * _LINE)) * _LINE for bits in (self._bits, 16))
        return self._graph_bytes / self._n + rows


@contextmanager
def _silence() -> Iterator[None]:
    """Drop what Glass prints while it builds, from C++, where a result in JSON may go."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        yield
    finally:
        ctypes.CDLL(None).fflush(None)  # C's own buffer
        os.dup2(kept, 1)
        os.close(kept)
