"""Chamfer similarity of sets of vectors, computed exactly."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from annvq.arguments import as_threads
from annvq.errors import ShapeError
from annvq.kernels import threads as pool
from annvq.kernels.documents import chamfer as kernels
from annvq.kernels.registers.tiles import readonly
from annvq.kernels.vectors import gemm
from annvq.kernels.vectors.dots import Store
from annvq.multivector.ragged import Ragged

_VECTORS_A_TASK = 4096
_QUERY_VECTORS = 256  # multiplied at a time; their panels stay in cache
_NOTHING = np.empty(0, np.float32)


def chamfer(
    queries: Any,
    documents: Any,
    *,
    query_offsets: Any = None,
    document_offsets: Any = None,
    threads: int | None = None,
) -> np.ndarray:
    """Return the Chamfer similarity of every query to every document.

    It is the sum, over the query's vectors, of the largest inner product with a vector of the document.

    Parameters
    ----------
    queries, documents
        Sets of vectors of one dimension as `annvq.multivector.Ragged.of` takes them: lists of arrays (t, d), Arrow
        lists, or flat (n, d) with ``query_offsets`` or ``document_offsets``; float32, float16 or int8.
    query_offsets, document_offsets
        (nq + 1,) and (documents + 1,): where each set begins in flat vectors, and the end of the last; else None.
    threads
        Default: all CPUs of the process; the result does not depend on it.

    Returns
    -------
    np.ndarray
        (nq, m) float32. A document without vectors scores minus infinity, a query without vectors 0.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError
        The input is not sets of vectors, or the sets differ in dimension.

    Examples
    --------
    >>> query, documents = [[1.0, 0.0], [0.0, 1.0]], [[[1.0, 0.0]], [[0.5, 0.5], [0.0, 2.0]]]
    >>> annvq.multivector.chamfer([query], documents)
    array([[1. , 2.5]], dtype=float32)

    """
    asked = Ragged.of(queries, query_offsets, name="queries").floats()
    given = Ragged.of(documents, document_offsets)
    workers = pool.resolve(as_threads(threads))
    scores = np.empty((len(asked), len(given)), np.float32)
    if scores.size == 0:
        return scores
    if asked.dim != given.dim:
        raise ShapeError(f"queries of dimension {asked.dim} for documents of dimension {given.dim}")
    blocks = _cuts(asked.offsets, _QUERY_VECTORS)
    packed = [(block, gemm.pack(asked[block].vectors), asked[block].offsets) for block in blocks]

    def run(part: slice) -> None:
        some = given[part].floats()
        store = Store(readonly(some.vectors.reshape(-1)), some.dim, _NOTHING, _NOTHING)
        every = np.arange(len(some))
        for block, panels, offsets in packed:
            out = np.empty((len(offsets) - 1, len(some)), np.float32)
            kernels.chamfer_of_rows(panels, offsets, store, some.offsets, every, out)
            scores[block, part] = out

    pool.run(run, _cuts(given.offsets, _VECTORS_A_TASK), workers)
    return scores


def _cuts(offsets: np.ndarray, size: int) -> list[slice]:
    """Cut sets into runs of about ``size`` vectors."""
    cuts = [0, *(np.flatnonzero(np.diff(offsets[1:] // size)) + 1), len(offsets) - 1]
    return [slice(int(begin), int(end)) for begin, end in pairwise(cuts)]
