"""Rows shared by ids that are alike modulo the number of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from annvq.tables.budget import FLOAT, Budget
from annvq.tables.frozen.gather import Hashed
from annvq.tables.table import Table, array_of, gathered, normal, set_, weights_of

if TYPE_CHECKING:
    from torch import Tensor


class Hash(Table):
    """Fewer rows, found by id modulo their number (the hashing trick, Weinberger et al. 2009).

    Parameters
    ----------
    num_embeddings, embedding_dim
        Rows and dimension that it stands for.
    ratio, bytes
        The budget, one of them.
    padding_idx, sparse
        As of nn.Embedding.
    std
        Standard deviation of the rows at the start.

    Raises
    ------
    BudgetError, ParameterError
        A budget below one row; arguments outside their range.

    """

    method: ClassVar[str] = "Hash"
    has_sparse_gradients: ClassVar[bool] = True

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
    ) -> None:
        budget = Budget.of(num_embeddings, embedding_dim, ratio, bytes)
        super().__init__(budget, padding_idx, sparse)
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
        return Hashed(self.num_embeddings, self.embedding_dim, array_of(self.weight))

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
