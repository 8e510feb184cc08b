"""LatentQuantizer: a codebook of a few scalars for each dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING

from annvq.arguments import as_weight
from annvq.learn.runtime import torch
from annvq.tokenizers.projection import least_dtype
from annvq.tokenizers.quantized import Quantized
from annvq.tokenizers.tokenizer import Tokenizer
from annvq.tokenizers.training.estimators import straight_through
from annvq.tokenizers.training.losses import squared_error

if TYPE_CHECKING:
    from torch import Tensor


class LatentQuantizer(Tokenizer):
    """Disentanglement via latent quantization (Hsu et al. 2023).

    Dimension i has its own scalars v_i1 to v_ik, which gradients move; codes are (..., dim), one per dimension. Of two
    equally near values, the first is taken.

    Parameters
    ----------
    dim
        Dimension of the vectors.
    codebook_size
        k, the number of scalars per dimension; they start evenly spaced from -1/2 to 1/2.
    quantization, commitment
        Weights of mean |sg(z) - z_q|^2, which moves the scalars, and of mean |z - sg(z_q)|^2; at least 0.

    Examples
    --------
    >>> import torch
    >>> quantizer = annvq.tokenizers.LatentQuantizer(32, 8)
    >>> z = torch.randn(2, 200, 32)
    >>> z_q, codes, loss, stats = quantizer(z)
    >>> codes.shape
    torch.Size([2, 200, 32])

    """

    def __init__(self, dim: int, codebook_size: int, *, quantization: float = 0.01, commitment: float = 0.01) -> None:
        super().__init__(dim, codebook_size, num_codebooks=dim)
        self.quantization = as_weight("quantization", quantization)
        self.commitment = as_weight("commitment", commitment)
        self.values = torch.nn.Parameter(torch.linspace(-0.5, 0.5, self.codebook_size).repeat(self.dim, 1))

    def quantize(self, rows: Tensor) -> Quantized:
        """Quantize rows (n, dim); see `Tokenizer`."""
        codes = self.assign(rows)
        q = self._values_of(codes).to(rows.dtype)
        commitment = squared_error(rows, q.detach())
        loss = self.commitment * commitment + self.quantization * squared_error(rows.detach(), q)
        return Quantized(straight_through(rows, q), codes, loss, {"commitment": commitment})

    @torch.no_grad()
    def assign(self, rows: Tensor) -> Tensor:
        """Return the codes (n, dim) of rows (n, dim)."""
        best = torch.full_like(rows, torch.inf)
        codes = torch.zeros_like(rows, dtype=torch.int64)
        for code, value in enumerate(self.values.to(rows.dtype).T):  # one at a time: no n x dim x k
            distance = (rows - value).abs()
            codes = torch.where(distance < best, code, codes)
            best = torch.minimum(distance, best)
        return codes

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the rows (n, dim) of codes (n, dim); the value of a code -1 is 0."""
        values = self._values_of(codes.clamp_min(0))
        return values.to(least_dtype(values)) * (codes >= 0)

    def _values_of(self, codes: Tensor) -> Tensor:
        return self.values[torch.arange(self.dim, device=codes.device), codes]
