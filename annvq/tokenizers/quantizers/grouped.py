"""GroupedResidualVQ: residual quantizers side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from annvq.arguments import as_count
from annvq.codebooks import ResidualCodebook
from annvq.learn.runtime import torch
from annvq.tokenizers.quantized import Quantized
from annvq.tokenizers.quantizers.residual import ResidualVQ
from annvq.tokenizers.quantizers.split import assign_parts, lookup_parts, quantize_parts, width_of
from annvq.tokenizers.tokenizer import Tokenizer
from annvq.tokenizers.training.learning import PLAIN, Learning

if TYPE_CHECKING:
    from torch import Tensor


class GroupedResidualVQ(Tokenizer):
    """A `ResidualVQ` for each group of dimensions (Yang et al. 2023 (HiFi-Codec)).

    Codes are (..., groups * num_quantizers), with those of a group next to each other.

    Parameters
    ----------
    dim, codebook_size
        Dimension of the vectors, and number of codes of each stage of each group.
    num_quantizers
        Stages of each group.
    groups
        Groups of dim / groups dimensions.
    learning, code_dim, quantizer_dropout
        As for `ResidualVQ`; each group draws its own number of stages.

    Examples
    --------
    >>> import torch
    >>> quantizer = annvq.tokenizers.GroupedResidualVQ(32, 64, num_quantizers=2, groups=2)
    >>> z = torch.randn(2, 200, 32)
    >>> z_q, codes, loss, stats = quantizer(z)
    >>> codes.shape
    torch.Size([2, 200, 4])

    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        num_quantizers: int,
        groups: int,
        learning: Learning = PLAIN,
        *,
        code_dim: int | None = None,
        quantizer_dropout: float = 0.0,
    ) -> None:
        count = as_count("groups", groups)
        super().__init__(dim, codebook_size, count * as_count("num_quantizers", num_quantizers))
        width = width_of(self.dim, count, "groups")
        self.parts = torch.nn.ModuleList(
            ResidualVQ(
                width, codebook_size, num_quantizers, learning, code_dim=code_dim, quantizer_dropout=quantizer_dropout
            )
            for _ in range(count)
        )

    def quantize(self, rows: Tensor) -> Quantized:
        """Quantize rows (n, dim); see `Tokenizer`."""
        return quantize_parts(self.parts, rows.chunk(len(self.parts), 1))

    def assign(self, rows: Tensor) -> Tensor:
        """Return the codes (n, M) of rows (n, dim)."""
        return assign_parts(self.parts, rows.chunk(len(self.parts), 1))

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the rows (n, dim) of codes (n, M); stages of code -1 add nothing."""
        return lookup_parts(self.parts, codes.chunk(len(self.parts), 1))

    def to_codebook(self, beam: int = 1) -> ResidualCodebook:
        """Return the codes as a residual codebook, each 0 outside its group; else as of `ResidualVQ`."""
        made = [part.to_codebook(beam) for part in self.parts]
        groups = [codebook.codebooks for codebook in made]
        M, ksub, width = groups[0].shape
        whole = np.zeros((len(groups), M, ksub, len(groups), width), np.float32)
        for group, codebooks in enumerate(groups):
            whole[group, :, :, group] = codebooks
        whole.flags.writeable = False
        return ResidualCodebook(whole.reshape(-1, ksub, self.dim), made[0].beam)
