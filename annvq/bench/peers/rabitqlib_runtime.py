"""What the three indexes of rabitqlib share: the import, the clustering, and how ids are returned."""

from __future__ import annotations

from typing import Any

import numpy as np

from annvq.errors import MissingExtraError


def load() -> Any:
    """Import rabitqlib.

    Raises
    ------
    MissingExtraError
        rabitqlib (extra "bench-peers") is not installed.

    """
    try:
        import rabitqlib
    except ImportError:
        raise MissingExtraError("rabitqlib", "bench-peers", "it has no wheels for Python 3.10") from None
    return rabitqlib


def cluster(base: np.ndarray, clusters: int, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """Return centroids (clusters, d) float32 and each vector's cluster (n,), of the library's own k-means."""
    rabitqlib = load()
    exact = rabitqlib.FinalAssignmentMode.Exact
    kmeans = rabitqlib.RaBitQKMeans(base.shape[1], clusters, num_threads=threads, final_assignment=exact)
    kmeans.train(base)
    return kmeans.centroids, kmeans.assignments


def rows(found: np.ndarray) -> np.ndarray:
    """Return (nq, k) rows from ids as the library returns them, uint32, whose largest value stands for none."""
    return found.astype(np.int32).astype(np.int64)
