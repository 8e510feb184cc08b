"""A search on one device or several: lists, scan into pools, refine, best k, as `annvq.index.search.stages` does it.

Several devices each hold some lists. Their pools are joined on the first, which then asks each for the scores of the
candidates that it holds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import numpy as np
import torch

from annvq.errors import DeviceMemoryError
from annvq.gpu.codes.kind import PIECE, ResidentProbes, ResidentSegment, SlabVisits
from annvq.gpu.kernels.order import NOTHING, candidates_of, ranks_of, scores_of
from annvq.gpu.plan import slabs
from annvq.gpu.pool import SPARE, Pool
from annvq.gpu.resident import Resident
from annvq.index.search.explain import Trace
from annvq.index.search.params import SearchParams
from annvq.index.search.stages import pool_depth
from annvq.index.search.view import View
from annvq.kernels import threads as pool_of_threads

_MOST_QUERIES = 1 << 14  # of a block


class Search:
    """One search of an index, whose parts lie on one device or several.

    Parameters
    ----------
    parts
        What lies on each device, of the same version as ``view``.
    view
        The index, all of its rows or those that pass a filter.
    k
        Rows to return, at most as many as may be returned.
    depth
        Numbers of lists and candidates.

    """

    def __init__(self, parts: Sequence[Resident], view: View, k: int, depth: SearchParams) -> None:
        self.parts, self.view, self.k, self.depth = parts, view, k, depth
        self.first = parts[0]
        self.trained = self.first.trained
        self.keep = pool_depth(view, k, depth)

    @cached_property
    def segments(self) -> list[list[ResidentSegment]]:
        """The segments of each part, of which only rows that pass the filter are returned."""
        return [part.narrowed(self.view.snapshot) for part in self.parts]

    def run(self, queries: torch.Tensor, trace: Trace | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the best k rows of every query.

        Parameters
        ----------
        queries
            (nq, d) float32 on the first device, finite, of unit norm if the metric is cosine.
        trace
            What is told how long the stages take, each of which is then waited for.

        Returns
        -------
        tuple
            scores (nq, k) float32 and rows (nq, k) int64 on the first device, best first, ties by id.

        """
        device = self.first.device
        scores = torch.empty((len(queries), self.k), dtype=torch.float32, device=device)
        rows = torch.empty((len(queries), self.k), dtype=torch.int64, device=device)
        if self.k == 0:
            return scores, rows
        size = self._block_size()
        for start in range(0, len(queries), size):
            block = slice(start, start + size)
            try:
                found = self._block(queries[block], trace)
            except torch.cuda.OutOfMemoryError as error:
                together = min(size, len(queries))
                raise DeviceMemoryError(
                    f"out of memory while {together:,} queries were searched at once, with {self.keep:,} candidates "
                    f"each: a smaller device_bytes searches fewer at once, and leaves more free ({error})"
                ) from error
            scores[block], rows[block] = scores_of(found), self.first.rows_of(found)
        zero = self.first.zero
        if np.signbit(zero):
            scores = torch.where(scores == 0, torch.full_like(scores, zero), scores)
        return scores, rows

    def _block_size(self) -> int:
        """Return how many queries are searched at once, so that pools and tables stay within the memory for work."""
        few = 0 if self.view.few is None else len(self.view.few)
        capacity = _capacity(self.keep * self.trained.codes.copies)
        per_query = 8 * max(4 * capacity, 4 * few) + 24 * self.trained.nlist + self.first.codes.work_per_query()
        return int(max(1, min(_MOST_QUERIES, min(part.work_bytes for part in self.parts) // per_query)))

    def _block(self, queries: torch.Tensor, trace: Trace | None) -> torch.Tensor:
        """Return the best k candidates of some queries, (nq, k) int64."""
        view, few = self.view, self.view.few
        if few is not None:
            prepared: list[Any] = [None] * len(self.parts)
            if self.first.refine is None:
                prepared = [self.prepared(part, queries)[1] for part in self.parts]
            self._ends(trace, "prepare")
            places = self.first.few(few).expand(len(queries), -1).contiguous()
            return self._best(self._asked(queries, prepared), places, trace)
        nprobe = view.lists(self.depth.nprobe)
        made = [self.prepared(part, queries, nprobe, self.keep) for part in self.parts]
        prepared = [one for _, one in made]
        self._ends(trace, "prepare")
        found = self._scanned([probes for probes, _ in made], prepared)
        if trace is not None:
            self._count(trace, made[0][0])
            self._ends(trace, "scan")
        if self.first.refine is None and self.trained.codes.scan_is_final:
            self._ends(trace, "sort")
            return found[:, : self.k]
        places = self.first.rows_of(found)
        asked = self._asked(queries, prepared)
        return self._best(asked, self._narrowed(asked, places), trace)

    def prepared(
        self, part: Resident, queries: torch.Tensor, nprobe: int | None = None, need: int = 0
    ) -> tuple[ResidentProbes, Any]:
        """Return the lists of queries on the device of a part, none without ``nprobe``, and what codes need of them."""
        rotated = part.learned.turned(queries.to(part.device).contiguous())
        if nprobe is None:
            probes = part.learned.unprobed(rotated)
        else:
            probes = part.learned.probed(rotated, nprobe, need, self.view.snapshot.searchable_per_list)
        return probes, part.codes.prepare(rotated, probes)

    def _scanned(self, probes: list[ResidentProbes], prepared: list[Any]) -> torch.Tensor:
        """Return the best candidates of every query, (nq, keep) int64 on the first device, sorted."""
        wanted = self.keep * self.trained.codes.copies

        count = len(self.parts)
        streams = [_stream(part.device) for part in self.parts]  # of this thread

        def scan(number: int) -> Pool:
            with streams[number]:
                return _filled(self.parts[number], self.segments[number], prepared[number], probes[number], wanted)

        pools = [scan(0)] if count == 1 else pool_of_threads.run(scan, range(count), count)
        pool = pools[0]
        if count > 1:
            joined = torch.cat([one.entries[:, :wanted].to(self.first.device) for one in pools], dim=1)
            pool = Pool(torch.topk(joined, wanted, dim=1).values, pool.counts, pool.thresholds, wanted)
        if self.trained.codes.copies > 1:
            pool.drop_repeats(self.keep)
        return pool.best(self.keep)

    def _asked(self, queries: torch.Tensor, prepared: list[Any]) -> list[Any]:
        """Return what the best scores that there are need of queries, for each part."""
        return [part.asked(queries, own) for part, own in zip(self.parts, prepared, strict=True)]

    def _narrowed(self, asked: list[Any], places: torch.Tensor) -> torch.Tensor:
        """Return those of the candidates that may be among the best k."""
        refine = self.first.refine
        left = None if refine is None else refine.finalists(self.k)
        if left is None or left >= places.shape[1]:
            return places
        scores = self._joined(lambda number, part: part.proposed(asked[number], places))
        return self.first.rows_of(torch.topk(self.first.candidates(scores, places), left, dim=1).values)

    def _joined(self, scores_of_part: Callable[[int, Resident], torch.Tensor]) -> torch.Tensor:
        """Return the scores that the parts give, each to its own rows, on the first device."""
        found = [scores_of_part(number, part) for number, part in enumerate(self.parts)]
        return functools.reduce(torch.maximum, (one.to(self.first.device) for one in found))

    def _best(self, asked: list[Any], places: torch.Tensor, trace: Trace | None) -> torch.Tensor:
        """Return the best k of the rows ``places (nq, P)`` int64, -1 where there is none, by the best scores."""
        scores = self._joined(lambda number, part: part.scored(asked[number], places))
        if trace is not None:
            trace.rows_rescored += int((places >= 0).sum())
            self._ends(trace, "rescore")
        candidates = self.first.candidates(scores, places)
        best = torch.topk(candidates, min(self.k, candidates.shape[1]), dim=1).values
        self._ends(trace, "sort")
        return best

    def _ends(self, trace: Trace | None, stage: str) -> None:
        if trace is not None:
            for part in self.parts:
                if part.device.type == "cuda":
                    torch.cuda.synchronize(part.device)
            trace.ends(stage)

    def _count(self, trace: Trace, probes: ResidentProbes) -> None:
        """Add what a scan looked at to a trace."""
        trace.lists += int((probes.lists >= 0).sum())
        held = probes.lists.clamp(min=0)
        for part in self.parts:
            for segment in part.segments:
                sizes = (segment.offsets[1:] - segment.offsets[:-1]).to(held.device)
                trace.rows_scanned += int(sizes[held].masked_fill(probes.lists < 0, 0).sum())


def _stream(device: torch.device) -> AbstractContextManager:
    """Return what makes the current stream of this thread that of another one."""
    return torch.cuda.stream(torch.cuda.current_stream(device)) if device.type == "cuda" else nullcontext()


def _capacity(keep: int) -> int:
    return max(4 * keep, keep + SPARE)


def _filled(
    part: Resident, segments: list[ResidentSegment], prepared: Any, probes: ResidentProbes, wanted: int
) -> Pool:
    """Return the pool of the best ``wanted`` rows that one device holds."""
    pool = Pool.empty(len(probes.lists), wanted, _capacity(wanted), part.device)
    lists, per_rank, pieces = _ranks(segments, probes)

    def decide(counts: torch.Tensor) -> None:
        _decide(part, segments, prepared, pool, counts)

    for slab in slabs(per_rank, pool.capacity - wanted, wanted):
        visits = SlabVisits(lists[:, slab], pieces)

        def scan(visits: SlabVisits = visits) -> bool:
            return any([part.codes.scan(prepared, segment, visits, pool) for segment in segments])

        pool.fill(scan, decide)
    return pool


def _decide(part: Resident, segments: list[ResidentSegment], prepared: Any, pool: Pool, counts: torch.Tensor) -> None:
    """Give the scores of the CPU's scan to what was appended to the pools beyond ``counts`` (nq,)."""
    first, last = int(counts.min()), min(int(pool.counts.max()), pool.capacity)
    entries = pool.entries[:, first:last]
    is_new = (torch.arange(first, last, device=entries.device) >= counts[:, None]) & (entries != NOTHING)
    places = part.rows_of(entries).masked_fill(~is_new, -1)
    scores = torch.full(places.shape, -torch.inf, dtype=torch.float32, device=entries.device)
    for segment in segments:
        part.codes.rescore(prepared, segment, places, scores)
    pool.entries[:, first:last] = torch.where(is_new, candidates_of(scores, ranks_of(entries)), entries)


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
