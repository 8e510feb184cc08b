"""Mixed dimensions by popularity."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from annvq.arguments import as_count
from annvq.tables.budget import Budget
from annvq.tables.frozen.partition import MOST_GROUPS
from annvq.tables.structure.mixed import MixedTable, mixed_bytes
from annvq.tables.table import as_frequencies, by_frequency

_STEEPEST = 16.0
_STEPS = 60


class MDE(MixedTable):
    """Frequent rows are long, rare rows short and projected.

    Rows are sorted by frequency into groups, each twice as large as the one before. The dimension of a group is
    d (p / p_0)^alpha for the mean frequencies p of the group and p_0 of the first, and the budget decides alpha.
    Source: Ginart et al. 2021, "Mixed dimension embeddings with application to memory-efficient recommendation
    systems", algorithm 2.

    Parameters
    ----------
    num_embeddings, embedding_dim
        Rows and dimension.
    ratio, bytes
        The budget, one of them.
    padding_idx, sparse
        As of nn.Embedding.
    std
        Standard deviation of the rows at the start.
    frequencies
        (n,), how often each row is used; None: the first rows are the most frequent, by Zipf's law.
    groups
        Most groups.

    Raises
    ------
    BudgetError, ParameterError, ShapeError
        A budget below one float a row; arguments outside their range.

    """

    method: ClassVar[str] = "MDE"
    uses_frequencies: ClassVar[bool] = True

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        ratio: float | None = None,
        bytes: int | None = None,
        padding_idx: int | None = None,
        sparse: bool = False,
        std: float = 1.0,
        frequencies: Any = None,
        groups: int = 8,
    ) -> None:
        budget = Budget.of(num_embeddings, embedding_dim, ratio, bytes)
        count = as_count("groups", groups, most=MOST_GROUPS)
        labels, popularity = popularity_groups(budget.n, frequencies, count)
        sizes = np.bincount(labels)
        ones = [1] * len(sizes)
        budget.check(self.method, min(mixed_bytes(budget.n, budget.d, sizes, ones), _one_group(budget)))
        if mixed_bytes(budget.n, budget.d, sizes, ones) > budget.bytes:
            labels, popularity, sizes = np.zeros(budget.n, np.int64), np.ones(1), np.array([budget.n])
        super().__init__(budget, padding_idx, sparse, labels, _dims(budget, sizes, popularity), std=std)


def popularity_groups(n: int, frequencies: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return every row's group (n,) int64, 0 the most frequent, each group twice as large, and mean frequencies."""
    order = by_frequency(frequencies, n)
    given = 1.0 / (1.0 + np.arange(n)) if frequencies is None else as_frequencies(frequencies, n)[order]
    shares = np.cumsum(2.0 ** np.arange(count))
    ends = np.unique(np.maximum(np.round(n * shares / shares[-1]), np.minimum(np.arange(count) + 1, n)).astype(int))
    labels, means, start = np.empty(n, np.int64), [], 0
    for group, end in enumerate(ends):
        labels[order[start:end]] = group
        means.append(max(float(given[start:end].mean()), 1e-30))
        start = end
    return labels, np.array(means)


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
