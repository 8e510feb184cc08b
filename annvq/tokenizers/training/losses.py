"""Losses of a codebook: vectors stay near their codes, choices are confident, and codes are used evenly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from annvq.arguments import as_number, as_weight
from annvq.tokenizers.choosing.blocked import centred, distance_logits, entropies

if TYPE_CHECKING:
    from torch import Tensor


def squared_error(rows: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of (rows - targets)^2 over all numbers; 0 without rows."""
    return (rows - targets).square().sum() / max(1, rows.numel())


@dataclass(frozen=True)
class Entropy:
    """weight * (E[H(p)] - diversity * H(E[p])), p = softmax(-|z - e|^2 / temperature) (Yu et al. 2024).

    The first term makes choices confident, the second has all codes used. With several processes, each takes the mean
    over its own rows.

    Parameters
    ----------
    weight, diversity
        At least 0.
    temperature
        Above 0.

    Raises
    ------
    ParameterError
        A number is outside its range.

    """

    weight: float = 0.1
    diversity: float = 1.0
    temperature: float = 0.01

    def __post_init__(self) -> None:
        for name in ("weight", "temperature"):
            as_number(name, getattr(self, name), above=0)
        as_weight("diversity", self.diversity)

    def of_codes(self, rows: Tensor, codes: Tensor) -> Tensor:
        """Return the loss of rows (n, d) and a codebook (k, d); the n x k matrix is never held in memory."""
        rows, codes = centred(rows, codes)
        return self.weighted(*entropies(rows, *distance_logits(codes, self.temperature)))

    def weighted(self, of_rows: Tensor, of_mean: Tensor) -> Tensor:
        """Return the loss of rows' entropies (n,) and that of their mean."""
        return self.weight * (of_rows.sum() / max(1, len(of_rows)) - self.diversity * of_mean)
