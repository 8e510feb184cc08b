"""rabitqlib: inverted lists of RaBitQ codes, scored one bit first and then with all their bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from annvq.bench.peers import rabitqlib_runtime
from annvq.bench.peers.protocol import Params, Peer, doubling, file_bytes, power_of_two_near

_BITS = 7
_RAW = 32  # rabitqlib's number of bits for one-bit codes that are re-ranked with the float vectors


def variants(n: int, dim: int, metric: str) -> list[Peer]:
    """Return an index of codes alone, and one that re-ranks with the float vectors."""
    rabitqlib_runtime.load()
    return [RaBitQIvf(n, dim, bits) for bits in (_BITS, _RAW)]


class RaBitQIvf:
    """Inverted lists, 4 sqrt(n) of them, as rabitqlib's documentation recommends."""

    lib = "rabitqlib"

    def __init__(self, n: int, dim: int, bits: int) -> None:
        self.nlist = power_of_two_near(4 * n**0.5)
        self.recipe = f"IVF{self.nlist},RaBitQ{'1+float' if bits == _RAW else bits}"
        self._n, self._dim, self._bits = n, dim, bits
        self._nprobe = 1
        self._index: Any = None

    def build(self, base: np.ndarray, metric: str, threads: int) -> None:
        """Cluster and fill the index."""
        centroids, clusters = rabitqlib_runtime.cluster(base, self.nlist, threads)
        self._index = rabitqlib_runtime.load().IvfIndex(self._dim, self._n, self.nlist, self._bits, metric)
        self._index.build(base, centroids, clusters, num_threads=threads)

    def settings(self, k: int) -> list[list[Params]]:
        """Return one series of growing nprobe."""
        return [[{"nprobe": nprobe} for nprobe in doubling(1, self.nlist)]]

    def set(self, params: Params) -> None:
        """Keep nprobe for the searches to come."""
        self._nprobe = params["nprobe"]

    def search(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        """Return (nq, k) rows."""
        return rabitqlib_runtime.rows(self._index.search(queries, k, self._nprobe, num_threads=threads)[0])

    def bytes_per_vector(self) -> float:
        """Return the size of the saved index divided by n."""
        return file_bytes(self._index.save) / self._index.num_points
