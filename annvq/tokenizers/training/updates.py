"""How a codebook follows the vectors it represents: by moving averages, or by gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from annvq.arguments import as_number
from annvq.learn.runtime import torch
from annvq.learn.training.processes import are_several, sum_over_processes

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class EMA:
    """Codes are moving averages of their vectors (van den Oord et al. 2017, appendix A.1).

    N_i <- decay N_i + (1 - decay) n_i, m_i <- decay m_i + (1 - decay) (sum of the vectors), e_i = m_i / N_i, with
    N smoothed: (N_i + epsilon) / (sum of N + k epsilon) * (sum of N).

    Parameters
    ----------
    decay
        Above 0 and below 1.
    epsilon
        Smoothing constant, above 0.

    Raises
    ------
    ParameterError
        A number is outside its range.

    """

    decay: float = 0.99
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        as_number("decay", self.decay, above=0, most=1 - 1e-9)
        as_number("epsilon", self.epsilon, above=0)

    @torch.no_grad()
    def step(self, counts: Tensor, sums: Tensor, codebook: Tensor, rows: Tensor, codes: Tensor) -> None:
        """Follow one batch: counts (k,), sums (k, d) and codebook (k, d) change; summed over processes.

        Parameters
        ----------
        counts, sums, codebook
            N, m and e.
        rows, codes
            (n, d) and (n,).

        """
        if not add_batch(counts, sums, rows, codes, self.decay):
            return
        total = counts.sum()
        smooth = (counts + self.epsilon) * (total / (total + len(counts) * self.epsilon))
        torch.div(sums, smooth[:, None], out=codebook)


@dataclass(frozen=True)
class Gradient:
    """Codes are parameters that the loss weight * mean |sg(z) - e|^2 moves (van den Oord et al. 2017, equation 3).

    Parameters
    ----------
    weight
        Weight of the codebook loss, above 0.

    Raises
    ------
    ParameterError
        The weight is not above 0.

    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        as_number("weight", self.weight, above=0)


@torch.no_grad()
def add_batch(counts: Tensor, sums: Tensor | None, rows: Tensor, codes: Tensor, decay: float) -> bool:
    """Let counts (k,) and sums (k, d) fade and add a batch's, of all processes; return whether any had rows.

    If none had, nothing changes: averages that fade to nothing would take the codes with them. On one process a batch
    is added in place, without a second (k, d).
    """
    of_batch = sum_over_processes(torch.bincount(codes, minlength=len(counts)).to(counts.dtype))
    if not len(codes) and not of_batch.any():  # the same in all processes: one that has rows knows without asking
        return False
    counts.mul_(decay).add_(of_batch, alpha=1 - decay)
    if sums is None:
        return True
    rows = rows.detach().to(sums.dtype)
    if are_several():
        together = sum_over_processes(torch.zeros_like(sums).index_add_(0, codes, rows))
        sums.mul_(decay).add_(together, alpha=1 - decay)
    else:
        sums.mul_(decay).index_add_(0, codes, rows, alpha=1 - decay)
    return True
