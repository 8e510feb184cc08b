"""Residual quantization of a table."""

from __future__ import annotations

import math
from typing import ClassVar

from annvq.codebooks import ResidualCodebook
from annvq.learn.mirrors import ResidualMirror
from annvq.learn.runtime import torch
from annvq.tables.budget import Budget
from annvq.tables.coding.code_sizes import residual_sizes
from annvq.tables.coding.coded import Coded
from annvq.tables.frozen.codes import ResidualCodes


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
    codebook = ResidualCodebook
    kept = ResidualCodes

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
        centroids = torch.randn(sizes.M, sizes.ksub, budget.d, device="cpu") * (std / math.sqrt(sizes.M))
        super().__init__(budget, padding_idx, sparse, sizes, ResidualMirror(ResidualCodebook(centroids.numpy())))
