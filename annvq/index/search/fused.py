"""Search of the usual kind of index in one kernel call: lists, 4-bit product codes, one segment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from annvq import vectors as door
from annvq.arrays import frozen
from annvq.codebooks import ProductCodebook
from annvq.hits import Hits
from annvq.index.codes.tablecodes import TableCodes
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
    """What the kernels read, by address, and what keeps it in memory.

    ``count``: rows that may be returned; ``most_lists``: a query that searches more is worth sharing among threads.
    """

    trained: Trained
    snapshot: Snapshot
    plan: tuple[np.ndarray, ...]
    searched: pipeline.Searched
    with_ids: bool
    count: int
    most_lists: float
    copies: int

    @classmethod
    def of(cls, trained: Trained, snapshot: Snapshot) -> Fused | None:
        """Prepare an index's snapshot, which a filter may narrow; None if the index is of another kind."""
        codebook, codes, coarse = trained.codebook, trained.codes, trained.coarse
        if not (isinstance(codebook, ProductCodebook) and codebook.nbits == 4 and len(snapshot.segments) == 1):
            return None
        if coarse is None or not isinstance(codes, TableCodes):
            return None
        segment = snapshot.segments[0]
        with_ids = segment.ids.kind == "int"
        rotation = pipeline.Rotation(
            _NO_PANELS if trained.rotation is None else trained.rotation.panels,
            _NOTHING if trained.center is None else trained.center,
        )
        searched = pipeline.Searched(
            rotation=rotation,
            coarse=coarse,
            searchable=snapshot.searchable_per_list,
            transposed=codebook.transposed,
            residual=codes.residual,
            codes=codes.packed(segment),
            spilled=codes.spilled(segment),
            store=_NO_STORE if trained.refine is None else trained.refine.store(segment),
            keys=snapshot.keys,
            l2=trained.l2,
            normalize=trained.metric == "cosine",
            with_ids=with_ids,
        )
        plan = pipeline.plan(searched)
        most_lists = SPLIT_ROWS * trained.nlist / max(1, snapshot.rows)
        return cls(trained, snapshot, plan, searched, with_ids, snapshot.searchable_count, most_lists, codes.copies)

    def search_block(self, queries: np.ndarray, k: int, keep: int, nprobe: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the best k scores and rows of queries (nq, d), as `annvq.index.search.stages` does."""
        scores, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        queries = queries if queries.flags.writeable else queries.copy()  # one compiled kernel, not two
        pipeline.search_planned(
            queries, *self.plan, k, keep, self._capacity(keep), nprobe, keep, _CHECKED, scores, rows
        )
        return scores, rows

    def _capacity(self, keep: int) -> int:
        return capacity_for(keep * self.copies)

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
        if threads is None:
            if nprobe >= self.most_lists:
                return None
        elif not (type(threads) is int and threads == 1):
            return None
        trained = self.trained
        keep = max(k, min(rerank, count)) if trained.refine is not None else trained.codes.pool_depth(k)
        scores, ids = np.empty((1, k), np.float32), np.empty((1, k), np.int64)
        nprobe = min(nprobe, trained.nlist)
        if not pipeline.search_planned(
            query[None], *self.plan, k, keep, self._capacity(keep), nprobe, keep, _LONGEST_SQUARED, scores, ids
        ):
            return None
        return Hits(ids if self.with_ids else self.snapshot.take_ids(ids), scores)


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
