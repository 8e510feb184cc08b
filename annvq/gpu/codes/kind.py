"""The interface between a search on a device and a kind of code or refine store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch

from annvq.gpu.plan import Work, work_of
from annvq.gpu.pool import Pool
from annvq.index.rows.segment import Segment

PIECE = 1 << 16  # rows of the only list of an index without lists that are visited as one


@dataclass(frozen=True)
class ResidentSegment:
    """A segment whose codes lie on a device.

    Parameters
    ----------
    host
        The segment.
    offsets
        (nlist + 1,) int64 on the device, where lists begin.
    ranks
        (n,) int32 on the device, the ranks of the rows' keys among all keys of the index.
    allow
        (n,) uint8 on the device, not 0 for rows that may be returned; None if all may.
    sections
        What the kind of code and the refine store uploaded, by section.

    """

    host: Segment
    offsets: torch.Tensor
    ranks: torch.Tensor
    allow: torch.Tensor | None
    sections: dict[str, torch.Tensor]

    @property
    def n(self) -> int:
        """The number of rows."""
        return self.host.n

    @property
    def base(self) -> int:
        """The index-wide number of row 0."""
        return self.host.base

    def mask(self) -> torch.Tensor:
        """Return what kernels are given for ``allow``: anything if all rows may be returned."""
        return self.ranks if self.allow is None else self.allow

    def lists_of(self, places: torch.Tensor) -> torch.Tensor:
        """Return the lists, int64, of index-wide rows; some list for rows that are not of this segment."""
        rows = (places - self.base).clamp(0, max(0, self.n - 1))
        return (torch.searchsorted(self.offsets, rows, right=True) - 1).clamp(0, len(self.offsets) - 2)

    def work(self, visits: SlabVisits, rows: int, queries: int) -> Work:
        """Cut the lists that queries visit into programs of at most so many rows and queries."""
        if not visits.pieces:
            return work_of(visits.lists, self.offsets, rows, queries)
        count = max(1, -(-self.n // PIECE))
        edges = (torch.arange(count + 1, device=self.offsets.device) * PIECE).clamp(max=self.n)
        lists = visits.lists.masked_fill(visits.lists >= len(edges) - 1, -1)
        work = work_of(lists, edges, rows, queries)
        return work._replace(lists=torch.zeros_like(work.lists))


@dataclass(frozen=True)
class SlabVisits:
    """The lists that queries visit in one slab: (nq, ranks) int64, -1 where there is none.

    If ``pieces``, there is only one list, and these are pieces of it, of `PIECE` rows each.
    """

    lists: torch.Tensor
    pieces: bool

    def queries_per_list(self, segment: ResidentSegment) -> float:
        """Return how many queries read a list of a segment, on average over lists; all read every piece."""
        nlist = len(segment.offsets) - 1
        return len(self.lists) if self.pieces else self.lists.numel() / max(1, nlist)


@dataclass(frozen=True)
class ResidentProbes:
    """The lists of a block of queries, as `annvq.index.codes.probes.Probes` has them.

    ``lists (nq, most) int64``, nearest first, -1 beyond those that a query probes; ``centroid_scores (nq, nlist)
    float32``, or ``(nq, 0)`` without centroids.
    """

    lists: torch.Tensor
    centroid_scores: torch.Tensor


class ResidentCodes(Protocol):
    """`annvq.index.codes.kind.Codes` on a device: scores are the same to the bit."""

    @property
    def zero(self) -> float:
        """What the CPU's kernels return for a score of zero: 0.0 or -0.0, which the order does not distinguish."""
        ...

    def upload(self, segment: Segment, held: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return what a scan needs of a segment, on the device, in the layout that kernels read.

        ``held`` is what was uploaded of it when learned parts were others, or nothing: codes stay, and what follows
        from learned parts is made anew.
        """
        ...

    def bytes_per_row(self) -> float:
        """Return the bytes per row of what `upload` returns."""
        ...

    def work_per_query(self) -> float:
        """Return the bytes that a prepared query takes, at most."""
        ...

    def prepare(self, queries: torch.Tensor, probes: ResidentProbes) -> Any:
        """Return what the scan of the probed lists needs of rotated queries (nq, d) float32."""
        ...

    def scan(self, prepared: Any, segment: ResidentSegment, visits: SlabVisits, pool: Pool) -> bool:
        """Append the rows of the visited lists that reach the thresholds to the pool.

        The result says whether rows were only proposed: appended are then all rows for which a bound of the score
        reaches the threshold, with that bound, and `rescore` has the last word.
        """
        ...

    def rescore(self, prepared: Any, segment: ResidentSegment, places: torch.Tensor, scores: torch.Tensor) -> None:
        """Write the best scores that the codes give to ``scores (nq, P)``, of the segment's rows among ``places``.

        Places (nq, P) int64 are index-wide rows, and -1 where there is none.
        """
        ...


class ResidentRefine(Protocol):
    """`annvq.index.codes.refine.Refine` on a device."""

    @property
    def zero(self) -> float:
        """As in `ResidentCodes`."""
        ...

    def upload(self, segment: Segment, *, on_host: bool) -> dict[str, torch.Tensor]:
        """Return the refine rows of a segment on the device, or in page-locked memory of the host."""
        ...

    def finalists(self, k: int) -> int | None:
        """Return how many of the best candidates by `propose` are left for the k best; None if all are."""
        ...

    def prepare(self, queries: torch.Tensor) -> Any:
        """Return what `propose` and `rescore` need of queries (nq, d) float32, which are not rotated."""
        ...

    def propose(self, prepared: Any, segment: ResidentSegment, places: torch.Tensor, scores: torch.Tensor) -> None:
        """Do what `rescore` does, with a part of what is stored."""
        ...

    def rescore(self, prepared: Any, segment: ResidentSegment, places: torch.Tensor, scores: torch.Tensor) -> None:
        """Do what `ResidentCodes.rescore` does, with the stored rows."""
        ...
