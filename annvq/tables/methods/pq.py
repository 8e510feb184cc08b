"""Product quantization of a table."""

from __future__ import annotations

from typing import ClassVar

from annvq.codebooks import ProductCodebook
from annvq.learn.mirrors import ProductMirror
from annvq.learn.runtime import torch
from annvq.tables.budget import Budget
from annvq.tables.coding.code_sizes import CodeSizes, product_sizes
from annvq.tables.coding.coded import Coded
from annvq.tables.frozen.codes import ProductCodes


class PQ(Coded):
    """A product codebook and every row's codes, 4 or 8 bits each, as many as the budget allows.

    Source: Jegou et al. 2011, "Product quantization for nearest neighbor search".

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

    method: ClassVar[str] = "PQ"
    codebook = ProductCodebook
    kept = ProductCodes

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
        sizes = product_sizes(budget, self.method)
        super().__init__(budget, padding_idx, sparse, sizes, random_product(sizes, budget.d, std))


def random_product(sizes: CodeSizes, d: int, std: float) -> ProductMirror:
    """Return a mirror of random centroids, drawn by torch's generator."""
    shape = (sizes.M, sizes.ksub, -(-d // sizes.M))
    return ProductMirror(ProductCodebook((torch.randn(shape, device="cpu") * std).numpy(), d))
