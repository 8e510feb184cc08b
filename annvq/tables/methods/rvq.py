"""Residual quantization of a table."""

from __future__ import annotations

import math
from typing import ClassVar

from annvq.codebooks import ResidualCodebook
from annvq.learn.parts.mirrors import ResidualMirror
from annvq.learn.runtime import torch
from annvq.tables.budget import Budget
from annvq.tables.coding.code_sizes import residual_sizes
from annvq.tables.coding.coded import Coded
from annvq.tables.frozen.codes import ResidualCodes


class RVQ(Coded):
    """Residual codebooks and every row's codes, 4 or 8 bits each, as many stages as the budget allows.

    Source: Chen et al. 2010, "Approximate nearest neighbor search by residual vector quantization".

    Rows are random until `approximate` is called. See `TableMethod` for the parameters of all methods.

    Raises
    ------
    BudgetError, ParameterError
        The budget is below one code per row, or arguments are outside their range.

    """

    method: ClassVar[str] = "RVQ"
    codebook = ResidualCodebook
    kept = ResidualCodes

    def _make(self, budget: Budget, std: float) -> None:
        sizes = residual_sizes(budget, self.method)
        centroids = torch.randn(sizes.M, sizes.ksub, budget.d, device="cpu") * (std / math.sqrt(sizes.M))
        self._hold(sizes, ResidualMirror(ResidualCodebook(centroids.numpy())))
