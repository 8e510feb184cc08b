"""What the cuVS peers share: the import, the GPU, the arrays there, and how ids are returned."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import numpy as np

from annvq.bench.peers.protocol import Params, doubling, file_bytes, power_of_two_near
from annvq.errors import MissingExtraError
from annvq.gpu.device import resolve


def load(module: str) -> Any:
    """Import a module of cuVS, such as "neighbors.ivf_flat".

    Raises
    ------
    MissingExtraError
        cuVS (extra "bench-gpu") is not installed, or its version has no such module.

    """
    try:
        return import_module(f"cuvs.{module}")
    except ImportError:
        raise MissingExtraError("cuvs-cu13", "bench-gpu", "or cuvs-cu12 beside a torch for CUDA 12") from None


class OnGpu:
    """One GPU, and the resources with which cuVS is called there: made once, because making them takes long.

    Parameters
    ----------
    device
        "cuda" or "cuda:1"; DeviceError if there is no such GPU.

    """

    def __init__(self, device: str) -> None:
        self._torch = import_module("torch")
        self.device = resolve(device)
        with self._torch.cuda.device(self.device):
            self._resources = load("common").Resources()

    def array(self, values: np.ndarray) -> Any:
        """Return a copy of an array on the GPU, as cuVS takes it."""
        return self._torch.from_numpy(values).to(self.device)

    def call(self, function: Any, *arguments: Any, **named: Any) -> Any:
        """Call a function of cuVS, and return what it returns once the GPU has done it."""
        with self._torch.cuda.device(self.device):
            result = function(*arguments, **named, resources=self._resources)
            self._resources.sync()
        return result

    def rows(self, found: Any, n: int) -> np.ndarray:
        """Return rows (nq, k) int64 on the host from ids on the GPU; where there is none, cuVS has ids beyond n."""
        ids = found.copy_to_host().astype(np.int64)
        return np.where((ids >= 0) & (ids < n), ids, -1)

    def bytes_of(self, module: Any, index: Any) -> int:
        """Return the size of the file that an index is saved as."""
        return file_bytes(lambda path: self.call(module.save, path, index))


class Lists:
    """An index of near 4 sqrt(n) inverted lists that is searched without the float vectors.

    Parameters
    ----------
    module, codes
        The module of cuVS, such as "ivf_flat", and what it keeps of each vector, as the recipe calls it.
    n, gpu
        The number of vectors, and where they lie.
    options
        What the module's ``IndexParams`` takes besides lists and metric.

    """

    lib = "cuvs"

    def __init__(self, module: str, codes: str, n: int, gpu: OnGpu, **options: Any) -> None:
        self.nlist = power_of_two_near(4 * n**0.5)
        self.recipe = f"IVF{self.nlist},{codes}"
        self._n, self._gpu, self._options = n, gpu, options
        self._module = load(f"neighbors.{module}")
        self._params: Any = None
        self._index: Any = None

    def build(self, base: np.ndarray, metric: str, threads: int) -> None:
        """Build the index on the GPU."""
        params = self._module.IndexParams(n_lists=self.nlist, metric=metric_of(metric), **self._options)
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


def metric_of(metric: str) -> str:
    """Return cuVS's name of a metric."""
    return {"l2": "sqeuclidean", "ip": "inner_product"}[metric]


def pq_length(dim: int, dims_per_byte: int) -> int:
    """Return the multiple of 8, at least 8, nearest to ``dim / dims_per_byte``."""
    return 8 * max(1, math.floor(dim / dims_per_byte / 8 + 0.5))
