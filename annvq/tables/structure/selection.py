"""A soft selection of dimensions for groups of rows: what DNIS and AutoSrh share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from annvq.arguments import as_count, as_number
from annvq.learn.parts.mirrors import tensor_of
from annvq.learn.runtime import torch
from annvq.tables.budget import Budget
from annvq.tables.frequencies import by_frequency
from annvq.tables.structure.searched import SearchedTable
from annvq.tables.structure.sparse import SparseTable, empty_sparse, largest_within, least_sparse_bytes
from annvq.tables.table import gathered, inference_array, normal

if TYPE_CHECKING:
    from torch import Tensor


class Selected(SearchedTable):
    """Rows times a selection alpha of their group, from 0 to 1, which `search` moves; `finish` prunes the product.

    Groups are equal shares of the rows, from frequent to rare. A step of `search` divides the gradient of a group by
    its mean size, so that all groups move at the same rate.

    See `TableMethod` for the parameters of all methods.

    Parameters
    ----------
    frequencies
        (n,), how often each row is used; None: the first rows are the most frequent.
    splits
        Groups.
    alpha_lr
        Learning rate of the selection.
    warm_up
        Training steps before the selection moves.

    Raises
    ------
    BudgetError, ParameterError, ShapeError
        The budget is below one value, or arguments are outside their range.

    """

    has_sparse_gradients: ClassVar[bool] = True
    uses_frequencies: ClassVar[bool] = True
    next_model: ClassVar[str] = "continue"
    final_mark: ClassVar[str] = "mask"
    alpha_l1: ClassVar[float]

    def _make(
        self,
        budget: Budget,
        std: float,
        *,
        frequencies: Any = None,
        splits: int = 6,
        alpha_lr: float = 1e-3,
        warm_up: int = 0,
    ) -> None:
        budget.check(self.method, least_sparse_bytes(budget.n, budget.d))
        self.alpha_lr = as_number("alpha_lr", alpha_lr, above=0.0)
        self.warm_up = as_count("warm_up", warm_up, least=0)
        count = as_count("splits", splits, most=256)
        group = np.empty(budget.n, np.uint8)
        group[by_frequency(frequencies, budget.n)] = np.arange(budget.n) * count // budget.n
        self.group: Tensor
        self.steps: Tensor
        self.register_buffer("group", tensor_of(group))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.weight = normal(budget.n, budget.d, std=std)
        self.alpha = torch.nn.Parameter(torch.ones(count, budget.d), requires_grad=False)

    def rows(self, ids: Tensor) -> Tensor:
        """Return rows (m, d) of ids (m,)."""
        return gathered(self.weight, ids, self.sparse) * self.alpha[self.group[ids].long()]

    def step_end(self) -> None:
        """Count the step."""
        self.steps += 1

    def search(self, loss: Callable[[], Tensor]) -> None:
        """Move the selection along the gradient of a loss on validation data, and keep it within 0 and 1."""
        if int(self.steps) < self.warm_up:
            return
        slope = gradient_of(loss, self.alpha)
        with torch.no_grad():
            slope += self.alpha_l1 * self.alpha.sign()
            slope /= slope.abs().mean(1, keepdim=True) + 1e-8
            self.alpha.sub_(self.alpha_lr * slope).clamp_(0.0, 1.0)

    def empty_final(self) -> SparseTable:
        """Return a table without values."""
        return empty_sparse(self._budget, self.padding_idx, self.sparse, self.method)

    def finish(self, evaluate: Callable[[], float] | None = None) -> SparseTable:
        """Return the table of the largest selected values that fill the budget."""
        with torch.no_grad():
            values = self.weight * self.alpha[self.group.long()]
        mask = largest_within(inference_array(values.abs()), self._budget)
        return SparseTable(self._budget, self.padding_idx, self.sparse, values, mask, self.method)


def gradient_of(loss: Callable[[], Tensor], parameter: Any) -> Tensor:
    """Return the gradient of a loss by a parameter that otherwise gets none; no other gradients are kept."""
    parameter.requires_grad_(True)
    try:
        (slope,) = torch.autograd.grad(loss(), parameter, allow_unused=True)
    finally:
        parameter.requires_grad_(False)
    return torch.zeros_like(parameter) if slope is None else slope
