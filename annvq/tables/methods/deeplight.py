"""Pruning of small values while training."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from annvq.arguments import as_count, as_number
from annvq.learn.runtime import torch
from annvq.tables.budget import Budget
from annvq.tables.frequencies import weights_of
from annvq.tables.structure.searched import SearchedTable
from annvq.tables.structure.sparse import SparseTable, empty_sparse, largest_within, least_sparse_bytes, most_values
from annvq.tables.table import gathered, inference_array, normal, set_

if TYPE_CHECKING:
    from torch import Tensor

_EVERY = 10  # steps between two prunings, as in the paper's code


class DeepLight(SearchedTable):
    """The smallest values become zero, more and more of them as training proceeds; `finish` prunes to the budget.

    After k steps the share of zeros is S (1 - D^(k / U)) for the share S that the budget asks for; pruned values may
    grow back. Source: Deng et al. 2021, "DeepLight: deep lightweight feature interactions for accelerating CTR
    predictions in ad serving", section 4.3.

    See `TableMethod` for the parameters of all methods.

    Parameters
    ----------
    damping, period
        D and U: the share of zeros is half of S after about 69 U / 100 steps of D = 0.99, times 100.

    Raises
    ------
    BudgetError, ParameterError
        The budget is below one value, or arguments are outside their range.

    """

    method: ClassVar[str] = "DeepLight"
    has_sparse_gradients: ClassVar[bool] = True
    next_model: ClassVar[str] = "done"
    final_mark: ClassVar[str] = "mask"

    def _make(self, budget: Budget, std: float, *, damping: float = 0.99, period: int = 100) -> None:
        budget.check(self.method, least_sparse_bytes(budget.n, budget.d))
        self.damping = as_number("damping", damping, above=0.0, most=1.0)
        self.period = as_count("period", period)
        self.weight = normal(budget.n, budget.d, std=std)
        self.steps: Tensor
        self.importance: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("importance", torch.ones(budget.n, 1))

    def rows(self, ids: Tensor) -> Tensor:
        """Return rows (m, d) of ids (m,)."""
        return gathered(self.weight, ids, self.sparse)

    @torch.no_grad()
    def step_end(self) -> None:
        """Set the smallest values to zero, every tenth step."""
        self.steps += 1
        steps = int(self.steps)
        if steps % _EVERY:
            return
        size = self.weight.numel()
        target = 1 - most_values(self._budget) / size
        zeros = int(size * target * (1 - self.damping ** (steps / self.period)))
        if zeros:
            sizes = self.weight.abs()
            self.weight.masked_fill_(sizes <= sizes.flatten().kthvalue(zeros).values, 0.0)

    def empty_final(self) -> SparseTable:
        """Return a table without values."""
        return empty_sparse(self._budget, self.padding_idx, self.sparse, self.method)

    def finish(self, evaluate: Callable[[], float] | None = None) -> SparseTable:
        """Return the table of the largest values that fill the budget."""
        mask = largest_within(inference_array(self.weight.abs() * self.importance), self._budget)
        return SparseTable(self._budget, self.padding_idx, self.sparse, self.weight, mask, self.method)

    def approximate(self, weight: np.ndarray, *, frequencies: np.ndarray | None = None, seed: int = 0) -> None:
        """Take the rows; values count by their size times the root of their row's frequency."""
        set_(self.weight, weight)
        set_(self.importance, np.sqrt(weights_of(frequencies, len(weight)))[:, None])
