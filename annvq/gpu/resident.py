"""What of an index lies on a device: its segments, learned parts, and the order of its rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from annvq.errors import DeviceError, DeviceMemoryError
from annvq.gpu.codes.kind import ResidentCodes, ResidentRefine, ResidentSegment
from annvq.gpu.codes.kinds import codes_on, refine_on
from annvq.gpu.kernels.order import MOST_ROWS, NOTHING, candidates_of, ranks_of
from annvq.gpu.latest import Latest, used_here
from annvq.gpu.shares import check_sharing, share_of
from annvq.gpu.trained import ResidentTrained
from annvq.gpu.upload import uploaded
from annvq.index.rows.segment import Segment
from annvq.index.rows.snapshot import Snapshot
from annvq.index.trained import Trained

_ORDER_BYTES = 8  # per row: the rank of its key, and the row of each rank
_WORK_SHARE = 0.25  # of the memory that is left for pools and tables, at most
_MOST_WORK = 1 << 31
_INTERPRETED = 1 << 34  # bytes that the interpreter's "device" has


@dataclass
class Resident:
    """The parts of one snapshot of an index on a device.

    Parameters
    ----------
    trained, snapshot
        What lies there.
    device
        Where.
    learned
        The learned parts there.
    codes, refine
        How codes and refine rows are scanned and scored there.
    segments
        The segments, none of which is filtered.
    row_of_rank
        (n,) int32: the row whose key has each rank.
    work_bytes
        Memory that searches may take beside.
    refine_on_host
        Whether refine rows are in memory of the host.
    share
        Which share of the lists lies there, and of how many.

    """

    trained: Trained
    snapshot: Snapshot
    device: torch.device
    learned: ResidentTrained
    codes: ResidentCodes
    refine: ResidentRefine | None
    segments: list[ResidentSegment]
    ranks: torch.Tensor
    row_of_rank: torch.Tensor
    work_bytes: int
    refine_on_host: bool
    share: tuple[int, int] = (0, 1)
    _masks: Latest[list[torch.Tensor | None]] = field(default_factory=Latest, init=False, repr=False)
    _few: Latest[torch.Tensor] = field(default_factory=Latest, init=False, repr=False)

    @property
    def bytes(self) -> int:
        """The bytes of the device that rows take."""
        held = [self.ranks, self.row_of_rank]
        for segment in self.segments:
            held += [one for one in segment.sections.values() if self.device.type == "cpu" or one.is_cuda]
        return sum(one.numel() * one.element_size() for one in held)

    def narrowed(self, snapshot: Snapshot) -> list[ResidentSegment]:
        """Return the segments as a search sees them whose ``snapshot`` may be narrowed by a filter."""
        if snapshot is self.snapshot:
            return self.segments
        masks = self._masks.of(snapshot, lambda: [self._mask(*pair) for pair in zip(self.segments, snapshot.segments)])
        return [
            replace(own, allow=None if mask is None else used_here(mask))
            for own, mask in zip(self.segments, masks, strict=True)
        ]

    def _mask(self, own: ResidentSegment, given: Segment) -> torch.Tensor | None:
        """Return which rows of a segment, or of the share of it that lies here, may be returned; None if all may."""
        begin = own.base - given.base
        return uploaded(given.allow[begin : begin + own.n], self.device) if len(given.allow) else None

    def few(self, rows: np.ndarray) -> torch.Tensor:
        """Return the few rows that a filter lets pass, (m,) int64, on the device."""
        return used_here(self._few.of(rows, lambda: uploaded(rows, self.device)))

    def asked(self, queries: torch.Tensor, prepared: Any) -> Any:
        """Return what `scored` needs of queries (nq, d), which codes without a refine store have ``prepared``."""
        return prepared if self.refine is None else self.refine.prepare(queries.to(self.device))

    @property
    def zero(self) -> float:
        """What the CPU's kernels return for a score of zero, 0.0 or -0.0."""
        return self.codes.zero if self.refine is None else self.refine.zero

    @cached_property
    def keys(self) -> torch.Tensor:
        """The keys of all rows, (n,) int64, which are their ids if these are integers."""
        return uploaded(np.asarray(self.snapshot.keys), self.device)

    def rows_of(self, candidates: torch.Tensor) -> torch.Tensor:
        """Return the rows, int64, of candidates; -1 where there is none."""
        ranks = ranks_of(candidates)
        return torch.where(ranks < 0, ranks, self.row_of_rank[ranks.clamp(min=0)].long())

    def candidates(self, scores: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Return candidates of index-wide rows, int64, which may be -1 for none, with these scores."""
        return candidates_of(scores, self.ranks[places.clamp(min=0)]).masked_fill(places < 0, NOTHING)

    def proposed(self, prepared: Any, places: torch.Tensor) -> torch.Tensor:
        """Return what `scored` does, with a part of what the refine store holds."""
        assert self.refine is not None
        return self._scores(self.refine.propose, prepared, places)

    def scored(self, prepared: Any, places: torch.Tensor) -> torch.Tensor:
        """Return the best scores that there are of the rows ``places (nq, P)`` that lie here, -inf for others.

        ``prepared`` is what `asked` returned.
        """
        return self._scores(self.codes.rescore if self.refine is None else self.refine.rescore, prepared, places)

    def _scores(self, score: Callable[..., None], prepared: Any, places: torch.Tensor) -> torch.Tensor:
        places = places.to(self.device)
        scores = torch.full(places.shape, -torch.inf, dtype=torch.float32, device=self.device)
        for segment in self.segments:
            score(prepared, segment, places, scores)
        return scores


def moved(
    trained: Trained,
    snapshot: Snapshot,
    device: torch.device,
    budget: int | None,
    earlier: Resident | None = None,
    share: tuple[int, int] = (0, 1),
) -> Resident:
    """Upload a snapshot, or a share of its lists; segments that ``earlier`` holds are taken from there.

    Refine rows stay on the host, in page-locked memory, where the budget does not hold them.

    Raises
    ------
    DeviceMemoryError
        Codes alone take more than the budget, or than is free. Nothing is left on the device.
    DeviceError
        The index holds codes that are searched on the CPU only, or more rows than one device numbers.

    """
    if snapshot.rows > MOST_ROWS:
        raise DeviceError(f"{snapshot.rows:,} rows: a device numbers {MOST_ROWS:,}, share the lists among several")
    codes, refine = codes_on(trained, device), refine_on(trained, device)
    hosts = _shares(trained, snapshot, share)
    there = 0 if earlier is None else earlier.bytes
    on_host, left = _placed(trained, sum(host.n for host in hosts), codes, device, budget, there)
    try:
        if earlier is not None and earlier.snapshot is snapshot:
            ranks, row_of_rank = earlier.ranks, earlier.row_of_rank
        else:
            ranks, row_of_rank = _order(snapshot, device)
        held = (
            {}
            if earlier is None or earlier.refine_on_host != on_host
            else {id(s.host.ids): s for s in earlier.segments}
        )
        segments = []
        for host in hosts:
            own = held.get(id(host.ids))
            sections = own.sections if own is not None else codes.upload(host)
            if own is None and refine is not None:
                sections |= refine.upload(host, on_host=on_host)
            offsets = uploaded(host.offsets, device)
            allow = uploaded(host.allow, device) if len(host.allow) else None
            segments.append(ResidentSegment(host, offsets, ranks[host.base : host.base + host.n], allow, sections))
    except torch.cuda.OutOfMemoryError as error:
        raise DeviceMemoryError(f"{device}: out of memory while the index was moved there: {error}") from error
    work = int(min(_MOST_WORK, max(1 << 26, _WORK_SHARE * left)))
    is_same = earlier is not None and earlier.trained is trained
    learned = earlier.learned if earlier is not None and is_same else ResidentTrained(trained, device)
    return Resident(
        trained, snapshot, device, learned, codes, refine, segments, ranks, row_of_rank, work, on_host, share
    )


def _shares(trained: Trained, snapshot: Snapshot, share: tuple[int, int]) -> list[Segment]:
    if share == (0, 1):
        return list(snapshot.segments)
    check_sharing(trained)
    return [share_of(segment, trained.layout, *share) for segment in snapshot.segments]


def _placed(
    trained: Trained, rows: int, codes: ResidentCodes, device: torch.device, budget: int | None, there: int
) -> tuple[bool, int]:
    """Return whether refine rows stay on the host, and how many bytes are left (DeviceMemoryError).

    ``there`` are bytes that earlier rows take, which are taken over or released.
    """
    coded = int(rows * (codes.bytes_per_row() + _ORDER_BYTES))
    refined = rows * trained.layout["refine"].bytes_per_row if trained.refine is not None else 0
    free = _INTERPRETED if device.type == "cpu" else torch.cuda.mem_get_info(device)[0] + there
    most = free if budget is None else min(budget, free)
    if coded > most:
        fits = int(most // (codes.bytes_per_row() + _ORDER_BYTES))
        why = f"device_bytes={budget:,}" if budget is not None and budget <= free else f"{free:,} bytes are free"
        raise DeviceMemoryError(
            f"{device}: the codes of {rows:,} rows take {coded:,} bytes, {why}: {fits:,} rows would fit, or a recipe "
            "with shorter codes"
        )
    on_host = coded + refined > most
    return on_host, most - coded - (0 if on_host else refined)


def _order(snapshot: Snapshot, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ranks of the keys of all rows (n,) int32, and the row of each rank (n,) int32."""
    keys = uploaded(np.asarray(snapshot.keys), device)
    row_of_rank = torch.argsort(keys)
    ranks = torch.empty(len(keys), dtype=torch.int32, device=device)
    ranks[row_of_rank] = torch.arange(len(keys), dtype=torch.int32, device=device)
    return ranks, row_of_rank.int()
