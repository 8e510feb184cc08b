"""BSQ: vectors on the unit sphere, and the signs of their dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from annvq.learn.runtime import torch
from annvq.tokenizers.quantizers.lfq import LFQ

if TYPE_CHECKING:
    from torch import Tensor


class BSQ(LFQ):
    """Binary spherical quantization (Zhao, Xiong and Kraehenbuehl 2024).

    It is `LFQ` with vectors scaled to norm 1 (after the linear map) and the corners of {-1, 1}^K / sqrt(K) for codes,
    so that no vector is far from its code. Parameters are those of `LFQ`.

    Examples
    --------
    >>> import torch
    >>> quantizer = annvq.tokenizers.BSQ(32, 1024)
    >>> z = torch.randn(2, 200, 32)
    >>> z_q, codes, loss, stats = quantizer(z)
    >>> codes.shape
    torch.Size([2, 200])

    """

    @property
    def corner(self) -> float:
        """The value, with either sign, of each dimension of a code."""
        return self.bits**-0.5

    def _inward(self, rows: Tensor) -> Tensor:
        return torch.nn.functional.normalize(self.projection.down(rows), dim=-1)
