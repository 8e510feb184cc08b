"""Search in one kernel call, for indexes of lists with one segment whose codes know how."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from annvq import vectors as door
from annvq.hits import Hits
from annvq.index.codes.kind import FusedSearch
from annvq.index.codes.localrows import NOT_REFINED
from annvq.index.rows.snapshot import Snapshot
from annvq.index.search.params import SearchParams
from annvq.index.trained import Trained
from annvq.kernels import turns
from annvq.kernels.compile.jit import entry_of
from annvq.kernels.scan import pipeline
from annvq.kernels.scan.topk import capacity_for

SPLIT_ROWS = 1 << 15  # rows to scan below which one query is not worth sharing among threads
_FLOAT32, _INT64 = np.dtype(np.float32), np.dtype(np.int64)
_MOST_PLACES = 1 << 12  # hits or candidates of one query; for more, the general search's checks cost little
_MOST_QUERIES = 64  # of one call; for more, the general search's checks cost little
_MOST_UNSHARED = 8  # queries that threads are not worth starting for
_MOST_POOLED = 1 << 19  # places of the pools of a call
_MOST_SETTLED = 256  # numbers of queries and depths of searches that are remembered
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
            word=turns.WORD,
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

    def search_few(
        self, queries: Any, k: Any, nprobe: Any, rerank: Any, depth: SearchParams, threads: int | None
    ) -> Hits | None:
        """Search for one query, or for few that no threads share, with as little Python as possible.

        The parameters are those of `Index.search`, unchecked, and the defaults. For anything unusual it returns None,
        and the general search answers or says what is wrong.
        """
        queries = _plain(queries, self.trained.dim)
        if queries is None or not (
            type(k) is int
            and (nprobe is None or type(nprobe) is int)
            and (rerank is None or type(rerank) is int)
            and (threads is None or type(threads) is int)
        ):
            return None
        nq = len(queries)
        asked = nq, k, nprobe, rerank, threads, depth.nprobe, depth.rerank
        settled = self.settled.get(asked)
        if settled is None:
            settled = self._settle(nq, k, nprobe, rerank, threads, depth)
            if settled is None:
                return None
            if len(self.settled) < _MOST_SETTLED:
                self.settled[asked] = settled
        scores, ids = np.empty((nq, k), _FLOAT32), np.empty((nq, k), _INT64)
        if not self._run(queries, *self.search.plan, k, *settled, _LONGEST_SQUARED, scores, ids):
            return None
        hits = tuple.__new__(Hits, (ids if self.with_ids else self.snapshot.take_ids(ids), scores))  # half the time
        hits.metric = self.trained.metric
        return hits

    @cached_property
    def _run(self) -> Callable[..., bool]:
        """What the kernel runs for the arguments of `search_few`."""
        scores, rows = np.empty((1, 1), np.float32), np.empty((1, 1), np.int64)
        return entry_of(self.search.kernel, scores, *self.search.plan, 1, 1, 1, 1, 1, _LONGEST_SQUARED, scores, rows)

    def _settle(
        self, nq: int, k: int, nprobe: int | None, rerank: int | None, threads: int | None, depth: SearchParams
    ) -> tuple[int, ...] | None:
        """Return keep, capacity, nprobe and need of queries, as the kernel takes them; None for anything unusual."""
        nprobe = depth.nprobe if nprobe is None else nprobe
        rerank = max(depth.rerank, 2 * k) if rerank is None else rerank
        some_threads = threads is None or threads > 0
        if not (0 < k <= min(_MOST_PLACES, self.count) and nprobe > 0 and rerank > 0 and some_threads):
            return None
        nprobe, rerank = min(nprobe, self.trained.nlist or 1), min(rerank, self.count)  # before they become floats
        nprobe, rerank = math.ceil(nprobe * self.widening), math.ceil(rerank * self.widening)
        if threads != 1 and (nq > _MOST_UNSHARED or nq * nprobe >= self.most_lists):
            return None
        trained = self.trained
        keep = max(k, min(rerank, self.count)) if trained.rescores else trained.codes.pool_depth(k)
        capacity = self._capacity(keep)
        if nq > 1 and nq * capacity > _MOST_POOLED:
            return None
        return keep, capacity, min(nprobe, trained.nlist), keep


def _plain(queries: Any, dim: int) -> np.ndarray | None:
    """Return one query or few as the kernels take them, (nq, dim) float32, or None if these are not clearly such."""
    if not (type(queries) is np.ndarray and queries.dtype is _FLOAT32):
        queries = door.as_query(queries, dim)
        if queries is None:
            return None
    if queries.ndim == 1:
        queries = queries[None]
    if queries.ndim != 2:
        return None
    nq, width = queries.shape
    if width != dim or not 0 < nq <= _MOST_QUERIES:
        return None
    return queries if queries.flags.carray else queries.copy()
