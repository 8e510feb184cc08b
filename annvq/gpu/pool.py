"""The pools of a block of queries on a device: the best candidates so far, per query.

Kernels append whatever reaches a threshold, which rises from slab to slab (`annvq.gpu.plan`). Thresholds are those of
`annvq.kernels.scan.topk`: the best rows that are kept do not depend on the order of arrival.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from annvq.gpu.kernels.order import NOTHING

SPARE = 2048  # places beyond those that are kept


@dataclass
class Pool:
    """Candidates of ``nq`` queries.

    Parameters
    ----------
    entries
        (nq, capacity) int64, as `annvq.gpu.kernels.order` packs them. The first `kept` of a query are its best, sorted.
    counts
        (nq,) int32, the number of places that are filled, or would be if there were more.
    thresholds
        (nq,) int64: what is below can no longer be among the best.
    keep
        How many are wanted in the end.
    has_thresholds
        Whether a scan has ended, or is run again, so that thresholds may pass rows over.
    exactly
        Whether a scan has to give scores rather than bounds, because too many bounds reached thresholds again.

    """

    entries: torch.Tensor
    counts: torch.Tensor
    thresholds: torch.Tensor
    keep: int
    has_thresholds: bool = False
    exactly: bool = False

    @classmethod
    def empty(cls, nq: int, keep: int, capacity: int, device: torch.device) -> Pool:
        """Make empty pools of ``capacity`` places, at least twice ``keep``: what overflows raises thresholds then."""
        entries = torch.full((nq, capacity), NOTHING, dtype=torch.int64, device=device)
        counts = torch.zeros(nq, dtype=torch.int32, device=device)
        return cls(entries, counts, torch.full((nq,), NOTHING, dtype=torch.int64, device=device), keep)

    @property
    def capacity(self) -> int:
        """The number of places of a pool."""
        return self.entries.shape[1]

    def fill(self, scan: Callable[[], bool], decide: Callable[[torch.Tensor], None]) -> None:
        """Run what appends candidates, and leave the best in the pools.

        If a pool overflows, what it holds still says how good the best are at least: with that threshold, the scan is
        run again, until everything that reaches it fits. Of many rows that score alike, all bounds may reach any
        threshold that their scores set; therefore, bounds have no more than two tries.

        Parameters
        ----------
        scan
            Appends candidates, and returns whether their scores are only bounds of the scores that count, which are no
            larger.
        decide
            Gives scores to what was appended with bounds, which is what lies beyond the given counts (nq,) int32.

        """
        before, again = self.counts.clone(), False
        while True:
            proposed = scan()
            filled = int(self.counts.max()) if len(self.counts) else 0
            if proposed and filled:
                decide(before)
            if filled <= self.capacity:
                break
            full, self.has_thresholds = self.counts > self.capacity, True
            self.exactly, again = again, True
            reached = torch.topk(self.entries, self.keep, dim=1).values[:, -1]
            self.thresholds = torch.where(full, torch.maximum(self.thresholds, reached), self.thresholds)
            self.counts = before.clone()
            self._clear_beyond(before)
        self.exactly = False
        self._settle(filled)

    def _clear_beyond(self, counts: torch.Tensor) -> None:
        places = torch.arange(self.capacity, device=counts.device)
        self.entries.masked_fill_(places >= counts[:, None], NOTHING)

    def _settle(self, filled: int) -> None:
        """Move the best to the front, and raise thresholds; no pool has more than ``filled`` entries."""
        keep = min(self.keep, self.capacity)
        width = min(self.capacity, max(filled, keep))
        best = torch.topk(self.entries[:, :width], keep, dim=1).values
        self.entries[:, keep:width] = NOTHING
        self.entries[:, :keep] = best
        self.counts = self.counts.clamp(max=keep)
        if keep == self.keep:
            self.thresholds, self.has_thresholds = torch.maximum(self.thresholds, best[:, -1]), True

    def drop_repeats(self, keep: int) -> None:
        """Keep every row only once, with its best score, and set the number of wanted rows to ``keep``."""
        rank = self.entries[:, : self.keep] & 0x7FFFFFFF
        best_first = torch.argsort(rank, dim=1, stable=True)  # of one row, the better score stays in front
        ordered = torch.gather(rank, 1, best_first)
        repeats = torch.zeros_like(ordered, dtype=torch.bool)
        repeats[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
        entries = torch.gather(self.entries[:, : self.keep], 1, best_first).masked_fill(repeats, NOTHING)
        self.entries[:, : self.keep] = torch.sort(entries, dim=1, descending=True).values
        self.keep = keep

    def best(self, k: int) -> torch.Tensor:
        """Return the best ``k`` candidates, (nq, k) int64, of which missing ones are `NOTHING`."""
        return self.entries[:, :k]
