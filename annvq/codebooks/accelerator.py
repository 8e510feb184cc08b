"""What can do the long work of a build in the CPU's place: a GPU, while a build names one.

Nothing but speed may depend on it: centroids, codebooks and codes are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import numpy as np

from annvq.kernels.clusters.propose import ByteSites, labels_of
from annvq.kernels.vectors.bytematrix import ByteMatrix


class Points(Protocol):
    """Vectors (n, d) that k-means learns from."""

    def labels(self, sites: ByteSites) -> np.ndarray:
        """Do what `annvq.kernels.clusters.propose.labels_of` does."""
        ...

    def sums(self, order: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Do what `annvq.kernels.clusters.lloyd.sum_members` does; the sums are (k, d) float64."""
        ...


class Accelerator(Protocol):
    """The parts of training and encoding that take long."""

    def working(self) -> AbstractContextManager[None]:
        """Return a context for all of its work, in which errors of the device become annvq's."""
        ...

    def points(self, rows: np.ndarray) -> Points:
        """Return the vectors (n, d) float32 that k-means learns from."""
        ...

    def learned_codebooks(self, rows: np.ndarray, start: np.ndarray, niter: int) -> np.ndarray:
        """Do what `annvq.codebooks.product.train_codebooks` does."""
        ...

    def products(self, rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """Return the products (n, k) of rows (n, d) with a matrix (k, d), summed in the order of the dimensions."""
        ...

    def products_of_bytes(self, rows: np.ndarray, shift: np.ndarray, matrix: ByteMatrix, width: int) -> np.ndarray:
        """Do what `annvq.kernels.vectors.bytetiles.fill_many_products` does; the results are (n, width)."""
        ...

    def encodings(self, encoder: Any, vectors: np.ndarray, offsets: np.ndarray, of_documents: bool) -> np.ndarray:
        """Do what `annvq.multivector.FixedDimensionalEncoder` does with sets of vectors."""
        ...

    def encode(self, trained: Any, vectors: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Do what `annvq.index.trained.Trained.encode` does."""
        ...

    def check(self, recipe: Any) -> None:
        """Raise DeviceError if an index of a recipe has codes that the device knows nothing of."""
        ...


_NAMED: ContextVar[Accelerator | None] = ContextVar("accelerator", default=None)


def in_place_of_cpu() -> Accelerator | None:
    """Return what was named to do the work, or None for the CPU."""
    return _NAMED.get()


@contextmanager
def accelerated_by(accelerator: Accelerator | None) -> Iterator[None]:
    """Name what does the work as long as the context lasts, in this thread; None changes nothing."""
    if accelerator is None:
        yield
        return
    token = _NAMED.set(accelerator)
    try:
        with accelerator.working():
            yield
    finally:
        _NAMED.reset(token)


def check_accelerator(recipe: Any) -> None:
    """Raise DeviceError, before anything is learned, if what was named cannot hold an index of a recipe."""
    accelerator = in_place_of_cpu()
    if accelerator is not None:
        accelerator.check(recipe)


def nearest_lists(rows: np.ndarray, sites: ByteSites, threads: int) -> np.ndarray:
    """Return the nearest centroid of every row (n, d) float32, (n,) int32."""
    accelerator = in_place_of_cpu()
    return labels_of(rows, sites, threads) if accelerator is None else accelerator.points(rows).labels(sites)
