"""Rows as int8 or int16 and a scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from annvq.learn.runtime import torch
from annvq.tables.budget import FLOAT, Budget
from annvq.tables.coding.precision import levels, through
from annvq.tables.frozen.integers import Integers
from annvq.tables.method import TableMethod
from annvq.tables.table import gathered, inference_array, normal, set_

if TYPE_CHECKING:
    from torch import Tensor

_SPREAD = 4.0  # standard deviations within the range of one scale, before anything is learned
_SHARES = np.linspace(0.3, 1.0, 29)  # of the largest value, tried as the end of one scale's range
_SAMPLE = 100_000  # values looked at to choose it


class Whole(TableMethod):
    """Integers of ``bits`` bits, symmetric about zero; in training, float32 rows are rounded at every look-up.

    If the budget has room for it, every row has its own scale, which maps its largest value to the largest integer;
    otherwise all rows share one, which is a setting.

    See `TableMethod` for the parameters of all methods; without a budget it takes the bytes that include a scale
    per row.

    Raises
    ------
    BudgetError, ParameterError
        The budget is below the integers alone, or arguments are outside their range.

    """

    bits: ClassVar[int]
    has_sparse_gradients: ClassVar[bool] = True
    structure: ClassVar[tuple[str, ...]] = ("has_row_scales",)

    @classmethod
    def _natural(cls, n: int, d: int, **options: Any) -> int:
        return cls._bytes(n, d)

    def _make(self, budget: Budget, std: float) -> None:
        budget.check(self.method, self._bytes(budget.n, budget.d, False))
        self.has_row_scales = budget.n > 1 and budget.bytes >= self._bytes(budget.n, budget.d)
        self.weight = normal(budget.n, budget.d, std=std)
        self.scale: Tensor
        self.register_buffer("scale", torch.full((1,), _SPREAD * std / self._top))

    @classmethod
    def _bytes(cls, n: int, d: int, row_scales: bool = True) -> int:
        return n * d * cls.bits // 8 + (FLOAT * n if row_scales else 0)

    @property
    def _top(self) -> int:
        return (1 << (self.bits - 1)) - 1

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that are needed at inference."""
        return self._bytes(self.num_embeddings, self.embedding_dim, self.has_row_scales)

    def _scales(self, found: Tensor) -> Tensor:
        """Return scales (m, 1), or one, of rows (m, d)."""
        if not self.has_row_scales:
            return self.scale
        return found.detach().abs().amax(1, keepdim=True).clamp_min(1e-30) / self._top

    def rows(self, ids: Tensor) -> Tensor:
        """Return rows (m, d) of ids (m,)."""
        found = gathered(self.weight, ids, self.sparse)
        scales = self._scales(found)
        return through(levels(found, scales, self.bits) * scales, found)

    def form(self) -> Integers:
        """Return the arrays for inference."""
        scales = self._scales(self.weight)
        codes = inference_array(levels(self.weight, scales, self.bits), np.dtype(f"int{self.bits}"))
        return Integers(self.num_embeddings, self.embedding_dim, codes, inference_array(scales.reshape(-1)))

    def approximate(self, weight: np.ndarray, *, frequencies: np.ndarray | None = None, seed: int = 0) -> None:
        """Take the rows as they are; one scale for all is that of least squared error."""
        set_(self.weight, weight)
        values = weight.ravel()
        if values.size > _SAMPLE:
            values = np.random.default_rng(seed).choice(values, _SAMPLE)
        most = max(float(np.abs(weight).max()), 1e-30)
        tried = most * _SHARES / self._top
        errors = [
            np.square(np.clip(np.rint(values / step), -self._top - 1, self._top) * step - values).sum()
            for step in tried
        ]
        set_(self.scale, np.array([tried[int(np.argmin(errors))]], np.float32))


class INT8(Whole):
    """Rows as int8; see `Whole` for the parameters."""

    method: ClassVar[str] = "INT8"
    bits: ClassVar[int] = 8


class INT16(Whole):
    """Rows as int16; see `Whole` for the parameters."""

    method: ClassVar[str] = "INT16"
    bits: ClassVar[int] = 16
