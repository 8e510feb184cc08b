"""BinaryQuantizer: bits drawn from Bernoulli distributions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from annvq.learn.runtime import torch
from annvq.tokenizers.codes.bits import number_of
from annvq.tokenizers.quantized import Quantized
from annvq.tokenizers.quantizers.bit_tokenizer import BitTokenizer
from annvq.tokenizers.training.estimators import straight_through

if TYPE_CHECKING:
    from torch import Tensor


class BinaryQuantizer(BitTokenizer):
    """Bernoulli codes (Wang et al. 2023, "Binary Latent Diffusion").

    With y = sigmoid(z), a bit is 1 with probability y in training, and if y > 1/2 in eval mode. z_q is the bits, 0 or
    1, with the gradient of y, which is that of their expectation.

    Parameters
    ----------
    dim
        Dimension of the vectors; if it is not K, linear maps project to K dimensions and back.
    codebook_size
        2^K.

    Examples
    --------
    >>> import torch
    >>> quantizer = annvq.tokenizers.BinaryQuantizer(32, 1024)
    >>> z = torch.randn(2, 200, 32)
    >>> z_q, codes, loss, stats = quantizer(z)
    >>> codes.shape
    torch.Size([2, 200])

    """

    @property
    def levels(self) -> tuple[float, float]:
        """The numbers of a bit 0 and of a bit 1."""
        return 0.0, 1.0

    def quantize(self, rows: Tensor) -> Quantized:
        """Quantize rows (n, dim); see `Tokenizer`."""
        chances = self.projection.down(rows).sigmoid()
        bits = (torch.rand_like(chances) if self.training else 0.5) < chances.detach()
        z_q = self.projection.up(straight_through(chances, bits.to(chances.dtype)))
        return Quantized(z_q, number_of(bits), rows.new_zeros(()), {})

    def assign(self, rows: Tensor) -> Tensor:
        """Return the codes (n,) of rows (n, dim)."""
        return number_of(self.projection.down(rows).sigmoid() > 0.5)
