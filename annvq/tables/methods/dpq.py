"""Differentiable product quantization."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from annvq.codebooks import ProductCodebook
from annvq.errors import ParameterError
from annvq.learn.assignment import straight_through
from annvq.learn.deciding import largest_logit
from annvq.learn.mirrors import ProductMirror
from annvq.learn.runtime import torch
from annvq.tables.budget import Budget
from annvq.tables.coding.code_sizes import CodeSizes, product_sizes
from annvq.tables.coding.coded import training_sample
from annvq.tables.coding.precision import through
from annvq.tables.frozen.codes import ProductCodes, packed
from annvq.tables.frozen.form import Form
from annvq.tables.table import Table, array_of, gathered, normal, of_distinct, set_

if TYPE_CHECKING:
    from torch import Tensor

MODES = ("vq", "sx")
_WAITING = 16  # look-ups whose penalty may still be asked for
_ROWS_AT_ONCE = 2048


class Quantized(Table):
    """Rows that are quantized while they are learned: float32 rows exist in training only.

    The gradient of a row reaches its float32 row as if it were not quantized; centroids come to the rows by
    `penalty`, the mean squared distance of the rows looked up from their centroids.

    Parameters
    ----------
    budget, padding_idx, sparse
        As of `Table`.
    sizes
        Codes a row and bits.
    std
        Standard deviation of the rows at the start.

    """

    has_sparse_gradients: ClassVar[bool] = True

    def __init__(self, budget: Budget, padding_idx: int | None, sparse: bool, sizes: CodeSizes, std: float) -> None:
        super().__init__(budget, padding_idx, sparse)
        self.sizes = sizes
        self.query = normal(budget.n, budget.d, std=std)
        some = self.query[torch.randint(budget.n, (max(2 * sizes.ksub, 256),))]
        # centroids begin as sub-vectors of some rows, which the meta device has not
        rows = np.zeros(some.shape, np.float32) if some.is_meta else array_of(some)
        self.mirror = ProductMirror(ProductCodebook.train(rows, M=sizes.M, nbits=sizes.bits, niter=0, threads=1))
        self._penalties: deque[Tensor] = deque(maxlen=_WAITING)

    def nearest(self, query: Tensor, ids: Tensor) -> Tensor:
        """Return the codes (m, M) of float32 rows (m, d) of ids (m,)."""
        return self.mirror.nearest(query)

    def rows(self, ids: Tensor) -> Tensor:
        """Return rows (m, d) of ids (m,)."""
        query = gathered(self.query, ids, self.sparse)
        decoded = self.mirror.decode(of_distinct(self._codes_of, ids))
        if self.training and torch.is_grad_enabled():
            self._penalties.append((decoded - query.detach()).square().mean())
        return through(decoded, query)

    @torch.no_grad()
    def _codes_of(self, ids: Tensor) -> Tensor:
        return self.nearest(self.query[ids], ids)

    def penalty(self) -> Tensor | float:
        """Return the mean squared distances of rows from their centroids, of the look-ups since the last call."""
        total = sum(self._penalties)
        self._penalties.clear()
        return total

    def codes(self) -> np.ndarray:
        """Return the codes (n, M) uint8 of all rows."""
        codes = np.empty((self.num_embeddings, self.sizes.M), np.uint8)
        for start in range(0, len(codes), _ROWS_AT_ONCE):
            ids = torch.arange(start, min(start + _ROWS_AT_ONCE, len(codes)), device=self.query.device)
            codes[start : start + len(ids)] = self._codes_of(ids).cpu().numpy()
        return codes

    def __getstate__(self) -> dict:
        """Return what copying takes along: not the graph of past look-ups."""
        return {**self.__dict__, "_penalties": deque(maxlen=_WAITING)}


class DPQ(Quantized):
    """Product codes learned with the model.

    "vq" takes the nearest centroid; "sx" takes the centroid of the largest inner product with a key, its gradient
    that of the softmax, and the row is made of values that are not the keys. Source: Chen et al. 2020,
    "Differentiable product quantization for end-to-end embedding compression", sections 2.2 and 2.3.

    Parameters
    ----------
    num_embeddings, embedding_dim
        Rows and dimension.
    ratio, bytes
        The budget, one of them.
    padding_idx, sparse
        As of nn.Embedding.
    std
        Standard deviation of the rows at the start.
    mode
        "vq" or "sx".

    Raises
    ------
    BudgetError, ParameterError
        A budget below one code a row; arguments outside their range.

    """

    method: ClassVar[str] = "DPQ"
    structure: ClassVar[tuple[str, ...]] = ("mode",)

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
        mode: str = "vq",
    ) -> None:
        if mode not in MODES:
            raise ParameterError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
        budget = Budget.of(num_embeddings, embedding_dim, ratio, bytes)
        super().__init__(budget, padding_idx, sparse, product_sizes(budget, self.method), std)
        self.mode = mode
        self.values = ProductMirror(self.mirror.to_codebook()) if mode == "sx" else None

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that are needed at inference."""
        return self.sizes.product_bytes(self.num_embeddings, self.embedding_dim)

    def nearest(self, query: Tensor, ids: Tensor) -> Tensor:
        """Return the codes (m, M) of float32 rows (m, d) of ids (m,)."""
        if self.values is None:
            return super().nearest(query, ids)
        return largest_logit(self.mirror.parts(query).transpose(0, 1), self.mirror.codebooks).T

    def _products(self, query: Tensor) -> Tensor:
        """Return inner products (m, M, ksub) of sub-rows with keys."""
        with torch.autocast(query.device.type, enabled=False):
            return torch.einsum("nmd,mkd->nmk", self.mirror.parts(query), self.mirror.codebooks)

    def rows(self, ids: Tensor) -> Tensor:
        """Return rows (m, d) of ids (m,)."""
        if self.values is None:
            return super().rows(ids)
        query = gathered(self.query, ids, self.sparse)
        if not (self.training and torch.is_grad_enabled()):
            return self.values.decode(of_distinct(self._codes_of, ids))
        codes = self.nearest(query.detach(), ids)
        return self.values.mix(straight_through(torch.softmax(self._products(query), 2), codes))

    def form(self) -> Form:
        """Return the arrays for inference."""
        values = self.mirror if self.values is None else self.values
        codes = packed(self.codes(), self.sizes.bits)
        return ProductCodes(self.num_embeddings, self.embedding_dim, codes, array_of(values.codebooks))

    def approximate(self, weight: np.ndarray, *, frequencies: np.ndarray | None = None, seed: int = 0) -> None:
        """Take the rows, and a codebook trained on them."""
        if self.values is not None:
            raise ParameterError("keys of mode 'sx' are learned with the model: expected mode 'vq'")
        set_(self.query, weight)
        rows = training_sample(weight, frequencies, seed)
        trained = ProductCodebook.train(rows, M=self.sizes.M, nbits=self.sizes.bits, seed=seed, threads=1)
        set_(self.mirror.codebooks, trained.codebooks)
