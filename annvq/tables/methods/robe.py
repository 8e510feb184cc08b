"""Random offset block embedding arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from annvq.arguments import as_count
from annvq.kernels.embeddings.mixing import hash_pair
from annvq.learn.runtime import torch
from annvq.tables.budget import FLOAT, Budget
from annvq.tables.frequencies import weights_of
from annvq.tables.frozen.robe import MOST_SEED, Robe
from annvq.tables.method import TableMethod
from annvq.tables.table import gathered, inference_array, normal, of_distinct, set_

if TYPE_CHECKING:
    from typing import Any

    from torch import Tensor

_ROWS_AT_ONCE = 65_536
_MOST_FLOATS = 2**31 - 1  # places are 32 bits of hash times the size


class ROBE(TableMethod):
    """One circular array of floats for all rows; a row is runs of Z floats at hashed places, with hashed signs.

    The hash is `annvq.kernels.embeddings.mixing`'s instead of the paper's universal one, so that it takes no bytes.
    Source: Desai et al. 2022, "Random offset block embedding (ROBE) for compressed embedding tables", section 3.

    See `TableMethod` for the parameters of all methods.

    Parameters
    ----------
    Z
        Length of a run, 1 to d.
    seed
        Seed of the hash.

    Raises
    ------
    BudgetError, ParameterError
        The budget is below one float, or arguments are outside their range.

    """

    method: ClassVar[str] = "ROBE"
    has_sparse_gradients: ClassVar[bool] = True
    structure: ClassVar[tuple[str, ...]] = ("Z", "seed")

    def _make(self, budget: Budget, std: float, *, Z: int = 1, seed: int = 0) -> None:
        budget.check(self.method, FLOAT)
        self.Z = as_count("Z", Z, most=budget.d)
        self.seed = as_count("seed", seed, least=0, most=MOST_SEED)
        self.array = normal(min(budget.n * budget.d, budget.bytes // FLOAT, _MOST_FLOATS), 1, std=std)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that are needed at inference."""
        return FLOAT * self.array.numel()

    def rows(self, ids: Tensor) -> Tensor:
        """Return rows (m, d) of ids (m,)."""
        return of_distinct(self._made, ids)

    def _made(self, ids: Tensor) -> Tensor:
        places, signs = self._places(ids[:, None], torch.arange(self.embedding_dim, device=ids.device))
        return gathered(self.array, places, self.sparse)[..., 0] * (2 * signs - 1).to(self.array.dtype)

    def _places(self, ids: Any, columns: Any) -> tuple[Any, Any]:
        """Return places in the array and bits of signs, (m, d), of arrays or tensors."""
        hashed, within = hash_pair(ids, columns // self.Z, self.seed), columns % self.Z
        places = hashed * len(self.array) >> 32
        if self.Z > 1:
            places = (places + within) % len(self.array)
        return places, hashed >> within % 16 & 1

    def form(self) -> Robe:
        """Return the arrays for inference."""
        return Robe(self.num_embeddings, self.embedding_dim, inference_array(self.array[:, 0]), self.Z, self.seed)

    def approximate(self, weight: np.ndarray, *, frequencies: np.ndarray | None = None, seed: int = 0) -> None:
        """Take the mean of the signed values that share a float, weighted by frequency: the least squares."""
        size, counts = len(self.array), weights_of(frequencies, len(weight))
        sums, totals = np.zeros(size), np.zeros(size)
        for start in range(0, len(weight), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            ids = np.arange(len(weight), dtype=np.int64)[part]
            places, signs = self._places(ids[:, None], np.arange(self.embedding_dim))
            share = np.repeat(counts[part], self.embedding_dim)
            values = ((2 * signs - 1) * weight[part]).ravel()
            sums += np.bincount(places.ravel(), weights=share * values, minlength=size)
            totals += np.bincount(places.ravel(), weights=share, minlength=size)
        set_(self.array, sums / np.maximum(totals, 1e-30))
