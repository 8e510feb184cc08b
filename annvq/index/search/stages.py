"""The search pipeline: lists, tables, scan into pools, refine, best k."""

from __future__ import annotations

from typing import Any

import numpy as np

from annvq.index.codes import spill
from annvq.index.codes.pools import Pools
from annvq.index.codes.probes import Probes
from annvq.index.rows.snapshot import Snapshot
from annvq.index.search.explain import Trace
from annvq.index.search.fused import SPLIT_ROWS
from annvq.index.search.params import SearchParams
from annvq.index.search.view import View
from annvq.index.trained import Trained
from annvq.kernels import threads as pool
from annvq.kernels.graph.rows import DEGREE
from annvq.kernels.scan.topk import capacity_for

_BLOCK = 64  # queries per task; pools and tables of a block stay in cache
_FUSED_BLOCK = 512  # more queries share the reading of a list
_POOL_BYTES = 1 << 26  # of one block's pools


def search(
    view: View,
    queries: np.ndarray,
    k: int,
    depth: SearchParams,
    threads: int,
    *,
    split_rows: int | None = None,
    traces: list[Trace] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best k rows of every query.

    Lists are probed until they hold as many rows that may be returned as the pool takes. The answer depends on
    these rows alone, and not on whether others were removed. If few rows pass a filter (`View.few`), all of them are
    scored; otherwise more lists are probed, the fewer rows pass.

    Parameters
    ----------
    view
        The index, all of its rows or those that pass a filter.
    queries
        (nq, d) float32, finite, of unit norm if the metric is cosine.
    k
        Rows to return, at most as many as may be returned.
    depth
        Numbers of lists and candidates.
    threads
        Number of threads, which share blocks of queries or, for few queries, parts of the lists.
    split_rows
        The least number of rows in a part, `SPLIT_ROWS` if None.
    traces
        To which what was done for each block of queries is added, if it is a list.

    Returns
    -------
    tuple
        scores (nq, k) float32 and rows (nq, k) int64, best first, ties by id.

    """
    if k == 0 or len(queries) == 0:
        return np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    keep = pool_depth(view, k, depth)
    few, nprobe = view.few, view.lists(depth.nprobe)
    if few is not None:
        keep = max(1, len(few))
    fused = view.fused
    if traces is not None or (
        fused is not None and threads >= 2 * len(queries) and (split_rows or nprobe >= fused.most_lists)
    ):
        fused = None  # stage by stage
    most = _BLOCK if fused is None else _FUSED_BLOCK
    size = max(1, min(most, -(-len(queries) // threads), _POOL_BYTES // (12 * capacity_for(keep))))
    blocks = [slice(start, start + size) for start in range(0, len(queries), size)]
    spare = threads // len(blocks)

    def run_block(block: slice) -> tuple[np.ndarray, np.ndarray]:
        if fused is not None:
            return fused.search_block(queries[block], k, keep, nprobe)
        trace = None
        if traces is not None:
            traces.append(trace := Trace())
        if few is not None:
            return _score_rows(view, queries[block], k, few, trace)
        return _search_block(view, queries[block], k, keep, nprobe, spare, split_rows, trace)

    found = [run_block(blocks[0])] if len(blocks) == 1 else pool.run(run_block, blocks, threads)
    scores, rows = found[0]
    if len(found) > 1:
        scores, rows = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if view.trained.zero != "error":
        answer_zero_queries(view.snapshot, queries, scores, rows)
    return scores, rows


def answer_zero_queries(snapshot: Snapshot, queries: np.ndarray, scores: np.ndarray, rows: np.ndarray) -> None:
    """Give queries that are zero what they score with every row, 0, and the rows with the least ids.

    Estimates from codes of differences (RaBitQ) would be near 0, in any order.
    """
    zero = ~queries.any(axis=1)
    if zero.any():
        scores[zero], rows[zero] = 0.0, least_rows(snapshot, rows.shape[1])


def least_rows(snapshot: Snapshot, count: int) -> np.ndarray:
    """Return the rows (count,) int64 of the least ids that a search may return."""
    passing = snapshot.searchable_rows()
    return passing[np.argsort(snapshot.keys[passing], kind="stable")[:count]]


def pool_depth(view: View, k: int, depth: SearchParams) -> int:
    """Return how many rows a scan must keep for the k best."""
    if view.trained.rescores:
        return max(k, view.candidates(depth.rerank))
    return view.trained.codes.pool_depth(k)


def _score_rows(
    view: View, queries: np.ndarray, k: int, rows: np.ndarray, trace: Trace | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best of ``rows`` (m,) int64 for each query, every one of which is scored."""
    trained, snapshot = view.trained, view.snapshot
    prepared = None
    if trained.refine is None:
        rotated = trained.turn(queries)
        every = probe(trained, rotated, trained.nlist, 0, snapshot.searchable_per_list)
        prepared = trained.codes.prepare(rotated, every)
    if trace is not None:
        trace.ends("prepare")
    pools = Pools.of(rows, len(queries))
    rescore(trained, snapshot, queries, prepared, pools)
    if trace is not None:
        trace.rows_rescored += len(queries) * len(rows)
        trace.ends("rescore")
    best = pools.best(k, snapshot.keys)
    if trace is not None:
        trace.ends("sort")
    return best


def _search_block(
    view: View,
    queries: np.ndarray,
    k: int,
    keep: int,
    nprobe: int,
    threads: int,
    split_rows: int | None,
    trace: Trace | None,
) -> tuple[np.ndarray, np.ndarray]:
    trained, snapshot = view.trained, view.snapshot
    rotated = trained.turn(queries)
    live = snapshot.searchable_per_list
    probes = probe(trained, rotated, nprobe, keep, live)
    prepared: Any = trained.codes.prepare(rotated, probes)
    share = 1 if trained.kind.is_graph else _parts(live, probes, threads, split_rows or SPLIT_ROWS)
    if trace is not None:
        trace.ends("prepare")

    def scan(part: Probes) -> Pools:
        pools = Pools.empty(len(queries), keep * trained.codes.copies)
        for segment in snapshot.segments:
            trained.codes.scan(prepared, segment, part, pools, snapshot.keys)
        return pools

    parts = [scan(probes)] if share == 1 else pool.run(scan, probes.split(share), share)
    pools = Pools.merged(parts, snapshot.keys)
    if trained.codes.copies > 1:
        pools.drop_repeats(keep)
    if trace is not None:
        _count(trace, trained, snapshot, probes, prepared)
        trace.ends("scan")
    if trained.refine is not None or not trained.codes.scan_is_final:
        pools.cut(snapshot.keys)
        if trace is not None:
            trace.rows_rescored += int(pools.counts.sum())
        if trained.refine is not None:
            trained.refine.narrow(queries, snapshot.segments, pools, k, snapshot.keys)
        rescore(trained, snapshot, queries, prepared, pools)
        if trace is not None:
            trace.ends("rescore")
    best = pools.best(k, snapshot.keys)
    if trace is not None:
        trace.ends("sort")
    return best


def _count(trace: Trace, trained: Trained, snapshot: Snapshot, probes: Probes, prepared: Any) -> None:
    """Add what a scan looked at to a trace."""
    if trained.kind.is_graph:
        visits = int(prepared.visits.sum())
        trace.rows_rescored += visits
        trace.rows_scanned += DEGREE * visits
    else:
        trace.lists += int(probes.counts.sum())
        trace.rows_scanned += _rows_in(probes, trained, snapshot)


def _rows_in(probes: Probes, trained: Trained, snapshot: Snapshot) -> int:
    """Return how many codes the probed lists hold, for all queries in all."""
    offsets = [segment.offsets for segment in snapshot.segments]
    if trained.codes.copies > 1:
        offsets += [segment.arrays[spill.OFFSETS] for segment in snapshot.segments]
    per_list = sum((np.diff(starts) for starts in offsets), np.zeros(probes.lists.shape[1], np.int64))
    return sum(int(per_list[lists[:count]].sum()) for lists, count in zip(probes.lists, probes.counts, strict=True))


def probe(trained: Trained, rotated: np.ndarray, nprobe: int, need: int, live: np.ndarray) -> Probes:
    """Choose the lists of rotated queries (nq, d), see `Probes.choose`."""
    if trained.coarse is None:
        return Probes.everything(len(rotated))
    return Probes.choose(rotated, trained.coarse, nprobe, need, live)


def _parts(live: np.ndarray, probes: Probes, threads: int, split_rows: int) -> int:
    """Return the number of threads that share the scan of a block."""
    if threads <= 1:
        return 1
    rows = int(live.sum() * probes.counts.sum() // max(1, len(live)))
    return max(1, min(threads, rows // split_rows))


def rescore(trained: Trained, snapshot: Snapshot, queries: np.ndarray, prepared: Any, pools: Pools) -> None:
    """Give the pooled rows the best scores that the index can compute; ``queries (nq, d)`` are not rotated."""
    for segment in snapshot.segments:
        if trained.refine is not None:
            trained.refine.rescore(queries, segment, pools)
        else:
            trained.codes.rescore(prepared, segment, pools)
