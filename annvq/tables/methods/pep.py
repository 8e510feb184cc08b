"""Pruning by learned thresholds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from annvq.arguments import as_number
from annvq.errors import ParameterError
from annvq.learn.runtime import torch
from annvq.tables.budget import Budget
from annvq.tables.structure.searched import SearchedTable
from annvq.tables.structure.sparse import SparseTable, empty_sparse, largest_within, least_sparse_bytes, most_values
from annvq.tables.table import gathered, inference_array, normal

if TYPE_CHECKING:
    from torch import Tensor

THRESHOLDS = ("element", "row", "dimension", "global")


class PEP(SearchedTable):
    """Values are soft-thresholded by learned thresholds: sign(v) max(|v| - sigmoid(s), 0).

    `finish` keeps the values furthest above their threshold, and resets them to their initial values, to be trained
    once more (a "lottery ticket"). Training may stop when `has_reached` the budget. Source: Liu et al. 2021, "Learnable
    embedding sizes for recommender systems", equations 4 to 6 and section 3.3.

    See `TableMethod` for the parameters of all methods.

    Parameters
    ----------
    threshold
        One per "element", "row" or "dimension", or a "global" one.
    start
        Initial value of s.

    Raises
    ------
    BudgetError, ParameterError
        The budget is below one value, or arguments are outside their range.

    """

    method: ClassVar[str] = "PEP"
    next_model: ClassVar[str] = "fresh"
    final_mark: ClassVar[str] = "mask"

    def _make(self, budget: Budget, std: float, *, threshold: str = "element", start: float = -15.0) -> None:
        if threshold not in THRESHOLDS:
            raise ParameterError(f"threshold must be one of {', '.join(THRESHOLDS)}, not {threshold!r}")
        budget.check(self.method, least_sparse_bytes(budget.n, budget.d))
        self.weight = normal(budget.n, budget.d, std=std)
        rows = budget.n if threshold in ("element", "row") else 1
        columns = budget.d if threshold in ("element", "dimension") else 1
        self.s = torch.nn.Parameter(torch.full((rows, columns), as_number("start", start)))
        self.first: Tensor
        self.register_buffer("first", self.weight.detach().clone())

    def rows(self, ids: Tensor) -> Tensor:
        """Return rows (m, d) of ids (m,)."""
        found = gathered(self.weight, ids, False)
        s = self.s if len(self.s) == 1 else gathered(self.s, ids, False)
        return found.sign() * torch.relu(found.abs() - torch.sigmoid(s))

    @property
    def has_reached(self) -> bool:
        """Whether no more values are above their threshold than the budget has room for."""
        with torch.no_grad():
            return int((self.weight.abs() > torch.sigmoid(self.s)).sum()) <= most_values(self._budget)

    def empty_final(self) -> SparseTable:
        """Return a table without values."""
        return empty_sparse(self._budget, self.padding_idx, self.sparse, self.method)

    def finish(self, evaluate: Callable[[], float] | None = None) -> SparseTable:
        """Return the table of the values to be trained once more, as they were at the start."""
        with torch.no_grad():
            above = inference_array(self.weight.abs() - torch.sigmoid(self.s))
        mask = largest_within(above - min(0.0, float(above.min())), self._budget)
        return SparseTable(self._budget, self.padding_idx, False, self.first, mask, self.method)
