"""Tensor trains."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from annvq.tables.budget import FLOAT, Budget, most_that_fits
from annvq.tables.frozen.tensor_train import TensorTrain, indices
from annvq.tables.method import TableMethod
from annvq.tables.table import gathered, inference_array, normal, of_distinct, set_

if TYPE_CHECKING:
    from torch import Tensor

_MOST_RANK = 4096


class TTRec(TableMethod):
    """The table as a tensor train of three cores; the budget decides the rank.

    Source: Yin et al. 2021, "TT-Rec: tensor train compression for deep learning recommendation models", section 3;
    the cores of a trained table by Oseledets 2011, "Tensor-train decomposition", algorithm 1.

    See `TableMethod` for the parameters of all methods.

    Raises
    ------
    BudgetError, ParameterError
        The budget is below rank 1, or arguments are outside their range.

    """

    method: ClassVar[str] = "TTRec"
    has_sparse_gradients: ClassVar[bool] = True

    def _make(self, budget: Budget, std: float) -> None:
        self._rows, self._dims = row_factors(budget.n), dim_factors(budget.d)
        budget.check(self.method, self._bytes_of(1))
        most = min(_MOST_RANK, max(self._rows[0] * self._dims[0], self._rows[2] * self._dims[2]))
        self.rank = most_that_fits(lambda rank: self._bytes_of(rank) <= budget.bytes, most)
        n1, n2, n3 = self._rows
        d1, d2, d3 = self._dims
        r, each = self.rank, (std / self.rank) ** (1 / 3)  # rank^2 products of three add up
        self.first = normal(n1, d1 * r, std=each)
        self.middle = normal(n2, r * d2 * r, std=each)
        self.last = normal(n3, r * d3, std=each)

    def _bytes_of(self, rank: int) -> int:
        sizes = [rows * dims for rows, dims in zip(self._rows, self._dims)]
        return FLOAT * rank * (sizes[0] + sizes[1] * rank + sizes[2])

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that are needed at inference."""
        return self._bytes_of(self.rank)

    def rows(self, ids: Tensor) -> Tensor:
        """Return rows (m, d) of ids (m,)."""
        return of_distinct(self._made, ids)

    def _made(self, ids: Tensor) -> Tensor:
        i, j, k = indices(ids, self._rows)
        m, r, (d1, d2, d3) = len(ids), self.rank, self._dims
        rows = gathered(self.first, i, self.sparse).reshape(m, d1, r)
        rows = rows @ gathered(self.middle, j, self.sparse).reshape(m, r, d2 * r)
        rows = rows.reshape(m, d1 * d2, r) @ gathered(self.last, k, self.sparse).reshape(m, r, d3)
        return rows.reshape(m, d1 * d2 * d3)[:, : self.embedding_dim]

    def form(self) -> TensorTrain:
        """Return the arrays for inference."""
        r, (n1, n2, n3), (d1, d2, d3) = self.rank, self._rows, self._dims
        cores = (
            inference_array(self.first).reshape(n1, d1, r),
            inference_array(self.middle).reshape(n2, r, d2, r),
            inference_array(self.last).reshape(n3, r, d3),
        )
        return TensorTrain(self.num_embeddings, self.embedding_dim, *cores)

    def approximate(self, weight: np.ndarray, *, frequencies: np.ndarray | None = None, seed: int = 0) -> None:
        """Cut two singular value decompositions off at the rank."""
        r, (n1, n2, n3), (d1, d2, d3) = self.rank, self._rows, self._dims
        padded = np.zeros((n1 * n2 * n3, d1 * d2 * d3), np.float32)
        padded[: weight.shape[0], : weight.shape[1]] = weight
        tensor = padded.reshape(n1, n2, n3, d1, d2, d3).transpose(0, 3, 1, 4, 2, 5)
        left, rest = _cut(tensor.reshape(n1 * d1, -1), r)
        middle, last = _cut(rest.reshape(r * n2 * d2, n3 * d3), r)
        set_(self.first, left)
        set_(self.middle, middle.reshape(r, n2, d2, r).transpose(1, 0, 2, 3))
        set_(self.last, last.reshape(r, n3, d3).transpose(1, 0, 2))


def _cut(matrix: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Return factors (rows, rank) and (rank, columns) of the best approximation of a matrix of that rank.

    By the eigenvectors of the smaller Gram matrix: one side is much shorter than the other.
    """
    rows, columns = matrix.shape
    wide = matrix if rows <= columns else matrix.T
    gram = wide.astype(np.float64) @ wide.T.astype(np.float64) if wide.size < 1 << 24 else (wide @ wide.T)
    vectors = np.linalg.eigh(gram)[1][:, ::-1][:, :rank]
    short = np.zeros((wide.shape[0], rank))
    short[:, : vectors.shape[1]] = vectors
    long = short.T.astype(np.float32) @ wide
    return (short, long) if rows <= columns else (long.T, short.T)


def row_factors(n: int) -> tuple[int, int, int]:
    """Return three numbers, nearly equal, whose product is not below n."""
    third = math.ceil(round(n ** (1 / 3), 9))
    second = math.ceil(math.sqrt(n / third))
    return -(-n // (third * second)), second, third


def dim_factors(d: int) -> tuple[int, int, int]:
    """Return three numbers whose product is d if they are of similar size, otherwise the least above it."""
    best = row_factors(d)
    for a in range(1, round(d ** (1 / 3)) + 1):
        for b in range(a, math.isqrt(d // a) + 1):
            if d % (a * b) == 0 and d // (a * b) <= 2 * max(best):
                best = (a, b, d // (a * b))
    return best
