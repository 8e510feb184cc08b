"""What of an index lies on a device: its segments, learned parts, and the order of its rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from annvq.gpu.codes.kind import ResidentCodes, ResidentRefine, ResidentSegment
from annvq.gpu.kernels.order import NOTHING, candidates_of, ranks_of
from annvq.gpu.latest import Latest, used_here
from annvq.gpu.trained import ResidentTrained
from annvq.gpu.upload import uploaded
from annvq.index.rows.segment import Segment
from annvq.index.rows.snapshot import Snapshot
from annvq.index.trained import Trained


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
