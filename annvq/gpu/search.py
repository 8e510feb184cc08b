"""A search on a device: lists, scan into pools, refine, best k; stage by stage what `annvq.index.search.stages` does."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from annvq.gpu.codes.kind import PIECE, ResidentProbes, ResidentSegment, Visits
from annvq.gpu.kernels.order import NOTHING, packed, ranks_of, scores_of
from annvq.gpu.plan import slabs
from annvq.gpu.pool import SPARE, Pool
from annvq.gpu.resident import Resident
from annvq.index.search.params import SearchParams
from annvq.index.search.stages import pool_depth, probe
from annvq.index.search.view import View

_MOST_QUERIES = 1 << 14  # of a block


def search(
    resident: Resident, view: View, queries: torch.Tensor, k: int, depth: SearchParams
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the best k rows of every query.

    Parameters
    ----------
    resident
        What lies on the device, of the same version as ``view``.
    view
        The index, all of its rows or those that pass a filter.
    queries
        (nq, d) float32 on the device, finite, of unit norm if the metric is cosine.
    k
        Rows to return, at most as many as may be returned.
    depth
        Numbers of lists and candidates.

    Returns
    -------
    tuple
        scores (nq, k) float32 and rows (nq, k) int64 on the device, best first, ties by id.

    """
    scores = torch.empty((len(queries), k), dtype=torch.float32, device=resident.device)
    rows = torch.empty((len(queries), k), dtype=torch.int64, device=resident.device)
    if k == 0 or len(queries) == 0:
        return scores, rows
    segments = resident.narrowed(view.snapshot)
    keep = pool_depth(view, k, depth)
    size = _block_size(resident, view, keep)
    for start in range(0, len(queries), size):
        block = slice(start, start + size)
        found = _search_block(resident, view, segments, queries[block], k, keep, depth)
        scores[block], rows[block] = scores_of(found), _rows_of(resident, found)
    zero = resident.codes.zero if resident.refine is None else resident.refine.zero
    if np.signbit(zero):
        scores = torch.where(scores == 0, torch.full_like(scores, zero), scores)
    return scores, rows


def _rows_of(resident: Resident, candidates: torch.Tensor) -> torch.Tensor:
    """Return the rows, int64, of candidates; -1 where there is none."""
    ranks = ranks_of(candidates)
    rows = resident.row_of_rank[ranks.clamp(min=0)].long()
    return torch.where(ranks < 0, ranks, rows)


def _capacity(keep: int) -> int:
    return max(4 * keep, keep + SPARE)


