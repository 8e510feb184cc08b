"""Deduplicated blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from annvq.arguments import as_count
from annvq.learn.runtime import torch
from annvq.tables.budget import FLOAT, Budget
from annvq.tables.frozen.gather import Blocks
from annvq.tables.lsh import nearest_before
from annvq.tables.table import Table, array_of, gathered, normal, set_, weights_of

if TYPE_CHECKING:
    from torch import Tensor

_REMAP_SHARE = 4  # the remap takes at most a fourth of the budget


class Dedup(Table):
    """Blocks of neighbouring rows, of which those that are alike share one, the mean of what it stands for.

    Which blocks share is found in a trained table (`approximate`); blocks and remap then fill the budget, so that
    there is no tolerance to set. Source: Zhou et al. 2022, "Serving deep learning models with deduplication from
    relational databases", section 4.

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
    block_rows
        Rows of a block; None: the least with which the remap takes a fourth of the budget or less.

    Raises
    ------
    BudgetError, ParameterError
        A budget below one block and the remap; arguments outside their range.

    """

    method: ClassVar[str] = "Dedup"
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
        block_rows: int | None = None,
    ) -> None:
        budget = Budget.of(num_embeddings, embedding_dim, ratio, bytes)
        super().__init__(budget, padding_idx, sparse)
        rows = _block_rows(budget) if block_rows is None else as_count("block_rows", block_rows, most=budget.n)
        blocks = -(-budget.n // rows)
        block = FLOAT * rows * budget.d
        smallest = block + FLOAT * blocks if block_rows is not None else _smallest(budget)
        budget.check(self.method, smallest)
        kept = min(blocks, (budget.bytes - FLOAT * blocks) // block)
        self.block_rows = rows
        self.weight = normal(kept * rows, budget.d, std=std)
        self.remap: Tensor
        self.register_buffer("remap", torch.arange(blocks, dtype=torch.int32) % kept)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that are needed at inference."""
        return FLOAT * (self.weight.numel() + self.remap.numel())

    def rows(self, ids: Tensor) -> Tensor:
        """Return rows (m, d) of ids (m,)."""
        places = self.remap[ids // self.block_rows].long() * self.block_rows + ids % self.block_rows
        return gathered(self.weight, places, self.sparse)

    def form(self) -> Blocks:
        """Return the arrays for inference."""
        weight = array_of(self.weight).reshape(-1, self.block_rows, self.embedding_dim)
        return Blocks(self.num_embeddings, self.embedding_dim, weight, array_of(self.remap))

    def approximate(self, weight: np.ndarray, *, frequencies: np.ndarray | None = None, seed: int = 0) -> None:
        """Let the blocks that are most alike share, as many as it takes."""
        n, d = weight.shape
        count, kept = len(self.remap), len(self.weight) // self.block_rows
        padded = np.zeros((count * self.block_rows, d), np.float32)
        padded[:n] = weight
        counts = np.zeros(len(padded))
        counts[:n] = weights_of(frequencies, n)
        order, before, distance = nearest_before(padded.reshape(count, -1), seed)
        shares = np.zeros(count, bool)
        shares[np.argsort(distance, kind="stable")[: count - kept]] = True
        owner = np.empty(count, np.int64)
        number = 0
        for position in range(count):  # what a block shares may itself be shared
            owner[position] = owner[before[position]] if shares[position] else number
            number += not shares[position]
        remap = np.empty(count, np.int64)
        remap[order] = owner
        sums, totals = np.zeros((kept, self.block_rows, d)), np.zeros((kept, self.block_rows))
        np.add.at(sums, remap, (padded * counts[:, None]).reshape(count, self.block_rows, d))
        np.add.at(totals, remap, counts.reshape(count, self.block_rows))
        set_(self.weight, sums / np.maximum(totals, 1e-30)[:, :, None])
        set_(self.remap, remap)


def _block_rows(budget: Budget) -> int:
    return min(budget.n, max(1, -(-_REMAP_SHARE * FLOAT * budget.n // budget.bytes)))


def _smallest(budget: Budget) -> int:
    """Return the least bytes with which one block and the remap of its own choice of rows fit."""
    low, high = 1, FLOAT * budget.n * (budget.d + 1)
    while low < high:
        middle = (low + high) // 2
        rows = _block_rows(Budget(middle, budget.n, budget.d))
        fits = FLOAT * (rows * budget.d + -(-budget.n // rows)) <= middle
        low, high = (low, middle) if fits else (middle + 1, high)
    return low
