"""Differentiable product quantization."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from annvq.codebooks import ProductCodebook
from annvq.errors import ParameterError
from annvq.learn.codes.assignment import hardened
from annvq.learn.codes.deciding import largest_logit
from annvq.learn.parts.mirrors import ProductMirror
from annvq.learn.runtime import torch
from annvq.tables.budget import Budget
from annvq.tables.coding.code_sizes import product_sizes
from annvq.tables.coding.coded import training_sample
from annvq.tables.coding.learned_codes import LearnedCodes
from annvq.tables.frozen.codes import ProductCodes, packed
from annvq.tables.frozen.form import Form
from annvq.tables.table import gathered, inference_array, of_distinct, set_

if TYPE_CHECKING:
    from torch import Tensor

MODES = ("vq", "sx")


class DPQ(LearnedCodes):
    """Product codes learned with the model.

    "vq" takes the nearest centroid; "sx" takes the centroid of the largest inner product with a key, its gradient
    that of the softmax, and the row is made of values that are not the keys. Source: Chen et al. 2020,
    "Differentiable product quantization for end-to-end embedding compression", sections 2.2 and 2.3.

    Parameters
    ----------
    std
        Initial standard deviation of the rows.
    mode
        "vq" or "sx".

    Raises
    ------
    BudgetError, ParameterError
        The budget is below one code per row, or arguments are outside their range.

    """

    method: ClassVar[str] = "DPQ"
    structure: ClassVar[tuple[str, ...]] = ("mode",)

    def _make(self, budget: Budget, std: float, *, mode: str = "vq") -> None:
        if mode not in MODES:
            raise ParameterError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
        self._learn(budget, product_sizes(budget, self.method), std)
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
        return self.values.mix(hardened(torch.softmax(self._products(query), 2), codes))

    def form(self) -> Form:
        """Return the arrays for inference."""
        values = self.mirror if self.values is None else self.values
        codes = packed(self.codes(), self.sizes.nbits)
        return ProductCodes(self.num_embeddings, self.embedding_dim, codes, inference_array(values.codebooks))

    def approximate(self, weight: np.ndarray, *, frequencies: np.ndarray | None = None, seed: int = 0) -> None:
        """Take the rows, and a codebook trained on them."""
        if self.values is not None:
            raise ParameterError("keys of mode 'sx' are learned with the model: expected mode 'vq'")
        set_(self.query, weight)
        rows = training_sample(weight, frequencies, seed)
        trained = ProductCodebook.train(rows, M=self.sizes.M, nbits=self.sizes.nbits, seed=seed, threads=1)
        set_(self.mirror.codebooks, trained.codebooks)
