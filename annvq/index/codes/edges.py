"""The neighbours of all vectors of a segment's graph, and the vertices at which searches enter it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from annvq.arrays import offsets_of
from annvq.codebooks import KMeans
from annvq.kernels import threads as pool
from annvq.kernels.clusters.assign import assign, best_many
from annvq.kernels.graph import edges as kernels
from annvq.kernels.graph.rows import DEGREE
from annvq.kernels.registers.tiles import aligned, readonly
from annvq.kernels.vectors import bytematrix
from annvq.kernels.vectors.bytetiles import COLUMNS
from annvq.kernels.vectors.dots import Store, squared_norms

_CANDIDATES = 128  # per vertex
_BACK = 64  # vertices that point to a vertex and become its candidates, at most
_LARGEST = 20  # neighbours that are chosen by products; the others are the nearest directions
_ALPHA = np.float32(1.1)  # see `annvq.kernels.graph.edges.prune`
_LISTS = 128  # nearest lists among which candidates are looked for; fewer cost recall of unlike queries
_SHORTEST = 64  # vectors per list, at least
_ENTRIES = 8  # per list: the vertex nearest to its centroid, and others ever farther from it
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
    lengths: np.ndarray,
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
    lengths
        (n,) float32, the lengths of the vectors if scores are inner products and they differ; else empty. Neighbours
        then have large products with the direction of a vertex, and the nearest directions see to it that those that
        are too short for this are reached too.
    threads
        Number of threads.

    """
    order, is_first = _equal_together(vectors, projected)
    first, follows = np.sort(order[is_first]), np.flatnonzero(~is_first)
    made, entries = _edges_of_distinct(
        store_of(vectors[first]), projected[first], lengths[first] if len(lengths) else lengths, threads
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


def _edges_of_distinct(store: Store, projected: np.ndarray, lengths: np.ndarray, threads: int) -> Edges:
    """Return the neighbours of vectors that differ, and vertices that lie everywhere.

    Candidates are the best by projected vectors; among these, neighbours are chosen by whole vectors.
    """
    near, far, entries = _candidates(projected, lengths, threads)
    n = len(near)
    tasks = pool.slices(n, -(-n // _ROWS_A_TASK))
    candidates, degree = (far, _LARGEST) if len(lengths) else (near, DEGREE)
    edges = _pruned(store, lengths, candidates, degree, tasks, threads)[1]
    back = np.empty((n, _BACK), np.int32)
    kernels.pointing_back(edges, back)
    best, edges = _pruned(store, lengths, np.concatenate([edges, back], axis=1), degree, tasks, threads)
    if len(lengths):
        edges = np.concatenate([edges, np.full((n, DEGREE - degree), -1, np.int32)], axis=1)
    more = np.concatenate([near, far] if len(lengths) else [best, near], axis=1)
    pool.run(lambda part: kernels.fill_up(edges, more, part.start, part.stop), tasks, threads)
    return Edges(edges, entries)


def _pruned(
    store: Store, lengths: np.ndarray, candidates: np.ndarray, degree: int, tasks: list[slice], threads: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the candidates of all vertices, best first, and those that are chosen as neighbours; -1 for none."""
    best, edges = np.empty_like(candidates), np.empty((len(candidates), degree), np.int32)

    def prune(part: slice) -> None:
        kernels.prune(store, lengths, candidates, _ALPHA, part.start, part.stop, best, edges)

    pool.run(prune, tasks, threads)
    return best, edges


def _candidates(vectors: np.ndarray, lengths: np.ndarray, threads: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return other vectors that are near each of n vectors (n, D), (n, c) int32, and vertices that lie everywhere.

    If there are ``lengths``, the nearest are those of vectors of length one; those with the largest products with the
    direction of each vector come second, (n, c) int32, which is else empty. All are looked for in the lists that
    promise most; every list has one vertex of those that lie everywhere, (lists,) int64.
    """
    n, whole = len(vectors), vectors
    if len(lengths):
        vectors = np.divide(whole, lengths[:, None], out=np.zeros_like(whole), where=lengths[:, None] > 0)
    nlist = max(1, min(round(n**0.5), n // _SHORTEST))
    centroids = KMeans.train(
        vectors, nlist, niter=_ITERATIONS, sample=max(nlist, min(n, 64 * nlist)), seed=0, threads=threads
    ).centroids
    labels, scores = assign(vectors, centroids, metric="l2", threads=threads)
    longest = np.zeros(nlist, np.float32)
    if len(lengths):
        scores = np.multiply(whole, centroids[labels], dtype=np.float64).sum(axis=1)
        np.maximum.at(longest, labels, lengths)
    order = np.lexsort((-scores, labels))  # the best of every list first
    offsets = offsets_of(np.bincount(labels, minlength=nlist))
    counts = np.diff(offsets)
    entries = np.concatenate([order[(offsets[:-1] + counts * i // _ENTRIES)[counts > i]] for i in range(_ENTRIES)])

    def found(sought: np.ndarray, metric: str, promising: np.ndarray) -> np.ndarray:
        packed = _Packed(sought, centroids, metric == "l2", order, offsets, threads)
        found = np.empty((n, min(_CANDIDATES, max(1, n - 1))), np.int32)

        def look(l: int) -> None:
            rows = order[offsets[l] : offsets[l + 1]]
            best = np.empty((len(rows), found.shape[1]), np.int32)
            around = best_many(vectors[rows], promising, metric=metric, n_best=min(_LISTS, nlist), threads=1)[0]
            packed.look(vectors[rows], rows, around.astype(np.int64), best)
            found[rows] = best

        pool.run(look, range(nlist), threads)
        return found

    near = found(vectors, "l2", centroids)
    far = found(whole, "ip", centroids * longest[:, None]) if len(lengths) else near[:, :0]
    return near, far, np.unique(entries)


class _Packed:
    """The vectors of lists in bytes, among which the nearest, or those with the largest products, are looked for.

    Parameters
    ----------
    vectors
        (n, D) float32.
    centroids
        (lists, D) float32, near each of which the vectors of its list are.
    l2
        Whether the nearest are looked for.
    order, offsets
        (n,) int64, the vectors in the order of their lists, and (lists + 1,) int64, where each list begins.
    threads
        Number of threads.

    """

    def __init__(
        self,
        vectors: np.ndarray,
        centroids: np.ndarray,
        l2: bool,
        order: np.ndarray,
        offsets: np.ndarray,
        threads: int,
    ) -> None:
        lengths = -(-np.diff(offsets) // COLUMNS) * COLUMNS
        self._centroids, self._l2 = np.ascontiguousarray(centroids), l2
        self._columns = offsets_of(lengths)
        self._of_columns = np.full(self._columns[-1], -1)
        self._groups = -(-vectors.shape[1] // 8) * 2
        width = self._groups * 4
        panels = aligned(self._columns[-1] * width, np.dtype(np.uint8))
        rest = [np.empty(self._columns[-1], dtype) for dtype in (np.int32, np.float32, np.float32)]

        def pack(l: int) -> None:
            rows, at = order[offsets[l] : offsets[l + 1]], self._columns[l]
            of_list = np.zeros((lengths[l], vectors.shape[1]), np.float32)
            of_list[: len(rows)] = vectors[rows] - centroids[l]
            self._of_columns[at : at + len(rows)] = rows
            made = bytematrix.pack(of_list.T, np.float32(-0.5 if l2 else 0) * squared_norms(of_list))
            panels[at * width : (at + lengths[l]) * width] = made.panels
            for array, of_columns in zip(rest, made[1:], strict=True):
                array[at : at + lengths[l]] = of_columns

        pool.run(pack, [l for l in range(len(lengths)) if lengths[l]], threads)
        self._matrix = bytematrix.ByteMatrix(readonly(panels), *(readonly(array) for array in rest))

    def look(self, vectors: np.ndarray, vertices: np.ndarray, around: np.ndarray, found: np.ndarray) -> None:
        """Find the best of vectors (m, D) float32 in lists ``around`` (m, t) int64 each: ``found`` (m, c) int32."""
        kernels.nearest_in_lists(
            vectors, self._centroids, self._l2, vertices, around, self._matrix, self._groups, self._columns,
            self._of_columns, found.shape[1], found,
        )  # fmt: skip
