"""Mixed dimensions by popularity."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from annvq.arguments import as_count
from annvq.tables.budget import Budget
from annvq.tables.frequencies import popularity_groups
from annvq.tables.frozen.partition import MOST_GROUPS
from annvq.tables.method import TableMethod
from annvq.tables.structure.mixed import MixedTable, mixed_bytes

_STEEPEST = 16.0
_STEPS = 60


class MDE(TableMethod, MixedTable):
    """Frequent rows are long; rare rows are short and projected.

    Rows are sorted by frequency into groups, each twice as large as the one before. The dimension of a group is
    d (p / p_0)^alpha for the mean frequencies p of the group and p_0 of the first, and the budget decides alpha.
    Source: Ginart et al. 2021, "Mixed dimension embeddings with application to memory-efficient recommendation
    systems", algorithm 2.

    See `TableMethod` for the parameters of all methods.

    Parameters
    ----------
    frequencies
        (n,), how often each row is used; None: the first rows are the most frequent, by Zipf's law.
    groups
        Largest number of groups.

    Raises
    ------
    BudgetError, ParameterError, ShapeError
        The budget is below one float per row, or arguments are outside their range.

    """

    method: ClassVar[str] = "MDE"
    uses_frequencies: ClassVar[bool] = True

    def _make(self, budget: Budget, std: float, *, frequencies: Any = None, groups: int = 8) -> None:
        count = as_count("groups", groups, most=MOST_GROUPS)
        labels, popularity = popularity_groups(budget.n, frequencies, count)
        sizes = np.bincount(labels)
        ones = [1] * len(sizes)
        budget.check(self.method, min(mixed_bytes(budget.n, budget.d, sizes, ones), _one_group(budget)))
        if mixed_bytes(budget.n, budget.d, sizes, ones) > budget.bytes:
            labels, popularity, sizes = np.zeros(budget.n, np.int64), np.ones(1), np.array([budget.n])
        self._lay_out(labels, _dims(budget, sizes, popularity), std)


def _one_group(budget: Budget) -> int:
    return mixed_bytes(budget.n, budget.d, [budget.n], [1])


def _dims(budget: Budget, sizes: np.ndarray, popularity: np.ndarray) -> list[int]:
    """Return the dimensions of the groups for the least alpha, and the largest first dimension, that fit."""
    share = np.minimum(popularity / popularity[0], 1.0)

    def dims_of(alpha: float, base: int) -> list[int]:
        return [max(1, round(base * s**alpha)) for s in share]

    def fits(dims: list[int]) -> bool:
        return mixed_bytes(budget.n, budget.d, sizes, dims) <= budget.bytes

    base = next(base for base in range(budget.d, 0, -1) if base == 1 or fits(dims_of(_STEEPEST, base)))
    low, high = 0.0, _STEEPEST
    if fits(dims_of(low, base)):
        return dims_of(low, base)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(dims_of(middle, base)) else (middle, high)
    chosen = dims_of(high, base)
    return chosen if fits(chosen) else [1] * len(sizes)
