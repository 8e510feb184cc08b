"""ProductVQ: several heads, one codebook per run of dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from annvq.arguments import as_count
from annvq.codebooks import ProductCodebook
from annvq.errors import ParameterError
from annvq.learn.runtime import torch
from annvq.tokenizers.kinds import check_kind
from annvq.tokenizers.quantized import Quantized
from annvq.tokenizers.quantizers.split import assign_parts, lookup_parts, quantize_parts, width_of
from annvq.tokenizers.quantizers.vector import VectorQuantizer
from annvq.tokenizers.tokenizer import Tokenizer, array_of_table
from annvq.tokenizers.training.learning import PLAIN, Learning

if TYPE_CHECKING:
    from torch import Tensor


class ProductVQ(Tokenizer):
    """Heads with a `VectorQuantizer` each, or one for all (Jegou et al. 2011; Baevski et al. 2020 (vq-wav2vec)).

    Parameters
    ----------
    dim, codebook_size
        Dimension of the vectors, and number of codes of each codebook.
    num_codebooks
        M, which divides dim: head m quantizes dimensions m dim / M to (m + 1) dim / M.
    learning
        How each codebook is learned.
    shared
        Whether all heads have the same codebook.

    Examples
    --------
    >>> import torch
    >>> quantizer = annvq.tokenizers.ProductVQ(32, 64, num_codebooks=4)
    >>> z = torch.randn(2, 200, 32)
    >>> z_q, codes, loss, stats = quantizer(z)
    >>> codes.shape
    torch.Size([2, 200, 4])

    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        num_codebooks: int,
        learning: Learning = PLAIN,
        *,
        shared: bool = False,
    ) -> None:
        super().__init__(dim, codebook_size, as_count("num_codebooks", num_codebooks))
        self.heads = num_codebooks
        width = width_of(self.dim, self.heads, "num_codebooks")
        count = 1 if shared else self.heads
        self.parts = torch.nn.ModuleList(VectorQuantizer(width, codebook_size, learning) for _ in range(count))

    @property
    def is_shared(self) -> bool:
        """Whether all of several heads have the same codebook."""
        return len(self.parts) < self.heads

    def quantize(self, rows: Tensor) -> Quantized:
        """Quantize rows (n, dim); see `Tokenizer`."""
        if not self.is_shared:
            return quantize_parts(self.parts, rows.chunk(self.heads, 1))
        z_q, codes, loss, stats = self._only.quantize(rows.reshape(-1, self._only.dim))
        return Quantized(z_q.reshape(rows.shape), codes.reshape(-1, self.heads), loss, stats)

    def assign(self, rows: Tensor) -> Tensor:
        """Return the codes (n, M) of rows (n, dim)."""
        if not self.is_shared:
            return assign_parts(self.parts, rows.chunk(self.heads, 1))
        return self._only.assign(rows.reshape(-1, self._only.dim)).reshape(-1, self.heads)

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the rows (n, dim) of codes (n, M); the part of a code -1 is 0."""
        if not self.is_shared:
            return lookup_parts(self.parts, codes.unbind(1))
        return self._only.lookup(codes.reshape(-1)).reshape(-1, self.dim)

    @property
    def _only(self) -> VectorQuantizer:
        return self.parts[0]  # pyright: ignore[reportReturnType]

    @classmethod
    def from_codebook(cls, codebook: ProductCodebook, learning: Learning = PLAIN) -> ProductVQ:
        """Return a quantizer that starts at a product codebook, whose dimension is M * dsub (ParameterError)."""
        check_kind("codebook", codebook, ProductCodebook)
        M, ksub, dsub = codebook.codebooks.shape
        if codebook.dim != M * dsub:
            raise ParameterError(f"a product codebook of dimension {codebook.dim}, expected M x dsub = {M * dsub}")
        made = cls(codebook.dim, ksub, M, learning)
        for part, codes in zip(made.parts, codebook.codebooks):
            part.set_codes(codes)
        return made

    def to_codebook(self) -> ProductCodebook:
        """Return the codes as a product codebook, which has 16 or 256 centroids (ParameterError for others)."""
        return product_of([part.codes_table() for part in self.parts] * (self.heads // len(self.parts)))


def product_of(tables: list[Tensor]) -> ProductCodebook:
    """Return tables (k, dsub) of codes as one product codebook; k is 16 or 256 (ParameterError)."""
    check_scannable(len(tables[0]))
    codebooks = np.stack([array_of_table(table) for table in tables])
    codebooks.flags.writeable = False
    return ProductCodebook(codebooks, codebooks.shape[0] * codebooks.shape[2])


def check_scannable(codebook_size: int) -> None:
    """Raise a ParameterError if `annvq.codebooks` has no codebooks of this size."""
    if codebook_size not in (16, 256):
        raise ParameterError(f"product and residual codebooks have 16 or 256 codes each, this has {codebook_size}")
