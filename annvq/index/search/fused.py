"""Search in one kernel call, for indexes of lists with one segment whose codes know how."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from annvq import vectors as door
from annvq.arrays import frozen
from annvq.hits import Hits
from annvq.index.codes.kind import FusedSearch
from annvq.index.rows.snapshot import Snapshot
from annvq.index.search.params import SearchParams
from annvq.index.trained import Trained
from annvq.kernels.scan import pipeline
from annvq.kernels.scan.topk import capacity_for
from annvq.kernels.vectors.dots import Store

SPLIT_ROWS = 1 << 15  # rows to scan below which one query is not worth sharing among threads
_NOTHING = frozen(np.empty(0, np.float32))
_NO_STORE = Store(_NOTHING, 0, _NOTHING, _NOTHING)
_NO_PANELS = frozen(np.empty((0, 0, 0), np.float32))
_FLOAT32 = np.dtype(np.float32)
_MOST_PLACES = 1 << 12  # hits or candidates of one query; for more, the general search's checks cost little
_LONGEST_SQUARED = np.float32(door.LONGEST**2 / 2)  # half: sums are rounded
_CHECKED = np.float32(0)  # queries are not checked again


@dataclass(frozen=True)
class Fused:
    """The search of an index's snapshot in one kernel call.

    ``count`` rows may be returned; a query that searches ``most_lists`` or more is worth sharing among threads. One
    query searches ``widening`` times as many lists, and rescores as many candidates, as it asks for, see
    `annvq.index.search.view.View`.
    """

    trained: Trained
    snapshot: Snapshot
    search: FusedSearch
    with_ids: bool
    count: int
    most_lists: float
    widening: float

    @classmethod
    def of(cls, trained: Trained, snapshot: Snapshot, widening: float = 1.0) -> Fused | None:
        """Prepare an index's snapshot, which a filter may narrow; None if it is searched stage by stage."""
        if trained.coarse is None or len(snapshot.segments) != 1:
            return None
        segment = snapshot.segments[0]
        with_ids = segment.ids.kind == "int"
        searched = pipeline.Searched(
            rotation=pipeline.Rotation(
                _NO_PANELS if trained.rotation is None else trained.rotation.panels,
                _NOTHING if trained.center is None else trained.center,
            ),
            coarse=trained.coarse,
            searchable=snapshot.searchable_per_list,
            store=_NO_STORE if trained.refine is None else trained.refine.store(segment),
            keys=snapshot.keys,
            row_base=segment.base,
            l2=trained.l2,
            normalize=trained.metric == "cosine",
            with_ids=with_ids,
        )
        search = trained.codes.fused(searched, segment)
        if search is None:
            return None
        most_lists = SPLIT_ROWS * trained.nlist / max(1, snapshot.rows)
        return cls(trained, snapshot, search, with_ids, snapshot.searchable_count, most_lists, widening)

    def search_block(self, queries: np.ndarray, k: int, keep: int, nprobe: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the best k scores and rows of queries (nq, d), as `annvq.index.search.stages` does."""
        scores, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        queries = queries if queries.flags.writeable else queries.copy()  # one compiled kernel, not two
        self.search.kernel(
            queries, *self.search.plan, k, keep, self._capacity(keep), nprobe, keep, _CHECKED, scores, rows
        )
        return scores, rows

    def _capacity(self, keep: int) -> int:
        return capacity_for(keep * self.trained.codes.copies)

    def search_one(
        self, query: Any, k: Any, nprobe: Any, rerank: Any, depth: SearchParams, threads: int | None
    ) -> Hits | None:
        """Search for one query with as little Python as possible.

        The parameters are those of `Index.search`, unchecked, and the defaults. For anything unusual it returns None,
        and the general search answers or says what is wrong.
        """
        query = _plain(query, self.trained.dim)
        count = self.count
        if query is None or not (type(k) is int and 0 < k <= _MOST_PLACES and k <= count):
            return None
        if nprobe is None:
            nprobe = depth.nprobe
        elif not (type(nprobe) is int and nprobe > 0):
            return None
        if rerank is None:
            rerank = max(depth.rerank, 2 * k)
        elif not (type(rerank) is int and rerank > 0):
            return None
        if self.widening != 1.0:
            nprobe, rerank = math.ceil(nprobe * self.widening), math.ceil(rerank * self.widening)
        if threads is None:
            if nprobe >= self.most_lists:
                return None
        elif not (type(threads) is int and threads == 1):
            return None
        trained = self.trained
        keep = max(k, min(rerank, count)) if trained.refine is not None else trained.codes.pool_depth(k)
        scores, ids = np.empty((1, k), np.float32), np.empty((1, k), np.int64)
        nprobe = min(nprobe, trained.nlist)
        if not self.search.kernel(
            query[None], *self.search.plan, k, keep, self._capacity(keep), nprobe, keep, _LONGEST_SQUARED, scores, ids
        ):
            return None
        hits = Hits(ids if self.with_ids else self.snapshot.take_ids(ids), scores)
        hits.metric = trained.metric
        return hits


def _plain(query: Any, dim: int) -> np.ndarray | None:
    """Return one query as the kernels take it, (dim,) float32, or None if ``queries`` is not clearly one."""
    if not (type(query) is np.ndarray and query.dtype is _FLOAT32):
        query = door.as_query(query, dim)
    if query is None or query.size != dim:
        return None
    if query.ndim == 2 and len(query) == 1:
        query = query[0]
    elif query.ndim != 1:
        return None
    return query if query.flags.carray else query.copy()
