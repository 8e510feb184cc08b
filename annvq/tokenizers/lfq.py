"""LFQ: the signs of the dimensions are the code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from annvq.arguments import as_count, as_weight
from annvq.learn.runtime import torch
from annvq.tokenizers.bits import (
    bit_columns,
    bit_entropies,
    bit_tables,
    bits_in,
    bits_of_number,
    column_bits,
    number_of,
)
from annvq.tokenizers.estimators import straight_through
from annvq.tokenizers.losses import Entropy, squared_error
from annvq.tokenizers.projection import Projection
from annvq.tokenizers.quantized import Quantized
from annvq.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

_ENTROPY = Entropy()


class LFQ(Tokenizer):
    """Lookup-free quantization (Yu et al. 2024, "Language Model Beats Diffusion").

    Codes are the corners of {-1, 1}^K; 0 counts as negative. Softmax probabilities of the corners by distance are
    those of independent bits, so that entropies take no 2^K distances.

    Parameters
    ----------
    dim
        Dimension of the vectors; where it is not K, linear maps lead there and back.
    codebook_size
        2^K.
    entropy
        The entropy loss, or None.
    commitment
        Weight of mean |z - sg(z_q)|^2, at least 0.
    group
        Bits within which the entropy of the mean is exact, at most 16; see `annvq.tokenizers.bits.bit_entropies`.

    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        entropy: Entropy | None = _ENTROPY,
        commitment: float = 0.25,
        group: int = 8,
    ) -> None:
        self.bits = bits_in(codebook_size)
        super().__init__(dim, codebook_size)
        self.entropy = entropy
        self.commitment = as_weight("commitment", commitment)
        self.group = as_count("group", group, most=16)
        self.projection = Projection(self.dim, self.bits)

    @property
    def corner(self) -> float:
        """The value, with either sign, of each dimension of a code."""
        return 1.0

    def quantize(self, rows: Tensor) -> Quantized:
        """Quantize rows (n, dim); see `Tokenizer`."""
        x = self._inward(rows)
        bits = x > 0
        q = self._corners(bits, x)
        commitment = squared_error(x, q)
        loss, stats = self.commitment * commitment, {"commitment": commitment}
        if self.entropy is not None:
            logits = x * (4 * self.corner / self.entropy.temperature)  # |x + c|^2 - |x - c|^2 = 4 x c
            stats["entropy"] = self.entropy.weighted(*bit_entropies(logits, self.group))
            loss = loss + stats["entropy"]
        return Quantized(self.projection.up(straight_through(x, q)), number_of(bits), loss, stats)

    def assign(self, rows: Tensor) -> Tensor:
        """Return the codes (n,) of rows (n, dim)."""
        return number_of(self._inward(rows) > 0)

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the rows (n, dim) of codes (n,); 0 where one is -1."""
        bits = bits_of_number(codes.clamp_min(0), self.bits)
        return self.projection.up(self._corners(bits)) * (codes >= 0)[:, None]

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
        values = torch.tensor([-self.corner, self.corner], device=self._device())
        return self.projection.up_tables(bit_tables(values, self.bits))

    def _inward(self, rows: Tensor) -> Tensor:
        return self.projection.down(rows)

    def _corners(self, bits: Tensor, like: Tensor | None = None) -> Tensor:
        signs = bits.to(self.projection.dtype if like is None else like.dtype) * 2 - 1
        return signs * self.corner
