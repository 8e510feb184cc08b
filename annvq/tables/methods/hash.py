"""Rows shared by ids that are equal modulo the number of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from annvq.tables.budget import FLOAT, Budget
from annvq.tables.frequencies import weights_of
from annvq.tables.frozen.gather import Hashed
from annvq.tables.method import TableMethod
from annvq.tables.table import gathered, inference_array, normal, set_

if TYPE_CHECKING:
    from torch import Tensor


class Hash(TableMethod):
    """Fewer rows, found by id modulo their number (the hashing trick, Weinberger et al. 2009).

    See `TableMethod` for the parameters of all methods.

    Raises
    ------
    BudgetError, ParameterError
        The budget is below one row, or arguments are outside their range.

    """

    method: ClassVar[str] = "Hash"
    has_sparse_gradients: ClassVar[bool] = True

    def _make(self, budget: Budget, std: float) -> None:
        budget.check(self.method, FLOAT * budget.d)
        self.weight = normal(min(budget.n, budget.bytes // (FLOAT * budget.d)), budget.d, std=std)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that are needed at inference."""
        return FLOAT * self.weight.numel()

    def rows(self, ids: Tensor) -> Tensor:
        """Return rows (m, d) of ids (m,)."""
        return gathered(self.weight, ids % len(self.weight), self.sparse)

    def form(self) -> Hashed:
        """Return the arrays for inference."""
        return Hashed(self.num_embeddings, self.embedding_dim, inference_array(self.weight))

    def approximate(self, weight: np.ndarray, *, frequencies: np.ndarray | None = None, seed: int = 0) -> None:
        """Take the mean of the rows that share one, weighted by frequency."""
        places = np.arange(self.num_embeddings) % len(self.weight)
        set_(self.weight, shared_means(weight, places, len(self.weight), weights_of(frequencies, len(weight))))


def shared_means(weight: np.ndarray, places: np.ndarray, count: int, counts: np.ndarray) -> np.ndarray:
    """Return weighted means (count, d) of the rows (n, d) that share a place."""
    sums = np.zeros((count, weight.shape[1]))
    np.add.at(sums, places, weight * counts[:, None])
    totals = np.bincount(places, weights=counts, minlength=count)
    return sums / np.maximum(totals, 1e-30)[:, None]
