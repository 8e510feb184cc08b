"""Product quantization of a table."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from annvq.codebooks import ProductCodebook
from annvq.learn.mirrors import ProductMirror
from annvq.learn.runtime import torch
from annvq.tables.budget import Budget
from annvq.tables.code_sizes import CodeSizes, product_sizes
from annvq.tables.coded import Coded, training_sample
from annvq.tables.frozen.codes import ProductCodes, packed
from annvq.tables.table import array_of


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

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that are needed at inference."""
        return self.sizes.product_bytes(self.num_embeddings, self.embedding_dim)

    def form(self) -> ProductCodes:
        """Return the arrays for inference."""
        codes = packed(array_of(self.codes), self.sizes.bits)
        return ProductCodes(self.num_embeddings, self.embedding_dim, codes, array_of(self.mirror.codebooks))

    def approximate(self, weight: np.ndarray, *, frequencies: np.ndarray | None = None, seed: int = 0) -> None:
        """Train the codebook on the rows and code them."""
        rows = training_sample(weight, frequencies, seed)
        self._take(ProductCodebook.train(rows, M=self.sizes.M, nbits=self.sizes.bits, seed=seed, threads=1), weight)


def random_product(sizes: CodeSizes, d: int, std: float) -> ProductMirror:
    """Return a mirror of random centroids, drawn by torch's generator."""
    shape = (sizes.M, sizes.ksub, -(-d // sizes.M))
    return ProductMirror(ProductCodebook((torch.randn(shape) * std).numpy(), d))
