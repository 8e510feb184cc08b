"""Tables with only a few values left: what every pruning ends with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from annvq.learn.runtime import torch
from annvq.tables.budget import Budget, most_that_fits
from annvq.tables.frozen.sparse import Sparse, sparse_bytes
from annvq.tables.state import check_budget
from annvq.tables.table import Table, gathered, inference_array

if TYPE_CHECKING:
    from torch import Tensor


class SparseTable(Table):
    """Values under a mask that stays as it is; gradients move the values.

    Parameters
    ----------
    budget, padding_idx, sparse
        As for `Table`.
    weight
        (n, d) float32.
    mask
        (n, d) bool: which values are left.
    method
        Name of the method that chose them.

    """

    method: ClassVar[str] = "SparseTable"
    has_sparse_gradients: ClassVar[bool] = True

    def __init__(
        self, budget: Budget, padding_idx: int | None, sparse: bool, weight: Tensor, mask: np.ndarray, method: str
    ) -> None:
        super().__init__(budget, padding_idx, sparse)
        self._named = method
        self.mask: Tensor
        self.register_buffer("mask", torch.from_numpy(mask).to(weight.device))
        self.weight = torch.nn.Parameter(torch.where(self.mask, weight.detach(), torch.zeros_like(weight)))

    @property
    def made_by(self) -> str:
        """Name of the method that pruned it."""
        return self._named

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that are needed at inference."""
        return self._bytes_of(self.mask)

    def _bytes_of(self, mask: Tensor) -> int:
        lengths = mask.sum(1)
        return int(sparse_bytes(self.num_embeddings, self.embedding_dim, int((lengths > 0).sum()), int(lengths.sum())))

    def rows(self, ids: Tensor) -> Tensor:
        """Return rows (m, d) of ids (m,)."""
        found = gathered(self.weight, ids, self.sparse)
        return found * self.mask[ids].to(found.dtype)

    def form(self) -> Sparse:
        """Return the arrays for inference."""
        return Sparse.of(inference_array(self.weight), self.mask.cpu().numpy())

    def prepare(self, given: Mapping[str, Any], prefix: str) -> None:
        """Raise if a state does not fit; ParameterError also if its values exceed the budget."""
        super().prepare(given, prefix)
        mask = given.get(prefix + "mask")
        if mask is not None:
            check_budget(self.made_by, self._bytes_of(mask), self.budget_bytes)


def empty_sparse(budget: Budget, padding_idx: int | None, sparse: bool, method: str) -> SparseTable:
    """Return a table of which no value is left, for a state to be loaded into."""
    shape = (budget.n, budget.d)
    return SparseTable(budget, padding_idx, sparse, torch.zeros(shape), np.zeros(shape, bool), method)


def least_sparse_bytes(n: int, d: int) -> int:
    """Return the bytes of a table with one value."""
    return sparse_bytes(n, d, 1, 1)


def most_values(budget: Budget) -> int:
    """Return how many values fit, if each had a row of its own as long as there are rows."""
    n, d = budget.n, budget.d
    return max(1, most_that_fits(lambda values: sparse_bytes(n, d, min(n, values), values) <= budget.bytes, n * d))


def largest_within(importance: np.ndarray, budget: Budget) -> np.ndarray:
    """Return which values (n, d) bool of largest importance fill a budget; none of importance 0."""
    n, d = importance.shape
    flat = importance.ravel()
    order = np.argsort(-flat, kind="stable")[: int((flat > 0).sum())]
    rows = order // d
    is_new = np.zeros(len(order), bool)
    is_new[np.unique(rows, return_index=True)[1]] = True
    taken = sparse_bytes(n, d, np.cumsum(is_new), np.arange(1, len(order) + 1))
    mask = np.zeros(n * d, bool)
    mask[order[: int(np.searchsorted(taken, budget.bytes, side="right"))]] = True
    return mask.reshape(n, d)
