"""LFQ: the signs of the dimensions are the code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from annvq.arguments import as_count, as_weight
from annvq.tokenizers.codes.bits import bit_entropies, number_of
from annvq.tokenizers.kinds import check_kind
from annvq.tokenizers.quantized import Quantized
from annvq.tokenizers.quantizers.bit_tokenizer import BitTokenizer
from annvq.tokenizers.training.estimators import straight_through
from annvq.tokenizers.training.losses import Entropy, squared_error

if TYPE_CHECKING:
    from torch import Tensor

_ENTROPY = Entropy()


class LFQ(BitTokenizer):
    """Lookup-free quantization (Yu et al. 2024, "Language Model Beats Diffusion").

    Codes are the corners of {-1, 1}^K; 0 counts as negative. Softmax probabilities of the corners by distance are those
    of independent bits, so that entropies do not need 2^K distances.

    Parameters
    ----------
    dim
        Dimension of the vectors; if it is not K, linear maps project to K dimensions and back.
    codebook_size
        2^K.
    entropy
        The entropy loss, or None.
    commitment
        Weight of mean |z - sg(z_q)|^2, at least 0.
    group
        Bits within which the entropy of the mean is exact, at most 16; see `annvq.tokenizers.codes.bits.bit_entropies`.

    Examples
    --------
    >>> import torch
    >>> quantizer = annvq.tokenizers.LFQ(32, 1024)
    >>> z = torch.randn(2, 200, 32)
    >>> z_q, codes, loss, stats = quantizer(z)
    >>> codes.shape
    torch.Size([2, 200])

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
        super().__init__(dim, codebook_size)
        check_kind("entropy", entropy, Entropy, type(None))
        self.entropy = entropy
        self.commitment = as_weight("commitment", commitment)
        self.group = as_count("group", group, most=16)

    @property
    def corner(self) -> float:
        """The value, with either sign, of each dimension of a code."""
        return 1.0

    @property
    def levels(self) -> tuple[float, float]:
        """The numbers of a bit 0 and of a bit 1."""
        return -self.corner, self.corner

    def quantize(self, rows: Tensor) -> Quantized:
        """Quantize rows (n, dim); see `Tokenizer`."""
        x = self._inward(rows)
        bits = x > 0
        q = self.values(bits, x.dtype)
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

    def _inward(self, rows: Tensor) -> Tensor:
        return self.projection.down(rows)
