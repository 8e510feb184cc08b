"""The neighbours of all vectors of a segment's graph, and the vertices at which searches enter it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from annvq.arrays import offsets_of
from annvq.codebooks import KMeans
from annvq.kernels import threads as pool
from annvq.kernels.clusters.assign import assign, assign_many
from annvq.kernels.graph import edges as kernels
from annvq.kernels.graph.rows import DEGREE
from annvq.kernels.registers.tiles import aligned, readonly
from annvq.kernels.vectors import bytematrix
from annvq.kernels.vectors.bytetiles import COLUMNS
from annvq.kernels.vectors.dots import Store, squared_norms

_CANDIDATES = 128  # per vertex
_BACK = 64  # vertices that point to a vertex and become its candidates, at most
_ALPHA = np.float32(1.1)  # see `annvq.kernels.graph.edges.prune`
_LISTS = 128  # nearest lists among which candidates are looked for; fewer cost recall of unlike queries
_SHORTEST = 64  # vectors per list, at least
_ITERATIONS = 6
_ROWS_A_TASK = 512
_COMPARED = 4  # projected dimensions by which vectors are sorted to find equal ones


class Edges(NamedTuple):
    """A graph: ``edges`` (n, 32) int32, and ``entries`` (e,) int64, from which all vertices can be reached."""

    edges: np.ndarray
    entries: np.ndarray


def edges_of(
    vectors: np.ndarray,
    store_of: Callable[[np.ndarray], Store],
    projected: np.ndarray,
    extra: np.ndarray,
    threads: int,
) -> Edges:
    """Make the graph of n >= 1 vectors, whatever the number of threads.

    Vectors that are equal would have only each other for neighbours. The graph is therefore made of the first of each,
    and the others follow it in a chain: each has its neighbours, but for one, which is the next in the chain.

    Parameters
    ----------
    vectors, store_of
        (n, d), the vectors as they are kept, and what makes a store of some.
    projected
        (n, D) float32, the projected vectors.
    extra
        (n,) float32, one more dimension of all vectors, or empty.
    threads
        Number of threads.

    """
    order, is_first = _equal_together(vectors, projected)
    first, follows = np.sort(order[is_first]), np.flatnonzero(~is_first)
    made, entries = _edges_of_distinct(
        store_of(vectors[first]), projected[first], extra[first] if len(extra) else extra, threads
    )
    leads = np.empty_like(order)
    leads[order] = order[is_first][np.cumsum(is_first) - 1]  # the first of the vectors that are equal
    edges = first.astype(np.int32)[made][np.searchsorted(first, leads)]
    edges[order[follows - 1], -1] = order[follows]
    entries = first[entries]
    reaching = np.empty(len(vectors), np.int64)
    count = kernels.reach(edges, entries, len(entries), reaching)
    return Edges(edges, reaching[:count])


def _equal_together(vectors: np.ndarray, projected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return an order (n,) int64 in which equal vectors follow each other, and which places are the first of these."""
    order = np.lexsort(projected[:, :_COMPARED].T)  # equal vectors have equal projections, and keep their order
    is_first = np.ones(len(order), bool)
    for start in range(1, len(order), _ROWS_A_TASK):
        some = order[start - 1 : start + _ROWS_A_TASK]
        is_first[start : start + _ROWS_A_TASK] = (vectors[some[1:]] != vectors[some[:-1]]).any(axis=1)
    return order, is_first


