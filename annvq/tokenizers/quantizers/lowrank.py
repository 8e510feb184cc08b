"""LowRankVQ: clustering in a learned subspace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from annvq.arguments import as_count, as_weight
from annvq.codebooks import KMeans
from annvq.learn.runtime import torch
from annvq.tokenizers.quantized import Quantized
from annvq.tokenizers.quantizers.vector import VectorQuantizer
from annvq.tokenizers.tokenizer import Tokenizer, array_of_table
from annvq.tokenizers.training.learning import PLAIN, Learning
from annvq.tokenizers.training.losses import squared_error

if TYPE_CHECKING:
    from torch import Tensor


class LowRankVQ(Tokenizer):
    """A codebook of low rank, clustered in its subspace (after Zhu, Zhou and Zhong 2022 (LR2VQ)).

    z_q = b + B c with an orthonormal basis B (dim, rank) and codes c, so that the code nearest in the subspace is
    nearest in the whole space. The basis follows the part of the vectors that lies outside it, as principal components
    do, and the task's gradient.

    Parameters
    ----------
    dim, codebook_size
        Dimension of the vectors, and number of codes.
    rank
        Rank of the codebook, 1 to dim; None: a quarter of dim, at least 1.
    learning
        How the codes are learned, in the subspace.
    subspace
        Weight of the squared error outside the subspace, which moves B and b, at least 0.

    Examples
    --------
    >>> import torch
    >>> quantizer = annvq.tokenizers.LowRankVQ(32, 256, rank=8)
    >>> z = torch.randn(2, 200, 32)
    >>> z_q, codes, loss, stats = quantizer(z)
    >>> codes.shape
    torch.Size([2, 200])

    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        rank: int | None = None,
        learning: Learning = PLAIN,
        *,
        subspace: float = 1.0,
    ) -> None:
        super().__init__(dim, codebook_size)
        self.rank = as_count("rank", max(1, self.dim // 4) if rank is None else rank, most=self.dim)
        self.subspace = as_weight("subspace", subspace)
        self.directions = torch.nn.Parameter(torch.randn(self.dim, self.rank))
        self.center = torch.nn.Parameter(torch.zeros(self.dim))
        self.codes = VectorQuantizer(self.rank, codebook_size, learning)
        self.commitment = learning.commitment

    def basis(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return B (dim, rank), whose columns are orthonormal."""
        return torch.linalg.qr(self.directions.to(dtype)).Q

    def quantize(self, rows: Tensor) -> Quantized:
        """Quantize rows (n, dim); see `Tokenizer`."""
        basis, center = self.basis(rows.dtype), self.center.to(rows.dtype)
        q, codes, loss, stats = self.codes.quantize((rows - center) @ basis)
        fixed_basis, fixed_center = basis.detach(), center.detach()
        stats["outside"] = _outside(rows.detach(), basis, center)
        loss = loss + self.subspace * stats["outside"]
        loss = loss + self.commitment * _outside(rows, fixed_basis, fixed_center)
        return Quantized(q @ basis.T + center, codes, loss, stats)

    def assign(self, rows: Tensor) -> Tensor:
        """Return the nearest codes (n,) of rows (n, dim)."""
        return self.codes.assign((rows - self.center.to(rows.dtype)) @ self.basis(rows.dtype))

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the rows (n, dim) of codes (n,); the row of a code -1 is 0."""
        q = self.codes.lookup(codes)
        return (q @ self.basis(q.dtype).T + self.center.to(q.dtype)) * (codes >= 0)[:, None]

    def to_codebook(self) -> KMeans:
        """Return the codes in the whole space as k-means' centroids."""
        return KMeans(array_of_table(self.column_tables()[0]))


def _outside(rows: Tensor, basis: Tensor, center: Tensor) -> Tensor:
    """Return the mean squared error of rows from the subspace."""
    moved = rows - center
    return squared_error(moved, moved @ basis @ basis.T)
