"""cuVS: inverted lists of RaBitQ codes on a GPU, in versions that have them for Python."""

from __future__ import annotations

from typing import Any

import numpy as np

from annvq.bench.peers import cuvs_runtime
from annvq.bench.peers.protocol import Params, Peer, doubling, power_of_two_near
from annvq.errors import MissingExtraError

_BITS = (3, 5, 7)  # per dimension; 3 is the library's own choice, more reach a higher recall


def variants(n: int, dim: int, metric: str, device: str = "cuda") -> list[Peer]:
    """Return an index for each number of bits; none if this version of cuVS has no such index."""
    cuvs_runtime.load("neighbors")
    try:
        cuvs_runtime.load("neighbors.ivf_rabitq")
    except MissingExtraError:
        return []
    gpu = cuvs_runtime.OnGpu(device)
    return [CuvsIvfRabitq(n, bits, gpu) for bits in _BITS]


class CuvsIvfRabitq:
    """``IVF-RaBitQ`` with near 4 sqrt(n) lists; it searches without the float vectors."""

    lib = "cuvs"

    def __init__(self, n: int, bits: int, gpu: cuvs_runtime.OnGpu) -> None:
        self.nlist = power_of_two_near(4 * n**0.5)
        self.recipe = f"IVF{self.nlist},RaBitQ{bits}"
        self._n, self._bits, self._gpu = n, bits, gpu
        self._module = cuvs_runtime.load("neighbors.ivf_rabitq")
        self._params: Any = None
        self._index: Any = None

    def build(self, base: np.ndarray, metric: str, threads: int) -> None:
        """Build the index on the GPU."""
        params = self._module.IndexParams(
            n_lists=self.nlist, metric=cuvs_runtime.metric_of(metric), bits_per_dim=self._bits
        )
        self._index = self._gpu.call(self._module.build, params, self._gpu.array(base))

    def settings(self, k: int) -> list[list[Params]]:
        """Return one series of growing n_probes."""
        return [[{"n_probes": probes} for probes in doubling(1, self.nlist)]]

    def set(self, params: Params) -> None:
        """Set n_probes."""
        self._params = self._module.SearchParams(n_probes=params["n_probes"])

    def search(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        """Return (nq, k) rows; queries and rows lie on the host, as they do for every library."""
        _, found = self._gpu.call(self._module.search, self._params, self._index, self._gpu.array(queries), k)
        return self._gpu.rows(found, self._n)

    def bytes_per_vector(self) -> float:
        """Return the size of the saved index divided by n."""
        return self._gpu.bytes_of(self._module, self._index) / self._n
