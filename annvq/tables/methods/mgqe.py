"""Multi-granular quantized embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from annvq.arguments import as_number
from annvq.codebooks import KMeans
from annvq.learn.parts.mirrors import tensor_of
from annvq.learn.runtime import torch
from annvq.tables.budget import FLOAT, Budget, most_that_fits
from annvq.tables.coding.code_sizes import CodeSizes, subspaces
from annvq.tables.coding.learned_codes import LearnedCodes
from annvq.tables.frequencies import by_frequency
from annvq.tables.frozen.codes import HIGH_BITS, LOW_BITS, GroupedCodes, code_bytes, packed
from annvq.tables.frozen.partition import Partition
from annvq.tables.table import inference_array, set_

if TYPE_CHECKING:
    from torch import Tensor

_LOW = 1 << LOW_BITS


class MGQE(LearnedCodes):
    """Product codes learned with the model: 256 centroids for frequent rows, the first 64 of them for the others.

    The budget decides the number of codes per row; they take 8 and 6 bits. Source: Kang et al. 2020, "Learning
    multi-granular quantized embeddings for large-vocab categorical features in recommender systems", section 3.

    See `TableMethod` for the parameters of all methods.

    Parameters
    ----------
    frequencies
        (n,), how often each row is used; None: the first rows are the most frequent.
    top_share
        Share of the rows that count as frequent, above 0 and at most 1.

    Raises
    ------
    BudgetError, ParameterError, ShapeError
        The budget is below one code per row, or arguments are outside their range.

    """

    method: ClassVar[str] = "MGQE"
    uses_frequencies: ClassVar[bool] = True
    structure: ClassVar[tuple[str, ...]] = ("frequent",)

    def _make(self, budget: Budget, std: float, *, frequencies: Any = None, top_share: float = 0.1) -> None:
        share = as_number("top_share", top_share, above=0.0, most=1.0)
        frequent = min(max(1, round(share * budget.n)), budget.n)
        budget.check(self.method, _bytes(budget.n, budget.d, 1, frequent))

        def fits(most: int) -> bool:
            return most == 0 or _bytes(budget.n, budget.d, subspaces(budget.d, most), frequent) <= budget.bytes

        M = max(1, subspaces(budget.d, most_that_fits(fits, budget.d)))
        self._learn(budget, CodeSizes(M, HIGH_BITS), std)
        self.frequent = frequent
        is_low = np.ones(budget.n, bool)
        is_low[by_frequency(frequencies, budget.n)[:frequent]] = False
        self.is_low: Tensor
        self.register_buffer("is_low", tensor_of(is_low))

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that are needed at inference."""
        return _bytes(self.num_embeddings, self.embedding_dim, self.sizes.M, self.frequent)

    def nearest(self, query: Tensor, ids: Tensor) -> Tensor:
        """Return the codes (m, M) of float32 rows (m, d) of ids (m,)."""
        is_low = self.is_low[ids]
        codes = torch.empty(len(query), self.sizes.M, dtype=torch.int64, device=query.device)
        codes[is_low] = self.mirror.nearest(query[is_low], _LOW)
        codes[~is_low] = self.mirror.nearest(query[~is_low])
        return codes

    def form(self) -> GroupedCodes:
        """Return the arrays for inference."""
        is_low, codes = self.is_low.cpu().numpy(), self.codes()
        return GroupedCodes(
            self.num_embeddings,
            self.embedding_dim,
            Partition.of(is_low.astype(np.int64), 2),
            packed(codes[~is_low], HIGH_BITS),
            packed(codes[is_low], LOW_BITS),
            inference_array(self.mirror.codebooks),
        )

    def approximate(self, weight: np.ndarray, *, frequencies: np.ndarray | None = None, seed: int = 0) -> None:
        """Take the rows; 64 centroids of each sub-space are trained on the others, the rest on frequent rows."""
        set_(self.query, weight)
        is_low = self.is_low.cpu().numpy()
        M, ksub, dsub = self.mirror.codebooks.shape
        padded = np.zeros((len(weight), M * dsub), np.float32)
        padded[:, : weight.shape[1]] = weight
        codebooks = np.empty((M, ksub, dsub), np.float32)
        for m in range(M):
            part = padded[:, m * dsub : (m + 1) * dsub]
            codebooks[m, :_LOW] = _centroids(part[is_low] if is_low.any() else part, _LOW, seed)
            codebooks[m, _LOW:] = _centroids(part[~is_low], ksub - _LOW, seed)
        set_(self.mirror.codebooks, codebooks)


def _bytes(n: int, d: int, M: int, frequent: int) -> int:
    codes = frequent * code_bytes(M, HIGH_BITS) + (n - frequent) * code_bytes(M, LOW_BITS)
    return Partition.nbytes(n, 2) + codes + FLOAT * (1 << HIGH_BITS) * M * -(-d // M)


def _centroids(rows: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Return k centroids (k, dsub); the last one repeats if there are fewer rows."""
    found = KMeans.train(rows, min(k, len(rows)), seed=seed, threads=1).centroids
    return np.concatenate([found, np.repeat(found[-1:], k - len(found), axis=0)])
