"""Revival of unused codes: they restart at vectors of the batch, against codebook collapse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from annvq.arguments import as_number
from annvq.learn.runtime import torch
from annvq.learn.training.processes import from_first, rows_of_all

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Revival:
    """A code whose moving average of uses falls below a share of the mean moves to a vector of the next batch.

    This follows Jukebox (Dhariwal et al. 2020) and SoundStream (Zeghidour et al. 2021, section III-C), whose thresholds
    are counts. The code restarts with the mean use. Averages start at 1: with k codes, one that is never used dies
    after about ln(k / (n * share)) / (1 - decay) batches of n vectors. If that is too long, choose a lower decay.

    Parameters
    ----------
    share
        Share of the mean use, above 0 and below 1.
    decay
        Decay of the average, above 0 and below 1; with `EMA`, the codebook's own decay is used.

    Raises
    ------
    ParameterError
        A number is outside its range.

    """

    share: float = 0.1
    decay: float = 0.99

    def __post_init__(self) -> None:
        as_number("share", self.share, above=0, most=1 - 1e-9)
        as_number("decay", self.decay, above=0, most=1 - 1e-9)

    @torch.no_grad()
    def revive(self, counts: Tensor, sums: Tensor | None, codebook: Tensor, rows: Tensor) -> None:
        """Move codes that died: counts (k,), sums (k, d) and codebook (k, d) change in the same way on all processes.

        Parameters
        ----------
        counts, sums, codebook
            Averages of uses, with `EMA` the sums, and the codes.
        rows
            (n, d): the vectors they may move to. Without any, nothing changes.

        """
        mean = float(counts.mean())
        dead = (counts < self.share * mean).nonzero()[:, 0]
        if not len(dead):
            return
        rows = rows_of_all(rows.detach())
        if not len(rows):
            return
        drawn = from_first(drawn_rows(rows, len(dead)).to(codebook.dtype))
        codebook[dead] = drawn
        counts[dead] = mean
        if sums is not None:
            sums[dead] = drawn * mean


def drawn_rows(rows: Tensor, count: int) -> Tensor:
    """Return ``count`` of the rows at random, each at most once more often than any other."""
    rounds = [torch.randperm(len(rows), device=rows.device) for _ in range(-(-count // len(rows)))]
    return rows[torch.cat(rounds)[:count]]
