"""SymphonyQG (in rabitqlib): a graph whose vertices hold their neighbours' one-bit codes, ready for a fast scan."""

from __future__ import annotations

from typing import Any

import numpy as np

from annvq.bench.peers import rabitqlib_runtime
from annvq.bench.peers.protocol import Params, Peer, doubling, file_bytes

_EF_CONSTRUCTION = 200  # as in rabitqlib's examples
_FLOAT = 0  # rabitqlib's number of bits for vertices that are kept as they are


def variants(n: int, dim: int, metric: str) -> list[Peer]:
    """Return rabitqlib's default, one with vertices of 8 bits per dimension, and one of these with twice the degree."""
    rabitqlib_runtime.load()
    return [SymphonyQg(dim, degree, bits) for degree, bits in ((32, _FLOAT), (32, 8), (64, 8))]


class SymphonyQg:
    """Degree 32 or 64 (the scan takes 32 neighbours at a time), ef_construction = 200."""

    lib = "symphonyqg"

    def __init__(self, dim: int, degree: int, bits: int) -> None:
        self.recipe = f"QG{degree},{'float' if bits == _FLOAT else f'RaBitQ{bits}'}"
        self._dim, self._degree, self._bits = dim, degree, bits
        self._ef = 0
        self._index: Any = None

    def build(self, base: np.ndarray, metric: str, threads: int) -> None:
        """Build the graph."""
        self._index = rabitqlib_runtime.load().SymqgIndex(self._dim, self._degree, metric, self._bits)
        self._index.build(base, _EF_CONSTRUCTION, threads)

    def settings(self, k: int) -> list[list[Params]]:
        """Return one series of growing ef."""
        return [[{"ef": ef} for ef in doubling(k, 64 * k)]]

    def set(self, params: Params) -> None:
        """Keep ef for the searches to come."""
        self._ef = params["ef"]

    def search(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        """Return (nq, k) rows; one query and a batch have a function each."""
        search = self._index.search if len(queries) == 1 else self._index.search_batch
        return rabitqlib_runtime.rows(search(queries, k, self._ef, threads)[0])

    def bytes_per_vector(self) -> float:
        """Return the size of the saved index divided by n."""
        return file_bytes(self._index.save) / self._index.num_points
