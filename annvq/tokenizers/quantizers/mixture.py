"""GaussianMixtureVQ: codes are the components of Gaussian mixtures, drawn from their posterior."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from annvq.arguments import as_count, as_number, as_weight
from annvq.learn.runtime import torch
from annvq.tokenizers.choosing.blocked import centred, indexed, log_sums, noise_seed
from annvq.tokenizers.choosing.nearest import CodeSearch
from annvq.tokenizers.quantized import Quantized
from annvq.tokenizers.quantizers.split import assign_parts, lookup_parts, quantize_parts, width_of
from annvq.tokenizers.tokenizer import Tokenizer, table_rows
from annvq.tokenizers.training.losses import squared_error

if TYPE_CHECKING:
    from torch import Tensor

_LEAST_VARIANCE = 1e-4  # otherwise the likelihood would grow without bound when a mean meets a vector


class GaussianMixtureVQ(Tokenizer):
    """Probabilistic multi-codebook quantization (Zhu et al. 2022 (McQuic)).

    Each run of dim / M dimensions is modelled by a mixture of k Gaussians with priors, means and one variance each.
    In training a component is drawn from the posterior by Gumbel noise, and its mean stands for the vector, with the
    gradient of the softmax; in eval mode it is the most probable one. The loss is the negative log-likelihood, per
    dimension, of vectors without gradient, plus the commitment.

    Parameters
    ----------
    dim, codebook_size
        Dimension of the vectors, and number of components of each mixture.
    num_codebooks
        M, which divides dim.
    temperature
        Temperature of the softmax in training, above 0: the log posterior is divided by it.
    likelihood, commitment
        Weights of the negative log-likelihood and of mean |z - sg(z_q)|^2, at least 0.

    Examples
    --------
    >>> import torch
    >>> quantizer = annvq.tokenizers.GaussianMixtureVQ(32, 64, num_codebooks=4)
    >>> z = torch.randn(2, 200, 32)
    >>> z_q, codes, loss, stats = quantizer(z)
    >>> codes.shape
    torch.Size([2, 200, 4])

    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        num_codebooks: int = 1,
        *,
        temperature: float = 1.0,
        likelihood: float = 1.0,
        commitment: float = 0.25,
    ) -> None:
        super().__init__(dim, codebook_size, as_count("num_codebooks", num_codebooks))
        as_number("temperature", temperature, above=0)
        as_weight("likelihood", likelihood)
        as_weight("commitment", commitment)
        width = width_of(self.dim, num_codebooks, "num_codebooks")
        self.parts = torch.nn.ModuleList(
            _Mixture(width, codebook_size, temperature, likelihood, commitment) for _ in range(num_codebooks)
        )

    def quantize(self, rows: Tensor) -> Quantized:
        """Quantize rows (n, dim); see `Tokenizer`."""
        return quantize_parts(self.parts, rows.chunk(len(self.parts), 1))

    def assign(self, rows: Tensor) -> Tensor:
        """Return the most probable components (n, M) of rows (n, dim)."""
        return assign_parts(self.parts, rows.chunk(len(self.parts), 1))

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the rows (n, dim) of codes (n, M); the part of a code -1 is 0."""
        return lookup_parts(self.parts, codes.unbind(1))


class _Mixture(torch.nn.Module):
    """One mixture; the logarithms of its joint densities are linear in (z, |z|^2)."""

    def __init__(self, dim: int, components: int, temperature: float, likelihood: float, commitment: float) -> None:
        super().__init__()
        self.temperature, self.likelihood, self.commitment = temperature, likelihood, commitment
        self.means = torch.nn.Parameter(torch.randn(components, dim) / dim**0.5)
        self.log_variances = torch.nn.Parameter(torch.full((components,), -math.log(dim)))
        self.priors = torch.nn.Parameter(torch.zeros(components))
        self._search = CodeSearch()

    def quantize(self, rows: Tensor) -> Quantized:
        near, weights, bias = self._joint(rows)
        squares = _with_squares(near)
        if self.training:
            soft = weights / self.temperature, bias / self.temperature
            q, codes = indexed(squares, *soft, self.means.to(rows.dtype), noise_seed())
        else:
            codes = self.assign(rows)
            q = self.means.to(rows.dtype)[codes]
        commitment = squared_error(rows, q.detach())
        unlikely = -log_sums(squares.detach(), weights, bias).sum() / max(1, rows.numel())
        loss = self.likelihood * unlikely + self.commitment * commitment
        return Quantized(q, codes, loss, {"commitment": commitment, "unlikelihood": unlikely})

    @torch.no_grad()
    def assign(self, rows: Tensor) -> Tensor:
        near, weights, bias = self._joint(rows)
        queries = torch.cat([_with_squares(near), torch.ones_like(rows[:, :1])], 1)
        return self._search(queries, torch.cat([weights, bias[:, None]], 1), "ip", moving=self.training)

    def lookup(self, codes: Tensor) -> Tensor:
        return table_rows(self.means, codes)

    def _joint(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return rows less the middle of the means, and weights (k, d + 1) and bias (k,) of log prior + density."""
        (near, means), priors = centred(rows, self.means.to(rows.dtype)), self.priors.to(rows.dtype)
        variances = self.log_variances.to(rows.dtype).exp() + _LEAST_VARIANCE
        precisions = 0.5 / variances
        weights = torch.cat([means * (2 * precisions)[:, None], -precisions[:, None]], 1)
        constants = -0.5 * means.shape[1] * (2 * math.pi * variances).log()
        bias = priors.log_softmax(0) + constants - precisions * means.square().sum(1)
        return near, weights, bias


def _with_squares(rows: Tensor) -> Tensor:
    return torch.cat([rows, rows.square().sum(1, keepdim=True)], 1)
