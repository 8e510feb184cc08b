"""Residual quantization of a table."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from annvq.codebooks import ResidualCodebook
from annvq.learn.mirrors import ResidualMirror
from annvq.learn.runtime import torch
from annvq.tables.budget import Budget
from annvq.tables.code_sizes import residual_sizes
from annvq.tables.coded import Coded, training_sample
from annvq.tables.frozen.codes import ResidualCodes, packed
from annvq.tables.table import array_of


class RVQ(Coded):
    """Residual codebooks and every row's codes, 4 or 8 bits each, as many stages as the budget allows.

    Source: Chen et al. 2010, "Approximate nearest neighbor search by residual vector quantization".

    Parameters
    ----------
    num_embeddings, embedding_dim
        Rows and dimension.
    ratio, bytes
        The budget, one of them.
    padding_idx
        As of nn.Embedding.
    std
        Standard deviation of the rows at the start, which are random until `approximate` is called.

    Raises
    ------
    BudgetError, ParameterError
        A budget below one code a row; arguments outside their range.

    """

    method: ClassVar[str] = "RVQ"

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
    ) -> None:
        budget = Budget.of(num_embeddings, embedding_dim, ratio, bytes)
        sizes = residual_sizes(budget, self.method)
        centroids = torch.randn(sizes.M, sizes.ksub, budget.d) * (std / math.sqrt(sizes.M))
        super().__init__(budget, padding_idx, sparse, sizes, ResidualMirror(ResidualCodebook(centroids.numpy())))

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that are needed at inference."""
        return self.sizes.residual_bytes(self.num_embeddings, self.embedding_dim)

    def form(self) -> ResidualCodes:
        """Return the arrays for inference."""
        codes = packed(array_of(self.codes), self.sizes.bits)
        return ResidualCodes(self.num_embeddings, self.embedding_dim, codes, array_of(self.mirror.codebooks))

    def approximate(self, weight: np.ndarray, *, frequencies: np.ndarray | None = None, seed: int = 0) -> None:
        """Train the codebooks on the rows and code them."""
        rows = training_sample(weight, frequencies, seed)
        self._take(ResidualCodebook.train(rows, M=self.sizes.M, nbits=self.sizes.bits, seed=seed, threads=1), weight)