def _edges_of_distinct(store: Store, projected: np.ndarray, extra: np.ndarray, threads: int) -> Edges:
    """Return the neighbours of vectors that differ, and vertices that lie everywhere.

    Candidates are the nearest by projected vectors; among these, neighbours are chosen by whole vectors.
    """
    near, entries = _candidates(projected if not len(extra) else np.column_stack([projected, extra]), threads)
    n = len(near)
    tasks = pool.slices(n, -(-n // _ROWS_A_TASK))
    edges = _pruned(store, extra, near, tasks, threads)[1]
    back = np.empty((n, _BACK), np.int32)
    kernels.pointing_back(edges, back)
    nearest, edges = _pruned(store, extra, np.concatenate([edges, back], axis=1), tasks, threads)
    more = np.concatenate([nearest, near], axis=1)
    pool.run(lambda part: kernels.fill_up(edges, more, part.start, part.stop), tasks, threads)
    return Edges(edges, entries)


def _pruned(
    store: Store, extra: np.ndarray, candidates: np.ndarray, tasks: list[slice], threads: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the candidates of all vertices, nearest first, and those that are chosen as neighbours; -1 for none."""
    nearest, edges = np.empty_like(candidates), np.empty((len(candidates), DEGREE), np.int32)

    def prune(part: slice) -> None:
        kernels.prune(store, extra, candidates, _ALPHA, part.start, part.stop, nearest, edges)

    pool.run(prune, tasks, threads)
    return nearest, edges


def _candidates(vectors: np.ndarray, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest other vectors of each of n vectors (n, D), (n, c) int32, and vertices that lie everywhere.

    The nearest are looked for in the lists that are nearest to a vector; every list has one vertex of those that lie
    everywhere, (lists,) int64.
    """
    n = len(vectors)
    nlist = max(1, min(round(n**0.5), n // _SHORTEST))
    centroids = KMeans.train(
        vectors, nlist, niter=_ITERATIONS, sample=max(nlist, min(n, 64 * nlist)), seed=0, threads=threads
    ).centroids
    labels, scores = assign(vectors, centroids, metric="l2", threads=threads)
    order = np.lexsort((-scores, labels))  # nearest to the centroid first
    offsets = offsets_of(np.bincount(labels, minlength=nlist))
    entries = order[offsets[:-1][np.diff(offsets) > 0]]
    packed = _Packed(vectors, order, offsets, threads)
    found = np.empty((n, min(_CANDIDATES, max(1, n - 1))), np.int32)

    def look(l: int) -> None:
        rows = order[offsets[l] : offsets[l + 1]]
        best = np.empty((len(rows), found.shape[1]), np.int32)
        of_list = vectors[rows]
        around = assign_many(of_list, centroids, metric="l2", n_best=min(_LISTS, nlist), threads=1)[0]
        packed.look(of_list, rows, around.astype(np.int64), best)
        found[rows] = best

    pool.run(look, range(nlist), threads)
    return found, np.sort(entries)


class _Packed:
    """The vectors of lists in bytes, among which the nearest are looked for.

    Parameters
    ----------
    vectors
        (n, D) float32.
    order, offsets
        (n,) int64, the vectors in the order of their lists, and (lists + 1,) int64, where each list begins.
    threads
        Number of threads.

    """

    def __init__(self, vectors: np.ndarray, order: np.ndarray, offsets: np.ndarray, threads: int) -> None:
        lengths = -(-np.diff(offsets) // COLUMNS) * COLUMNS
        self._columns = offsets_of(lengths)
        self._of_columns = np.full(self._columns[-1], -1)
        self._groups = -(-vectors.shape[1] // 8) * 2
        width = self._groups * 4
        panels = aligned(self._columns[-1] * width, np.dtype(np.uint8))
        rest = [np.empty(self._columns[-1], dtype) for dtype in (np.int32, np.float32, np.float32)]

        def pack(l: int) -> None:
            rows, at = order[offsets[l] : offsets[l + 1]], self._columns[l]
            of_list = np.zeros((lengths[l], vectors.shape[1]), np.float32)
            of_list[: len(rows)] = vectors[rows]
            self._of_columns[at : at + len(rows)] = rows
            made = bytematrix.pack(of_list.T, np.float32(-0.5) * squared_norms(of_list))
            panels[at * width : (at + lengths[l]) * width] = made.panels
            for array, of_columns in zip(rest, made[1:], strict=True):
                array[at : at + lengths[l]] = of_columns

        pool.run(pack, [l for l in range(len(lengths)) if lengths[l]], threads)
        self._matrix = bytematrix.ByteMatrix(readonly(panels), *(readonly(array) for array in rest))

    def look(self, vectors: np.ndarray, vertices: np.ndarray, around: np.ndarray, found: np.ndarray) -> None:
        """Find the nearest of vectors (m, D) float32 in lists ``around`` (m, t) int64 each: ``found`` (m, c) int32."""
        m, d = vectors.shape
        levels, steps = np.empty((m, -(-d // 16) * 16), np.uint8), np.empty(m, np.float32)
        kernels.pack_list(vectors, levels, steps)
        kernels.nearest_in_lists(
            levels, steps, vertices, around, self._matrix, self._groups, self._columns, self._of_columns,
            found.shape[1], found,
        )  # fmt: skip
