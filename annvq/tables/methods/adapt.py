"""Frequent rows have vectors of their own, and the others share vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from annvq.arguments import as_number
from annvq.learn.parts.mirrors import tensor_of
from annvq.tables.budget import FLOAT, Budget
from annvq.tables.frequencies import by_frequency, weights_of
from annvq.tables.frozen.gather import HotAndShared
from annvq.tables.frozen.partition import Partition, places_of
from annvq.tables.method import TableMethod
from annvq.tables.methods.hash import shared_means
from annvq.tables.table import gathered, inference_array, normal, set_

if TYPE_CHECKING:
    from torch import Tensor


class AdaptEmb(TableMethod):
    """The most frequent rows have their own vectors; all others share some by hashing.

    Source: adaptive embeddings of DeepRec, as described by Zhang et al. 2024, "Experimental analysis of large-scale
    learnable vector storage compression", section 3.2.

    See `TableMethod` for the parameters of all methods.

    Parameters
    ----------
    frequencies
        (n,), how often each row is used; None: the first rows are the most frequent.
    hot_share
        Share of the kept vectors that belong to one row alone, above 0 and below 1.

    Raises
    ------
    BudgetError, ParameterError, ShapeError
        The budget is below two vectors and a bit per row, or arguments are outside their range.

    """

    method: ClassVar[str] = "AdaptEmb"
    has_sparse_gradients: ClassVar[bool] = True
    uses_frequencies: ClassVar[bool] = True

    def _make(self, budget: Budget, std: float, *, frequencies: Any = None, hot_share: float = 0.5) -> None:
        share = as_number("hot_share", hot_share, above=0.0, most=1.0)
        row, partition = FLOAT * budget.d, Partition.nbytes(budget.n, 2)
        budget.check(self.method, partition + 2 * row)
        kept = (budget.bytes - partition) // row
        hot = budget.n - 1 if kept >= budget.n else min(max(1, round(share * kept)), kept - 1)
        self.hot = normal(min(hot, budget.n), budget.d, std=std)
        self.shared = normal(min(max(1, kept - hot), max(1, budget.n - hot)), budget.d, std=std)
        group = np.ones(budget.n, np.int64)
        group[by_frequency(frequencies, budget.n)[: len(self.hot)]] = 0
        self.group: Tensor
        self.place: Tensor
        self.register_buffer("group", tensor_of(group.astype(np.uint8)))
        self.register_buffer("place", tensor_of(places_of(group, 2)))

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that are needed at inference."""
        return Partition.nbytes(self.num_embeddings, 2) + FLOAT * (self.hot.numel() + self.shared.numel())

    def rows(self, ids: Tensor) -> Tensor:
        """Return rows (m, d) of ids (m,)."""
        is_hot, place = self.group[ids] == 0, self.place[ids]
        found = self.hot.new_empty(len(ids), self.embedding_dim)
        own = gathered(self.hot, place[is_hot], self.sparse)
        others = gathered(self.shared, place[~is_hot] % len(self.shared), self.sparse)
        return found.index_put((is_hot,), own).index_put((~is_hot,), others)

    def form(self) -> HotAndShared:
        """Return the arrays for inference."""
        partition = Partition.of(self.group.cpu().numpy().astype(np.int64), 2)
        return HotAndShared(
            self.num_embeddings, self.embedding_dim, partition, inference_array(self.hot), inference_array(self.shared)
        )

    def approximate(self, weight: np.ndarray, *, frequencies: np.ndarray | None = None, seed: int = 0) -> None:
        """Take frequent rows as they are and the weighted means of those that share a vector."""
        is_hot = self.group.cpu().numpy() == 0
        place, counts = self.place.cpu().numpy(), weights_of(frequencies, len(weight))
        set_(self.hot, weight[is_hot])
        shared = place[~is_hot] % len(self.shared)
        set_(self.shared, shared_means(weight[~is_hot], shared, len(self.shared), counts[~is_hot]))
