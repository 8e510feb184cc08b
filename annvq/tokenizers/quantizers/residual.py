"""ResidualVQ: each stage quantizes the residual of the one before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from annvq.arguments import as_count, as_weight
from annvq.codebooks import ResidualCodebook
from annvq.errors import ParameterError
from annvq.learn.runtime import torch
from annvq.learn.training.processes import from_first
from annvq.tokenizers.kinds import check_kind
from annvq.tokenizers.quantized import MASKED, Quantized, mean_of
from annvq.tokenizers.quantizers.product import check_scannable
from annvq.tokenizers.quantizers.vector import VectorQuantizer
from annvq.tokenizers.tokenizer import Tokenizer, array_of_table
from annvq.tokenizers.training.learning import PLAIN, Learning

if TYPE_CHECKING:
    from torch import Tensor


class ResidualVQ(Tokenizer):
    """A vector is the sum of one code per stage (Zeghidour et al. 2021 (SoundStream), section III-C).

    The gradient passes the sum once, by the estimator, or through the projections of each stage. Losses are summed
    over stages.

    Parameters
    ----------
    dim, codebook_size
        Dimension of the vectors, and number of codes of each stage.
    num_quantizers
        M, the number of stages.
    learning
        How the codebook of each stage is learned.
    code_dim
        Dimension of the codes, between two linear maps of each stage (Kumar et al. 2023 (DAC)).
    quantizer_dropout
        Probability that a training batch takes only the first n stages, n drawn evenly from 1 to M (as above; DAC).
        Codes of the stages left out are -1, which add nothing: any number of first stages can be decoded. With
        `Gradient` or code_dim, DistributedDataParallel then needs ``find_unused_parameters=True``.

    Examples
    --------
    >>> import torch
    >>> quantizer = annvq.tokenizers.ResidualVQ(32, 64, num_quantizers=4)
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
        learning: Learning = PLAIN,
        *,
        code_dim: int | None = None,
        quantizer_dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, codebook_size, as_count("num_quantizers", num_quantizers))
        if as_weight("quantizer_dropout", quantizer_dropout) > 1:
            raise ParameterError(f"quantizer_dropout must be 0 to 1, not {quantizer_dropout}")
        self.quantizer_dropout = quantizer_dropout
        self.stages = torch.nn.ModuleList(
            VectorQuantizer(dim, codebook_size, learning, code_dim=code_dim) for _ in range(num_quantizers)
        )
        self.estimator = learning.estimator

    def quantize(self, rows: Tensor) -> Quantized:
        """Quantize rows (n, dim); see `Tokenizer`."""
        total, found = torch.zeros_like(rows), []
        for stage in list(self.stages)[: self._depth(rows.device)]:
            found.append(stage.quantize(rows - total.detach()))
            total = total + found[-1].z_q
        codes = rows.new_full((len(rows), len(self.stages)), MASKED, dtype=torch.int64)
        codes[:, : len(found)] = torch.stack([one.codes for one in found], 1)
        loss = torch.stack([one.loss for one in found]).sum()
        z_q = total if self._is_projected else self.estimator(rows, total.detach())
        return Quantized(z_q, codes, loss, mean_of([one.stats for one in found]))

    def assign(self, rows: Tensor) -> Tensor:
        """Return the codes (n, M) of rows (n, dim)."""
        total, codes = torch.zeros_like(rows), []
        for stage in self.stages:
            codes.append(stage.assign(rows - total))
            total = total + stage.lookup(codes[-1])
        return torch.stack(codes, 1)

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the rows (n, dim) of codes (n, M); stages of code -1 add nothing."""
        total: Tensor | float = 0.0
        for stage, column in zip(self.stages, codes.unbind(1)):
            total = total + stage.lookup(column)
        return total  # pyright: ignore[reportReturnType]

    @classmethod
    def from_codebook(cls, codebook: ResidualCodebook, learning: Learning = PLAIN) -> ResidualVQ:
        """Return a quantizer that starts at a residual codebook.

        It takes the nearest code of each stage, as that codebook does with a beam of 1.
        """
        check_kind("codebook", codebook, ResidualCodebook)
        made = cls(codebook.dim, codebook.ksub, codebook.M, learning)
        for stage, codes in zip(made.stages, codebook.codebooks):
            stage.set_codes(codes)
        return made

    def to_codebook(self, beam: int = 1) -> ResidualCodebook:
        """Return the codes as a residual codebook, whose stages have 16 or 256 centroids (ParameterError for others).

        Parameters
        ----------
        beam
            Beam width of its `encode`, 1 to 16. With 1 it takes the nearest code of each stage, as the tokenizer does;
            other residual codebooks have 4 if nothing else is said.

        """
        check_scannable(self.codebook_size)
        if self._is_projected:
            raise ParameterError("codes behind projections are nearest in code_dim, not in dim: no codebook is alike")
        codebooks = np.stack([array_of_table(stage.codes_table()) for stage in self.stages])
        codebooks.flags.writeable = False
        return ResidualCodebook(codebooks, as_count("beam", beam, most=16))

    @property
    def _is_projected(self) -> bool:
        return any(stage.projection.inward is not None for stage in self.stages)

    def _depth(self, device: torch.device) -> int:
        """Return how many stages a batch goes through, the same in every process."""
        stages = len(self.stages)
        if not self.training or not self.quantizer_dropout:
            return stages
        drawn = from_first(torch.rand(2, device=device))
        return stages if drawn[0] >= self.quantizer_dropout else 1 + int(drawn[1] * stages)
