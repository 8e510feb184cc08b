"""Rows that are quantized while they are learned: what DPQ and MGQE share."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from annvq.codebooks import ProductCodebook
from annvq.learn.parts.mirrors import ProductMirror
from annvq.learn.runtime import torch
from annvq.tables.budget import Budget
from annvq.tables.coding.code_sizes import CodeSizes
from annvq.tables.coding.precision import through
from annvq.tables.method import TableMethod
from annvq.tables.table import gathered, inference_array, normal, of_distinct

if TYPE_CHECKING:
    from torch import Tensor

_WAITING = 16  # look-ups whose penalty may still be asked for
_ROWS_AT_ONCE = 2048


class LearnedCodes(TableMethod):
    """Rows that are quantized while they are learned: float32 rows exist in training only.

    The gradient passes the quantization straight through to the float32 row; `penalty`, the mean squared distance of
    the rows looked up from their centroids, draws the centroids towards the rows.

    See `TableMethod` for the parameters of all methods.
    """

    has_sparse_gradients: ClassVar[bool] = True

    def _learn(self, budget: Budget, sizes: CodeSizes, std: float) -> None:
        """Draw float32 rows, and centroids from them, for codes of these sizes."""
        self.sizes = sizes
        self.query = normal(budget.n, budget.d, std=std)
        some = self.query[torch.randint(budget.n, (max(2 * sizes.ksub, 256),))]
        # centroids start as sub-vectors of some rows, which the meta device does not have
        rows = np.zeros(some.shape, np.float32) if some.is_meta else inference_array(some)
        self.mirror = ProductMirror(ProductCodebook.train(rows, M=sizes.M, nbits=sizes.nbits, niter=0, threads=1))
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
        """Return the state for copying, without the graph of past look-ups."""
        return {**self.__dict__, "_penalties": deque(maxlen=_WAITING)}
