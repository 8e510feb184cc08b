"""What quantizers whose codes are bits have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from annvq.learn.runtime import torch
from annvq.tokenizers.codes.bits import bit_columns, bit_tables, bits_in, bits_of_number, column_bits
from annvq.tokenizers.projection import Projection
from annvq.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor


class BitTokenizer(Tokenizer):
    """A code of K bits, each of which is one of two numbers in its dimension.

    Parameters
    ----------
    dim
        Dimension of the vectors; if it is not K, linear maps project to K dimensions and back.
    codebook_size
        2^K.

    """

    def __init__(self, dim: int, codebook_size: int) -> None:
        self.bits = bits_in(codebook_size)
        super().__init__(dim, codebook_size)
        self.projection = Projection(self.dim, self.bits)

    @property
    def levels(self) -> tuple[float, float]:
        """The numbers of a bit 0 and of a bit 1."""
        raise NotImplementedError

    def values(self, bits: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the numbers (n, K) of bits (n, K) bool."""
        return torch.tensor(self.levels, device=bits.device, dtype=dtype)[bits.long()]

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the rows (n, dim) of codes (n,); the row of a code -1 is 0."""
        bits = bits_of_number(codes.clamp_min(0), self.bits)
        return self.projection.up(self.values(bits, self.projection.dtype)) * (codes >= 0)[:, None]

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
        return self.projection.up_tables(bit_tables(torch.tensor(self.levels, device=self._device()), self.bits))
