"""Deduplicated blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from annvq.arguments import as_count
from annvq.kernels.vectors import gemm
from annvq.learn.runtime import torch
from annvq.tables.budget import FLOAT, Budget
from annvq.tables.frequencies import weights_of
from annvq.tables.frozen.gather import Blocks
from annvq.tables.method import TableMethod
from annvq.tables.table import gathered, inference_array, normal, set_

if TYPE_CHECKING:
    from torch import Tensor

_REMAP_SHARE = 4  # the remap takes at most a fourth of the budget
_TABLES = 90  # Zhou et al. 2022, and the configuration of the comparison by Zhang et al. 2024
_WIDTH = 0.5  # of a bucket, in standard deviations of the projections
_SIMILAR = 0.7  # share of a block's values that must be close
_ROWS_AT_ONCE = 4096


class Dedup(TableMethod):
    """Blocks of neighbouring rows; similar blocks share one, which is their mean.

    Which blocks share is found in a trained table (`approximate`); blocks and remap then fill the budget, so that
    there is no tolerance to set. Source: Zhou et al. 2022, "Serving deep learning models with deduplication from
    relational databases", section 4.

    See `TableMethod` for the parameters of all methods.

    Parameters
    ----------
    block_rows
        Rows of a block; None: the least with which the remap takes a fourth of the budget or less.

    Raises
    ------
    BudgetError, ParameterError
        The budget is below one block and the remap, or arguments are outside their range.

    """

    method: ClassVar[str] = "Dedup"
    has_sparse_gradients: ClassVar[bool] = True
    structure: ClassVar[tuple[str, ...]] = ("block_rows",)

    def _make(self, budget: Budget, std: float, *, block_rows: int | None = None) -> None:
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
        weight = inference_array(self.weight).reshape(-1, self.block_rows, self.embedding_dim)
        return Blocks(self.num_embeddings, self.embedding_dim, weight, inference_array(self.remap))

    def approximate(self, weight: np.ndarray, *, frequencies: np.ndarray | None = None, seed: int = 0) -> None:
        """Let the blocks that are most alike share, as many as it takes."""
        n, d = weight.shape
        count, kept = len(self.remap), len(self.weight) // self.block_rows
        blocks = np.zeros((count * self.block_rows, d), np.float32)
        blocks[:n] = weight
        counts = np.zeros((len(blocks), 1))
        counts[:n, 0] = weights_of(frequencies, n)
        shares = np.broadcast_to(counts, blocks.shape).reshape(count, -1)
        means, owner = merged(blocks.reshape(count, -1), shares, kept, seed)
        set_(self.weight, means)
        set_(self.remap, owner)


def merged(blocks: np.ndarray, counts: np.ndarray, kept: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the means (kept, values) that stand for blocks (B, values), and which of them each has, (B,).

    In every round the pairs that are most alike become one, their mean. No block is in two pairs of a round: if a
    merged block could merge again at once, most would end in one chain at small budgets.

    Parameters
    ----------
    blocks, counts
        (B, values) float32, and how much each value counts.
    kept
        How many are left.
    seed
        Seed of the search for pairs.

    """
    means, totals, owner = blocks, counts, np.arange(len(blocks))
    while len(means) > kept:
        order, before, distance = nearest_before(means, seed)
        most = len(means) - kept
        target, is_taken = np.arange(len(means)), np.zeros(len(means), bool)
        for position in np.argsort(distance, kind="stable"):
            other = before[position]
            if most == 0:
                break
            if other >= 0 and not (is_taken[position] or is_taken[other]):  # the first has none before it
                is_taken[[position, other]] = True
                target[order[position]] = order[other]
                most -= 1
        left, place = np.unique(target, return_inverse=True)
        sums, added = np.zeros((len(left), means.shape[1])), np.zeros((len(left), means.shape[1]))
        np.add.at(sums, place, means * totals)
        np.add.at(added, place, totals)
        means, totals, owner = (sums / np.maximum(added, 1e-30)).astype(np.float32), added, place[owner]
    return means, owner


def _block_rows(budget: Budget) -> int:
    return min(budget.n, max(1, -(-_REMAP_SHARE * FLOAT * budget.n // max(1, budget.bytes))))


def _smallest(budget: Budget) -> int:
    """Return the least bytes with which one block and the remap of its own choice of rows fit."""
    low, high = 1, FLOAT * budget.n * (budget.d + 1)
    while low < high:
        middle = (low + high) // 2
        rows = _block_rows(Budget(middle, budget.n, budget.d))
        fits = FLOAT * (rows * budget.d + -(-budget.n // rows)) <= middle
        low, high = (low, middle) if fits else (middle + 1, high)
    return low


def nearest_before(blocks: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return an order of blocks, for each the most similar candidate before it, and how far that one is.

    Blocks are ordered by the third quartile of their values. Candidates are those just before in the order in any
    bucket of 90 hash tables of one random projection each (L2-LSH, Datar et al. 2004), and the one just before in
    the order. The distance of two blocks is the least tolerance under which 70% of their values agree.

    Parameters
    ----------
    blocks
        (B, values) float32.
    seed
        Seed of the projections.

    Returns
    -------
    order, before, distance
        (B,) int64, (B,) int64 positions in the order, -1 for the first, and (B,) float32, infinite for the first.

    """
    rng = np.random.default_rng(seed)
    order = np.argsort(np.percentile(blocks, 75, axis=1), kind="stable")
    ordered = blocks[order]
    count = len(blocks)
    before, distance = np.arange(-1, count - 1), np.full(count, np.inf, np.float32)
    _improve(ordered, np.arange(1, count), np.arange(count - 1), before, distance)
    for _ in range(_TABLES):
        direction = rng.standard_normal(blocks.shape[1]).astype(np.float32)
        projected = gemm.products(ordered, gemm.pack(direction[None]), 1)[:, 0]  # of equal blocks the same
        width = _WIDTH * float(projected.std()) or 1.0  # blocks that are all alike share any bucket
        buckets = np.floor(projected / width + rng.random()).astype(np.int64)
        sorted_rows = np.argsort(buckets, kind="stable")
        same = buckets[sorted_rows[1:]] == buckets[sorted_rows[:-1]]
        later, earlier = sorted_rows[1:][same], sorted_rows[:-1][same]
        _improve(ordered, later, earlier, before, distance)
    return order, before, distance


def _improve(
    ordered: np.ndarray, later: np.ndarray, earlier: np.ndarray, before: np.ndarray, distance: np.ndarray
) -> None:
    """Take candidates that are nearer than those known."""
    rank = min(ordered.shape[1] - 1, int(np.ceil(_SIMILAR * ordered.shape[1])) - 1)
    for start in range(0, len(later), _ROWS_AT_ONCE):
        rows, others = later[start : start + _ROWS_AT_ONCE], earlier[start : start + _ROWS_AT_ONCE]
        gaps = np.partition(np.abs(ordered[rows] - ordered[others]), rank, axis=1)[:, rank]
        nearer = gaps < distance[rows]
        before[rows[nearer]], distance[rows[nearer]] = others[nearer], gaps[nearer]
