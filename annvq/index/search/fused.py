"""Search in one kernel call, for indexes of lists with one segment whose codes know how."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from annvq import vectors as door
from annvq.hits import Hits
from annvq.index.codes.kind import FusedSearch
from annvq.index.codes.localrows import NOT_REFINED
from annvq.index.rows.snapshot import Snapshot
from annvq.index.search.params import SearchParams
from annvq.index.trained import Trained
from annvq.kernels.scan import pipeline
from annvq.kernels.scan.topk import capacity_for

SPLIT_ROWS = 1 << 15  # rows to scan below which one query is not worth sharing among threads
_FLOAT32 = np.dtype(np.float32)
_MOST_PLACES = 1 << 12  # hits or candidates of one query; for more, the general search's checks cost little
_MOST_SETTLED = 64  # depths of searches that are remembered
_LONGEST_SQUARED = np.float32(door.LONGEST**2 / 2)  # half: sums are rounded
_CHECKED = np.float32(0)  # queries are not checked again


@dataclass(frozen=True)
class Fused:
    """The search of an index's snapshot in one kernel call.

    ``count`` rows may be returned; a query that searches ``most_lists`` or more is worth sharing among threads. One
    query searches ``widening`` times as many lists, and rescores as many candidates, as it asks for, see
    `annvq.index.search.view.View`. ``settled`` remembers what the depths that were asked for come to.
    """

    trained: Trained
    snapshot: Snapshot
    search: FusedSearch
    with_ids: bool
    count: int
    most_lists: float
    widening: float
    settled: dict[tuple, tuple[int, ...]] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, trained: Trained, snapshot: Snapshot, widening: float = 1.0) -> Fused | None:
        """Prepare an index's snapshot, which a filter may narrow; None if it is searched stage by stage."""
        if trained.coarse is None or len(snapshot.segments) != 1:
            return None
        segment = snapshot.segments[0]
        with_ids = segment.ids.kind == "int"
        searched = pipeline.Searched(
            rotation=trained.turning,
            coarse=trained.coarse,
            searchable=snapshot.searchable_per_list,
            refined=NOT_REFINED if trained.refine is None else trained.refine.refined(segment),
            keys=snapshot.keys,
            row_base=segment.base,
            l2=trained.l2,
            normalize=trained.metric == "cosine",
            with_ids=with_ids,
        )
        search = trained.codes.fused(searched, segment)
        if search is None:
            return None
        most_lists = math.inf if trained.kind.is_graph else SPLIT_ROWS * trained.nlist / max(1, snapshot.rows)
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
        if query is None or not (
            type(k) is int
            and (nprobe is None or type(nprobe) is int)
            and (rerank is None or type(rerank) is int)
            and (threads is None or type(threads) is int)
        ):
            return None
        asked = k, nprobe, rerank, threads, depth
        settled = self.settled.get(asked)
        if settled is None:
            settled = self._settle(*asked)
            if settled is None:
                return None
            if len(self.settled) < _MOST_SETTLED:
                self.settled[asked] = settled
        scores, ids = np.empty((1, k), np.float32), np.empty((1, k), np.int64)
        if not self.search.kernel(query[None], *self.search.plan, k, *settled, _LONGEST_SQUARED, scores, ids):
            return None
        hits = Hits(ids if self.with_ids else self.snapshot.take_ids(ids), scores)
        hits.metric = self.trained.metric
        return hits

    def _settle(
        self, k: int, nprobe: int | None, rerank: int | None, threads: int | None, depth: SearchParams
    ) -> tuple[int, ...] | None:
        """Return keep, capacity, nprobe and need of one query, as the kernel takes them; None for anything unusual."""
        nprobe = depth.nprobe if nprobe is None else nprobe
        rerank = max(depth.rerank, 2 * k) if rerank is None else rerank
        some_threads = threads is None or threads > 0
        if not (0 < k <= min(_MOST_PLACES, self.count) and nprobe > 0 and rerank > 0 and some_threads):
            return None
        nprobe, rerank = math.ceil(nprobe * self.widening), math.ceil(rerank * self.widening)
        if threads != 1 and nprobe >= self.most_lists:
            return None
        trained = self.trained
        keep = max(k, min(rerank, self.count)) if trained.rescores else trained.codes.pool_depth(k)
        return keep, self._capacity(keep), min(nprobe, trained.nlist), keep


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