def _block_size(resident: Resident, view: View, keep: int) -> int:
    """Return how many queries are searched at once, so that pools and tables stay within the memory for work."""
    few = 0 if view.few is None else len(view.few)
    per_query = 8 * max(2 * _capacity(keep), 4 * few) + 24 * resident.trained.nlist
    return int(max(1, min(_MOST_QUERIES, resident.work_bytes // per_query)))


def _search_block(
    resident: Resident,
    view: View,
    segments: list[ResidentSegment],
    queries: torch.Tensor,
    k: int,
    keep: int,
    depth: SearchParams,
) -> torch.Tensor:
    """Return the best k candidates of every query, (nq, k) int64."""
    trained = resident.trained
    if view.few is not None:
        prepared = None
        if resident.refine is None:
            rotated, probes = _probed(resident, view, queries, trained.nlist, 0)
            prepared = resident.codes.prepare(rotated, probes)
        few = torch.as_tensor(view.few, device=resident.device).expand(len(queries), -1).contiguous()
        return _best(resident, segments, queries, prepared, few, k)
    rotated, probes = _probed(resident, view, queries, view.lists(depth.nprobe), keep)
    prepared = resident.codes.prepare(rotated, probes)
    pool = _scanned(resident, segments, prepared, probes, keep)
    if resident.refine is None and trained.codes.scan_is_final:
        return pool.best(k)
    places = _rows_of(resident, pool.best(keep))
    if resident.refine is not None:
        places = resident.refine.narrow(queries, segments, places, k, resident.ranks)
    return _best(resident, segments, queries, prepared, places, k)


def _probed(
    resident: Resident, view: View, queries: torch.Tensor, nprobe: int, need: int
) -> tuple[torch.Tensor, ResidentProbes]:
    """Return rotated queries, and their lists."""
    trained, device = resident.trained, resident.device
    host = np.ascontiguousarray(queries.cpu().numpy())
    rotated = trained.turn(host)
    probes = probe(trained, rotated, nprobe, need, view.snapshot.searchable_per_list)
    most = int(probes.counts.max())
    lists = np.where(np.arange(most) < probes.counts[:, None], probes.lists[:, :most], -1)
    on_device = ResidentProbes(
        torch.from_numpy(lists).to(device), torch.from_numpy(np.ascontiguousarray(probes.centroid_scores)).to(device)
    )
    return torch.from_numpy(np.ascontiguousarray(rotated)).to(device), on_device


def _scanned(
    resident: Resident, segments: list[ResidentSegment], prepared: Any, probes: ResidentProbes, keep: int
) -> Pool:
    """Return the pool of the best ``keep`` rows of every query."""
    wanted = keep * resident.trained.codes.copies
    pool = Pool.empty(len(probes.lists), wanted, _capacity(wanted), resident.device)
    lists, per_rank, pieces = _ranks(segments, probes)

    def decide(counts: torch.Tensor) -> None:
        _decide(resident, segments, prepared, pool, counts)

    for slab in slabs(per_rank, pool.capacity - wanted, wanted):
        visits = Visits(lists[:, slab], pieces)

        def scan(visits: Visits = visits) -> bool:
            return any([resident.codes.scan(prepared, segment, visits, pool) for segment in segments])

        pool.fill(scan, decide)
    if resident.trained.codes.copies > 1:
        pool.drop_repeats(keep)
    return pool


def _decide(
    resident: Resident, segments: list[ResidentSegment], prepared: Any, pool: Pool, counts: torch.Tensor
) -> None:
    """Give the scores of the CPU's scan to what was appended to the pools beyond ``counts`` (nq,)."""
    first, last = int(counts.min()), min(int(pool.counts.max()), pool.capacity)
    entries = pool.entries[:, first:last]
    is_new = (torch.arange(first, last, device=entries.device) >= counts[:, None]) & (entries != NOTHING)
    places = _rows_of(resident, entries).masked_fill(~is_new, -1)
    scores = torch.full(places.shape, -torch.inf, dtype=torch.float32, device=entries.device)
    for segment in segments:
        resident.codes.scan_scores(prepared, segment, places, scores)
    pool.entries[:, first:last] = torch.where(is_new, packed(scores, ranks_of(entries)), entries)


def _ranks(segments: list[ResidentSegment], probes: ResidentProbes) -> tuple[torch.Tensor, list[int], bool]:
    """Return the lists, or pieces of the only list, that queries visit by rank, and how many rows a rank has."""
    rows = sum(segment.n for segment in segments)
    nlist = len(segments[0].host.offsets) - 1 if segments else 1
    if nlist > 1:
        squares = sum(float(np.square(np.diff(segment.host.offsets), dtype=np.float64).sum()) for segment in segments)
        typical = int(squares / max(1, rows)) + 1  # of a list that is chosen as often as it has rows
        return probes.lists, [typical] * probes.lists.shape[1], False
    count = max((-(-segment.n // PIECE) for segment in segments), default=0)
    pieces = torch.arange(count, device=probes.lists.device).expand(len(probes.lists), -1)
    return pieces, [min(PIECE, rows) * len(segments)] * count, True


def _best(
    resident: Resident, segments: list[ResidentSegment], queries: torch.Tensor, prepared: Any, places: torch.Tensor, k: int
) -> torch.Tensor:
    """Return the best k of the rows ``places (nq, P)`` int64, -1 where there is none, by the best scores there are."""
    scores = torch.full(places.shape, -torch.inf, dtype=torch.float32, device=resident.device)
    for segment in segments:
        if resident.refine is not None:
            resident.refine.rescore(queries, segment, places, scores)
        else:
            resident.codes.rescore(prepared, segment, places, scores)
    candidates = packed(scores, resident.ranks[places.clamp(min=0)]).masked_fill(places < 0, NOTHING)
    return torch.topk(candidates, min(k, candidates.shape[1]), dim=1).values
