"""Automated choice of dimensions from candidates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from annvq.arguments import as_count, as_number
from annvq.errors import ParameterError
from annvq.learn.parts.mirrors import tensor_of
from annvq.learn.runtime import torch
from annvq.tables.budget import Budget
from annvq.tables.structure.mixed import MixedTable, Split, empty_mixed, mixed_bytes
from annvq.tables.structure.searched import SearchedTable, as_groups
from annvq.tables.structure.selection import gradient_of
from annvq.tables.table import gathered, normal

if TYPE_CHECKING:
    from torch import Tensor

_LEAST_TEMPERATURE = 0.01
_STEPS = 100


class AutoDim(SearchedTable):
    """Every group of rows tries several dimensions at once, and validation data decides which one it gets.

    Each candidate dimension has its own table, brought to d by the group's linear map and batch normalization; the row
    is their sum, weighted by a Gumbel softmax whose temperature falls. `finish` takes the most probable dimensions that
    together fill the budget and makes a table to be trained from scratch. Gradients are of first order. Source: Zhao et
    al. 2021, "AutoDim: field-aware embedding dimension search in recommender systems", section 2.

    See `TableMethod` for the parameters of all methods; ``std`` is that of the last stage, as normalization makes it 1
    while searching.

    Parameters
    ----------
    frequencies
        (n,), how often each row is used; None: the first rows are the most frequent.
    groups
        (n,) whole numbers, such as the field of each row; None: eight groups by popularity.
    candidates
        Dimensions; None: 1, 2, 4, ... and d.
    alpha_lr
        Learning rate of the choice.
    cooling
        By how much each training step lowers the temperature, which starts at 1.

    Raises
    ------
    BudgetError, ParameterError, ShapeError
        The budget is below the smallest candidate for all groups, or arguments are outside their range.

    """

    method: ClassVar[str] = "AutoDim"
    has_sparse_gradients: ClassVar[bool] = True
    uses_frequencies: ClassVar[bool] = True
    next_model: ClassVar[str] = "fresh"
    final_mark: ClassVar[str] = "place"

    def _make(
        self,
        budget: Budget,
        std: float,
        *,
        frequencies: Any = None,
        groups: Any = None,
        candidates: Sequence[int] | None = None,
        alpha_lr: float = 1e-3,
        cooling: float = 5e-5,
    ) -> None:
        self._std = std
        self.candidates = _candidates(candidates, budget.d)
        group = as_groups(groups, budget.n, frequencies)
        sizes = np.bincount(group)
        count = len(sizes)
        budget.check(self.method, mixed_bytes(budget.n, budget.d, sizes, [self.candidates[0]] * count))
        self.cooling = as_number("cooling", cooling, above=-1e-300)
        self.tables = torch.nn.ParameterList(normal(budget.n, c, std=std) for c in self.candidates)
        self.maps = torch.nn.ParameterList(normal(count, c, budget.d, std=1 / math.sqrt(c)) for c in self.candidates)
        self.norms = torch.nn.ModuleList(torch.nn.BatchNorm1d(budget.d, affine=False) for _ in self.candidates)
        self.alpha = torch.nn.Parameter(torch.zeros(count, len(self.candidates)), requires_grad=False)
        self.alpha_lr = as_number("alpha_lr", alpha_lr, above=0.0)
        self.group: Tensor
        self.steps: Tensor
        self.alpha_steps: Tensor
        self.alpha_mean: Tensor
        self.alpha_square: Tensor
        self.register_buffer("group", tensor_of(group))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("alpha_steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("alpha_mean", torch.zeros_like(self.alpha))
        self.register_buffer("alpha_square", torch.zeros_like(self.alpha))

    def _shares(self) -> Tensor:
        """Return how much of every candidate each group takes, (groups, candidates)."""
        logits = torch.log_softmax(self.alpha, 1)
        if not self.training:
            return logits.exp()
        noise = -torch.log(-torch.log(torch.rand_like(logits).clamp(1e-20, 1 - 1e-7)))
        temperature = max(_LEAST_TEMPERATURE, 1 - self.cooling * int(self.steps))
        return torch.softmax((logits + noise) / temperature, 1)

    def rows(self, ids: Tensor) -> Tensor:
        """Return rows (m, d) of ids (m,)."""
        group, shares = self.group[ids], self._shares()
        split = Split.of(group, len(self.alpha))
        found = self.tables[0].new_zeros(len(ids), self.embedding_dim)
        for c, (table, maps, norm) in enumerate(zip(self.tables, self.maps, self.norms)):
            narrow = gathered(table, ids, self.sparse)
            wide = split.rows(lambda g, some, maps=maps, narrow=narrow: narrow[some] @ maps[g], found.dtype)
            if not (self.training and len(ids) < 2):
                wide = norm(wide)
            found = found + shares[group, c][:, None] * wide
        return found

    def step_end(self) -> None:
        """Lower the temperature."""
        self.steps += 1

    def search(self, loss: Callable[[], Tensor]) -> None:
        """Move the choice along the gradient of a loss on validation data."""
        self.alpha.grad = gradient_of(loss, self.alpha)
        optimizer = torch.optim.Adam([self.alpha], lr=self.alpha_lr)
        optimizer.state[self.alpha] = {  # buffers, so that they are part of a checkpoint
            "step": self.alpha_steps.float(), "exp_avg": self.alpha_mean, "exp_avg_sq": self.alpha_square,
        }  # fmt: skip
        optimizer.step()
        self.alpha_steps += 1
        self.alpha.grad = None

    def empty_final(self) -> MixedTable:
        """Return a table whose rows have no floats."""
        return empty_mixed(self._budget, self.padding_idx, self.sparse, self.method)

    def finish(self, evaluate: Callable[[], float] | None = None) -> MixedTable:
        """Return a table of the chosen dimensions, to be trained from scratch."""
        scores = torch.log_softmax(self.alpha.detach(), 1).double().cpu().numpy()
        group = self.group.cpu().numpy()
        sizes = np.bincount(group, minlength=len(scores))
        dims = dims_within(scores, self.candidates, sizes, self._budget)
        made = MixedTable(self._budget, self.padding_idx, self.sparse, group, dims, std=self._std, method=self.method)
        return made.to(self.group.device)


def _candidates(given: Sequence[int] | None, d: int) -> tuple[int, ...]:
    if given is None:
        return (*(1 << i for i in range(d.bit_length()) if 1 << i < d), d)
    found = tuple(sorted({as_count("candidates", dim, most=d) for dim in given}))
    if not found:
        raise ParameterError("candidates are empty: expected dimensions")
    return found


def dims_within(scores: np.ndarray, candidates: Sequence[int], sizes: np.ndarray, budget: Budget) -> list[int]:
    """Return a dimension for each group: the sum of scores (groups, candidates) is large and the budget is filled.

    A price for every float, positive or negative, is found by bisection with which the best choices just fit; what
    is left then goes to the groups that gain most by the next candidate.
    """
    costs = np.array([[size * c + (c * budget.d if c < budget.d else 0) for c in candidates] for size in sizes])
    unit = 1.0 / costs.max()

    def chosen(price: float) -> np.ndarray:
        return np.argmax(scores - price * costs * unit, axis=1)

    def fits(choice: np.ndarray) -> bool:
        return mixed_bytes(budget.n, budget.d, sizes, [candidates[c] for c in choice]) <= budget.bytes

    low, high = -1e6, 1e6
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(chosen(middle)) else (middle, high)
    choice = chosen(high) if fits(chosen(high)) else np.zeros(len(sizes), int)
    gains = [
        (scores[g, choice[g] + 1] - scores[g, choice[g]], g)
        for g in range(len(sizes))
        if choice[g] + 1 < len(candidates)
    ]
    for _, g in sorted(gains, reverse=True):
        larger = choice.copy()
        larger[g] += 1
        choice = larger if fits(larger) else choice
    return [candidates[c] for c in choice]
