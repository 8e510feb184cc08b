"""The rows by which searches enter a graph: entries that are near each other, and which of these rows are near."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from annvq.codebooks import KMeans
from annvq.kernels.clusters.assign import assign
from annvq.kernels.graph.rows import DEGREE
from annvq.kernels.graph.walk import DOORS

_TOGETHER = 24  # entries near each other for which a row is meant, so that most groups fit into one
_ITERATIONS = 6


class EntryRows(NamedTuple):
    """Rows of entries behind the n vertices of a graph, see `annvq.kernels.graph.rows`."""

    vectors: np.ndarray  # (rows,) int64, the vertex whose vector a row has; n is the centre
    coded: np.ndarray  # (rows, 32) uint32, the vertices of which it has codes; n for none
    neighbors: np.ndarray  # (rows, 32) uint32, what it names: these vertices, or rows


def rows_of_entries(entries: np.ndarray, projected: np.ndarray, n: int, threads: int) -> EntryRows:
    """Return the rows of ``entries``, (e,) int64, some of n vertices.

    Entries are put together by ``projected``, (n or more, D) float32, the projected vectors of the vertices. If there
    are more rows than a search opens, rows above them tell which are near.
    """
    places = projected[entries]
    groups = -(-len(entries) // _TOGETHER)
    centroids = KMeans.train(places, groups, niter=_ITERATIONS, seed=0, threads=threads).centroids
    labels, scores = assign(places, centroids, metric="l2", threads=threads)
    order = np.lexsort((-scores, labels))
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    rows = _in_rows(entries[order], np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order))), n)
    first = rows[:, 0].astype(np.int64)
    if len(rows) <= DOORS:
        return EntryRows(first, rows, rows)
    above = _in_rows(first, np.arange(len(first)), n)
    named = _in_rows(np.arange(len(rows)) + n + len(above), np.arange(len(first)), n)
    return EntryRows(
        np.concatenate([np.full(len(above), n), first]), np.concatenate([above, rows]), np.concatenate([named, rows])
    )


def _in_rows(values: np.ndarray, ranks: np.ndarray, fill: int) -> np.ndarray:
    """Return values (m,) in rows (rows, 32) uint32; a row begins where the rank (m,) within a group is 0, 32, ..."""
    lanes = ranks % DEGREE
    row = np.cumsum(lanes == 0) - 1
    rows = np.full((row[-1] + 1, DEGREE), fill, np.uint32)
    rows[row, lanes] = values
    return rows
