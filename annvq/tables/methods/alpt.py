"""Low-precision training with learned scales."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from annvq.errors import ParameterError
from annvq.learn.runtime import torch
from annvq.renamed import former_keywords
from annvq.tables.budget import FLOAT, Budget
from annvq.tables.coding.precision import levels, through
from annvq.tables.frozen.integers import Integers
from annvq.tables.method import TableMethod
from annvq.tables.table import gathered, inference_array, normal, set_

if TYPE_CHECKING:
    from torch import Tensor

_SPREAD = 4.0  # standard deviations within the range at the start
_SCALE_LR = 2e-5  # configuration of the comparison by Zhang et al. 2024


class ALPT(TableMethod):
    """Integers with a learned scale per row.

    Rows stay on their grid during training: `step_end` stochastically rounds those that were looked up, so that the
    mean is right. The scale's gradient is that of Esser et al. 2020, divided by the root of the number of values and
    levels, from the same pass as the rows' (the paper takes a second). Give the optimizer `parameter_groups`. Source:
    Li et al. 2023, "Adaptive low-precision training for embeddings in click-through rate prediction".

    See `TableMethod` for the parameters of all methods; without a budget it takes what it needs.

    Parameters
    ----------
    nbits
        8 or 16: bits per number.

    Raises
    ------
    BudgetError, ParameterError
        The budget is below the integers and scales, or arguments are outside their range.

    """

    method: ClassVar[str] = "ALPT"
    structure: ClassVar[tuple[str, ...]] = ("bits",)  # not nbits: state dictionaries have this name

    @former_keywords(bits="nbits")
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)

    @classmethod
    def _natural(cls, n: int, d: int, *, nbits: Any = 8, **options: Any) -> int:
        return _bytes(n, d, _as_nbits(nbits))

    def _make(self, budget: Budget, std: float, *, nbits: int = 8) -> None:
        self.bits = _as_nbits(nbits)
        budget.check(self.method, _bytes(budget.n, budget.d, nbits))
        self._top = (1 << (nbits - 1)) - 1
        self.weight = normal(budget.n, budget.d, std=std)
        self.scale = torch.nn.Parameter(torch.full((budget.n, 1), _SPREAD * std / self._top))
        self._touched: list[Tensor] = []

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that are needed at inference."""
        return _bytes(self.num_embeddings, self.embedding_dim, self.bits)

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Return groups for an optimizer: the scales learn at their own, small rate."""
        return [{"params": [self.weight], "lr": lr}, {"params": [self.scale], "lr": min(lr, _SCALE_LR)}]

    def rows(self, ids: Tensor) -> Tensor:
        """Return rows (m, d) of ids (m,)."""
        found, scale = gathered(self.weight, ids, False), gathered(self.scale, ids, False)
        share = 1 / math.sqrt(max(1, found.numel()) * self._top)
        scale = scale.detach() + share * (scale - scale.detach())
        scale = scale.clamp_min(1e-30)
        cut = (found / scale).clamp(-self._top - 1, self._top)
        if self.training and torch.is_grad_enabled():
            self._touched.append(ids)
        return through(cut.round(), cut) * scale

    def step_end(self) -> None:
        """Round the rows that were looked up since the last step to their grid, at random."""
        if not self._touched:
            return
        with torch.no_grad():
            ids = torch.cat(self._touched).unique()
            scale = self.scale[ids].clamp_min(1e-30)
            values = self.weight[ids] / scale
            self.weight[ids] = (values + torch.rand_like(values)).floor().clamp(-self._top - 1, self._top) * scale
        self._touched.clear()

    def form(self) -> Integers:
        """Return the arrays for inference."""
        scale = self.scale.detach().clamp_min(1e-30)
        codes = inference_array(levels(self.weight.detach(), scale, self.bits), np.dtype(f"int{self.bits}"))
        return Integers(self.num_embeddings, self.embedding_dim, codes, inference_array(scale[:, 0]))

    def approximate(self, weight: np.ndarray, *, frequencies: np.ndarray | None = None, seed: int = 0) -> None:
        """Take the rows as they are, and scales with which the largest value of each is the largest number."""
        set_(self.weight, weight)
        set_(self.scale, np.maximum(np.abs(weight).max(axis=1, keepdims=True), 1e-30) / self._top)


def _as_nbits(nbits: Any) -> int:
    if nbits not in (8, 16):
        raise ParameterError(f"nbits must be 8 or 16, not {nbits!r}")
    return nbits


def _bytes(n: int, d: int, nbits: int) -> int:
    """Return the bytes of numbers and scales; of one row the scale is the whole table's, and a setting."""
    return n * d * nbits // 8 + (FLOAT * n if n > 1 else 0)
