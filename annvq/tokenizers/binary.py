"""BinaryQuantizer: bits drawn from Bernoulli distributions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from annvq.learn.runtime import torch
from annvq.tokenizers.bits import bit_columns, bit_tables, bits_in, bits_of_number, column_bits, number_of
from annvq.tokenizers.estimators import straight_through
from annvq.tokenizers.projection import Projection
from annvq.tokenizers.quantized import Quantized
from annvq.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor


class BinaryQuantizer(Tokenizer):
    """Bernoulli codes (Wang et al. 2023, "Binary Latent Diffusion").

    y = sigmoid(z); in training a bit is 1 with probability y, in eval mode where y > 1/2. z_q is the bits, 0 or 1,
    with the gradient of y, which is that of their expectation.

    Parameters
    ----------
    dim
        Dimension of the vectors; where it is not K, linear maps lead there and back.
    codebook_size
        2^K.

    """

    def __init__(self, dim: int, codebook_size: int) -> None:
        self.bits = bits_in(codebook_size)
        super().__init__(dim, codebook_size)
        self.projection = Projection(self.dim, self.bits)

    def quantize(self, rows: Tensor) -> Quantized:
        """Quantize rows (n, dim); see `Tokenizer`."""
        chances = self.projection.down(rows).sigmoid()
        bits = (torch.rand_like(chances) if self.training else 0.5) < chances.detach()
        z_q = self.projection.up(straight_through(chances, bits.to(chances.dtype)))
        return Quantized(z_q, number_of(bits), rows.new_zeros(()), {})

    def assign(self, rows: Tensor) -> Tensor:
        """Return the codes (n,) of rows (n, dim)."""
        return number_of(self.projection.down(rows).sigmoid() > 0.5)

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the rows (n, dim) of codes (n,); 0 where one is -1."""
        bits = bits_of_number(codes.clamp_min(0), self.bits).to(self.projection.dtype)
        return self.projection.up(bits) * (codes >= 0)[:, None]

    @property
    def column_size(self) -> int:
        """2 to the number of bits that are searched together."""
        return 1 << column_bits(self.bits)

    def code_columns(self, codes: Tensor) -> Tensor:
        """Return groups of up to 8 bits as columns (n, C) of codes (n,)."""
        return bit_columns(codes, self.bits)

    @torch.no_grad()
    def column_tables(self) -> list[Tensor]:
        """Return a table (k, dim) for each group of bits."""
        values = torch.tensor([0.0, 1.0], device=self._device())
        return self.projection.up_tables(bit_tables(values, self.bits))
