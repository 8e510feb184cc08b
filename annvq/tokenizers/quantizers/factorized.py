"""FactorizedVQ: a large codebook factorized into several small ones that capture different features."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from annvq.arguments import as_count, as_weight
from annvq.codebooks import ProductCodebook
from annvq.learn.runtime import torch
from annvq.tokenizers.projection import linear
from annvq.tokenizers.quantized import Quantized
from annvq.tokenizers.quantizers.product import product_of
from annvq.tokenizers.quantizers.split import assign_parts, lookup_parts, quantize_parts, width_of
from annvq.tokenizers.quantizers.vector import VectorQuantizer
from annvq.tokenizers.tokenizer import Tokenizer
from annvq.tokenizers.training.learning import PLAIN, Learning

if TYPE_CHECKING:
    from torch import Tensor


class FactorizedVQ(Tokenizer):
    """Independent sub-codebooks behind adapters (Bai et al. 2024 (FQGAN)).

    Each of M adapters, a linear map, sees the whole vector and projects it to dim / M dimensions, which a
    `VectorQuantizer` of its own quantizes; z_q is their concatenation. Adapters are pushed apart by a loss, the mean
    squared inner product of each pair of parts of z_q, whose gradient passes the estimator.

    Parameters
    ----------
    dim, codebook_size
        Dimension of the vectors, and number of codes of each sub-codebook.
    num_codebooks
        M, which divides dim.
    learning
        How each sub-codebook is learned.
    disentanglement
        Weight of this regularization, at least 0.

    Examples
    --------
    >>> import torch
    >>> quantizer = annvq.tokenizers.FactorizedVQ(32, 64, num_codebooks=2)
    >>> z = torch.randn(2, 200, 32)
    >>> z_q, codes, loss, stats = quantizer(z)
    >>> codes.shape
    torch.Size([2, 200, 2])

    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        num_codebooks: int,
        learning: Learning = PLAIN,
        *,
        disentanglement: float = 0.1,
    ) -> None:
        super().__init__(dim, codebook_size, as_count("num_codebooks", num_codebooks))
        self.disentanglement = as_weight("disentanglement", disentanglement)
        width = width_of(self.dim, num_codebooks, "num_codebooks")
        self.adapters = torch.nn.ModuleList(torch.nn.Linear(self.dim, width) for _ in range(num_codebooks))
        self.parts = torch.nn.ModuleList(VectorQuantizer(width, codebook_size, learning) for _ in range(num_codebooks))

    def quantize(self, rows: Tensor) -> Quantized:
        """Quantize rows (n, dim); see `Tokenizer`."""
        z_q, codes, loss, stats = quantize_parts(self.parts, self._adapted(rows))
        pairs = list(combinations(z_q.chunk(len(self.parts), 1), 2))
        overlaps = [(one * other).sum(1).square().sum() / max(1, len(rows)) for one, other in pairs]
        if overlaps:
            stats["disentanglement"] = torch.stack(overlaps).mean()
            loss = loss + self.disentanglement * stats["disentanglement"]
        return Quantized(z_q, codes, loss, stats)

    def assign(self, rows: Tensor) -> Tensor:
        """Return the codes (n, M) of rows (n, dim)."""
        return assign_parts(self.parts, self._adapted(rows))

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the rows (n, dim) of codes (n, M); the part of a code -1 is 0."""
        return lookup_parts(self.parts, codes.unbind(1))

    def to_codebook(self) -> ProductCodebook:
        """Return the codes as a product codebook of z_q, which lives in the adapters' output space, not in z's.

        Its decode is this quantizer's; sub-codebooks have 16 or 256 codes (ParameterError for others).
        """
        return product_of([part.codes_table() for part in self.parts])

    def _adapted(self, rows: Tensor) -> list[Tensor]:
        return [linear(rows, adapter) for adapter in self.adapters]
