"""Product quantization of a table."""

from __future__ import annotations

from typing import ClassVar

from annvq.codebooks import ProductCodebook
from annvq.learn.parts.mirrors import ProductMirror
from annvq.learn.runtime import torch
from annvq.tables.budget import Budget
from annvq.tables.coding.code_sizes import CodeSizes, product_sizes
from annvq.tables.coding.coded import Coded
from annvq.tables.frozen.codes import ProductCodes


class PQ(Coded):
    """A product codebook and every row's codes, 4 or 8 bits each, as many as the budget allows.

    Source: Jegou et al. 2011, "Product quantization for nearest neighbor search".

    Rows are random until `approximate` is called. See `TableMethod` for the parameters of all methods.

    Raises
    ------
    BudgetError, ParameterError
        The budget is below one code per row, or arguments are outside their range.

    """

    method: ClassVar[str] = "PQ"
    codebook = ProductCodebook
    kept = ProductCodes

    def _make(self, budget: Budget, std: float) -> None:
        sizes = product_sizes(budget, self.method)
        self._hold(sizes, random_product(sizes, budget.d, std))


def random_product(sizes: CodeSizes, d: int, std: float) -> ProductMirror:
    """Return a mirror of random centroids, drawn by torch's generator."""
    shape = (sizes.M, sizes.ksub, -(-d // sizes.M))
    return ProductMirror(ProductCodebook((torch.randn(shape, device="cpu") * std).numpy(), d))
