"""What the Faiss peers share: the import, the thread count, and the size of an index."""

from __future__ import annotations

from typing import Any

import numpy as np

from annvq.errors import MissingExtraError


def load() -> Any:
    """Import Faiss.

    Raises
    ------
    MissingExtraError
        faiss-cpu (extra "faiss") is not installed.

    """
    try:
        import faiss
    except ImportError:
        raise MissingExtraError("faiss-cpu", "faiss") from None
    return faiss


def make(dim: int, factory: str, metric: str) -> Any:
    """Return the empty index that a factory string describes."""
    faiss = load()
    kind = {"l2": faiss.METRIC_L2, "ip": faiss.METRIC_INNER_PRODUCT}[metric]
    return faiss.index_factory(dim, factory, kind)


def build(index: Any, base: np.ndarray, threads: int) -> None:
    """Train and fill an index."""
    load().omp_set_num_threads(threads)
    index.train(base)
    index.add(base)


def search(index: Any, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
    """Return (nq, k) rows; the thread count is set at every call because it is global to Faiss."""
    load().omp_set_num_threads(threads)
    return index.search(queries, k)[1]


def bytes_per_vector(index: Any) -> float:
    """Return the length of the serialized index divided by its number of vectors."""
    return load().serialize_index(index).nbytes / index.ntotal
