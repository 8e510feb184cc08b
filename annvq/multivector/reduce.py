"""Fewer vectors per set: similar vectors of a document are pooled, near ones of a query are replaced by their sum."""

from __future__ import annotations

from typing import Any

import numpy as np

from annvq.arguments import as_count, as_number, as_threads
from annvq.arrays import offsets_of
from annvq.kernels import threads as pool
from annvq.kernels.documents import reduce
from annvq.multivector.ragged import Ragged, concatenated

_SETS_A_TASK = 16


def pool_tokens(documents: Any, factor: int, *, offsets: Any = None, threads: int | None = None) -> Ragged:
    """Merge each document's vectors until one in ``factor`` of them is left.

    The vectors, scaled to length one, are clustered hierarchically by Ward's criterion; a cluster becomes the mean of
    its vectors, scaled to their mean length (Clavie et al. 2024, "Reducing the Footprint of Multi-Vector Retrieval
    with Minimal Performance Impact via Token Pooling", section 3).

    Parameters
    ----------
    documents, offsets
        Sets of vectors as `Ragged.of` takes them.
    factor
        At least 1; a set of t vectors keeps ceil(t / factor).
    threads
        Default: all CPUs of the process.

    Returns
    -------
    Ragged
        The pooled vectors, float32; clusters are in the order of their first vectors.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError, ParameterError
        The documents are none that `Ragged.of` takes, or ``factor`` is not a whole number of at least 1.

    Examples
    --------
    >>> documents = np.random.default_rng(0).normal(size=(100, 8, 16))  # or a list of arrays (t, 16)
    >>> annvq.multivector.pool_tokens(documents, 2).vectors.shape
    (400, 16)

    """
    factor = as_count("factor", factor)
    sets = Ragged.of(documents, offsets).floats()
    if factor == 1 or len(sets) == 0:
        return sets
    return _of_all(sets, lambda one: reduce.ward(one, np.int64(-(-len(one) // factor))), threads)


def carve_queries(queries: Any, threshold: float, *, offsets: Any = None, threads: int | None = None) -> Ragged:
    """Replace near vectors of each query by their sum, so that fewer vectors are searched for ("ball carving").

    The first vector that is left and all whose cosine with it is at least ``threshold`` are replaced by their sum,
    until none is left (Dhulipala et al. 2024, "MUVERA", section 3.3). The Chamfer similarity of the result is at most
    that of the query, and close to it if near vectors have the same best vector in a document.

    Parameters
    ----------
    queries, offsets
        Sets of vectors as `Ragged.of` takes them.
    threshold
        Above -1, at most 1.
    threads
        Default: all CPUs of the process.

    Returns
    -------
    Ragged
        float32.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError, ParameterError
        The queries are none that `Ragged.of` takes, or ``threshold`` is outside its range.

    Examples
    --------
    >>> query = [[1.0, 0.0], [0.75, 0.25], [0.0, 1.0]]
    >>> annvq.multivector.carve_queries([query], 0.8).vectors
    array([[1.75, 0.25],
           [0.  , 1.  ]], dtype=float32)

    """
    least = np.float64(as_number("threshold", threshold, above=-1, most=1))
    sets = Ragged.of(queries, offsets, name="queries").floats()
    return sets if len(sets) == 0 else _of_all(sets, lambda one: reduce.carve(one, least), threads)


def _of_all(sets: Ragged, one: Any, threads: int | None) -> Ragged:
    """Return what ``one`` makes of every set, put together."""

    def run(part: slice) -> Ragged:
        made = [one(np.ascontiguousarray(vectors)) for vectors in sets[part]]
        return Ragged(np.concatenate(made), offsets_of([len(m) for m in made]))

    return concatenated(
        pool.run(run, pool.slices(len(sets), -(-len(sets) // _SETS_A_TASK)), pool.resolve(as_threads(threads)))
    )
