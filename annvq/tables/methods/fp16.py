"""Half precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from annvq.tables.budget import Budget
from annvq.tables.coding.precision import as_half, through
from annvq.tables.frozen.gather import Hashed
from annvq.tables.method import TableMethod
from annvq.tables.table import gathered, inference_array, normal, set_

if TYPE_CHECKING:
    from torch import Tensor

_HALF = 2


class FP16(TableMethod):
    """Rows are float16 at inference; during training, float32 rows are rounded at every look-up.

    See `TableMethod` for the parameters of all methods; without a budget it takes half of float32.

    Raises
    ------
    BudgetError, ParameterError
        The budget is below half of float32, or arguments are outside their range.

    """

    method: ClassVar[str] = "FP16"
    has_sparse_gradients: ClassVar[bool] = True

    @classmethod
    def _natural(cls, n: int, d: int, **options: Any) -> int:
        return _bytes(n, d)

    def _make(self, budget: Budget, std: float) -> None:
        budget.check(self.method, _bytes(budget.n, budget.d))
        self.weight = normal(budget.n, budget.d, std=std)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that are needed at inference."""
        return _HALF * self.weight.numel()

    def rows(self, ids: Tensor) -> Tensor:
        """Return rows (m, d) of ids (m,)."""
        found = gathered(self.weight, ids, self.sparse)
        return through(as_half(found), found)

    def form(self) -> Hashed:
        """Return the arrays for inference."""
        return Hashed(self.num_embeddings, self.embedding_dim, inference_array(as_half(self.weight), np.float16))

    def approximate(self, weight: np.ndarray, *, frequencies: np.ndarray | None = None, seed: int = 0) -> None:
        """Take the rows as they are."""
        set_(self.weight, weight)


def _bytes(n: int, d: int) -> int:
    return _HALF * n * d
