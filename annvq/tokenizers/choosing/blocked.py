"""Arg-max, softmax entropies and mixtures over many codes, some columns at a time.

Logits of n rows and k codes are ``rows @ weights.T + bias``: distances are such logits up to a constant of each
row. They are made block after block of columns, forwards and again backwards, so that memory never grows with
n x k. Gradients are those of the plain formulas.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from annvq.learn.codes.deciding import largest_logit
from annvq.learn.runtime import torch

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK = 1 << 22  # logits held at a time
_LEAST_COLUMNS = 16


def distance_logits(codes: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return weights (k, d) and bias (k,) of the logits -|x - c|^2 / temperature, less a constant of each row."""
    return codes * (2 / temperature), codes.square().sum(1) / -temperature


def centred(rows: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Return both less the codes' mean, so that products keep enough digits however far the origin is."""
    shift = codes.detach().mean(0)
    return rows - shift, codes - shift


def blocks(rows: Tensor, weights: Tensor, bias: Tensor, seed: int | None = None) -> Iterator[tuple[slice, Tensor]]:
    """Yield columns and logits (n, columns); with a seed, with Gumbel noise that is the same at every pass."""
    step = max(_LEAST_COLUMNS, _BLOCK // max(1, len(rows)))
    for start in range(0, len(weights), step):
        part = slice(start, min(start + step, len(weights)))
        logits = torch.addmm(bias[part], rows, weights[part].T)
        if seed is not None:
            generator = torch.Generator(rows.device).manual_seed(seed + start)
            uniform = torch.rand(logits.shape, generator=generator, device=rows.device, dtype=logits.dtype)
            logits = logits - (-uniform.clamp_min(torch.finfo(logits.dtype).tiny).log()).clamp_min(1e-20).log()
        yield part, logits


class _Passes:
    """The blocks of several passes; if all columns are one block, it is computed once and kept."""

    def __init__(self, rows: Tensor, weights: Tensor, bias: Tensor, seed: int | None = None) -> None:
        self._inputs = rows, weights, bias, seed
        self._only: tuple[slice, Tensor] | None = None

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        if self._only is not None:
            yield self._only
            return
        for part, logits in blocks(*self._inputs):
            if part == slice(0, len(self._inputs[1])):
                self._only = part, logits
            yield part, logits

    def log_sums(self) -> Tensor:
        """Return the logarithm of the softmax's denominator (n,)."""
        rows = self._inputs[0]
        total = rows.new_full((len(rows),), -torch.inf)
        for _, logits in self:
            total = torch.logaddexp(total, logits.logsumexp(1))
        return total


def noise_seed() -> int:
    """Return a seed of Gumbel noise, from torch's generator."""
    return int(torch.randint(1 << 62, ()))


@torch.no_grad()
def argmax(rows: Tensor, weights: Tensor, bias: Tensor, seed: int | None = None) -> Tensor:
    """Return the code (n,) int64 of the largest logit; of equal ones the lowest, if no noise separates them."""
    if seed is None:
        return largest_logit(rows, weights, bias)
    best = rows.new_full((len(rows),), -torch.inf)
    codes = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    for part, logits in blocks(rows, weights, bias, seed):
        values, places = logits.max(1)
        better = values > best
        best = torch.where(better, values, best)
        codes = torch.where(better, places + part.start, codes)
    return codes


class _Gradients:
    """The sums that a gradient of the logits, given block by block, makes for rows, weights and bias."""

    def __init__(self, rows: Tensor, weights: Tensor, bias: Tensor) -> None:
        self._inputs = rows, weights
        self.rows, self.weights = torch.zeros_like(rows), torch.zeros_like(weights)
        self.bias = torch.zeros_like(bias)

    def add(self, part: slice, slopes: Tensor) -> None:
        rows, weights = self._inputs
        self.rows.addmm_(slopes, weights[part])
        self.weights[part] = slopes.T @ rows
        self.bias[part] = slopes.sum(0)


class _LogSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
        total = _Passes(rows, weights, bias).log_sums()
        ctx.save_for_backward(rows, weights, bias, total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows, weights, bias, total = ctx.saved_tensors
        found = _Gradients(rows, weights, bias)
        for part, logits in blocks(rows, weights, bias):
            found.add(part, (logits - total[:, None]).exp() * gradients[0][:, None])
        return found.rows, found.weights, found.bias


def log_sums(rows: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """Return log sum exp of each row's logits, (n,)."""
    return _LogSums.apply(rows, weights, bias)  # pyright: ignore[reportReturnType]


class _Entropies(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weights: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        passes = _Passes(rows, weights, bias)
        total = passes.log_sums()
        mean_logits, shares = torch.zeros_like(total), torch.zeros_like(bias)
        for part, logits in passes:
            p = (logits - total[:, None]).exp()
            mean_logits += (p * logits).sum(1)
            shares[part] = p.sum(0) / max(1, len(rows))
        ctx.save_for_backward(rows, weights, bias, total, mean_logits, shares)
        return total - mean_logits, -torch.special.xlogy(shares, shares).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows, weights, bias, total, mean_logits, shares = ctx.saved_tensors
        of_rows, of_mean = gradients
        slope = -(shares.clamp_min(torch.finfo(shares.dtype).tiny).log() + 1) * (of_mean / max(1, len(rows)))
        mean_slope, passes = torch.zeros_like(total), _Passes(rows, weights, bias)
        for part, logits in passes:
            mean_slope += (logits - total[:, None]).exp() @ slope[part]
        found = _Gradients(rows, weights, bias)
        for part, logits in passes:
            p = (logits - total[:, None]).exp()
            change = slope[part] - mean_slope[:, None] - (logits - mean_logits[:, None]) * of_rows[:, None]
            found.add(part, p * change)
        return found.rows, found.weights, found.bias


def entropies(rows: Tensor, weights: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return the entropy of each row's softmax (n,), and the entropy of their mean, in nats."""
    return _Entropies.apply(rows, weights, bias)  # pyright: ignore[reportReturnType]


class _Indexed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weights: Tensor, bias: Tensor, values: Tensor, seed: int | None
    ) -> tuple[Tensor, Tensor]:
        codes = argmax(rows, weights, bias, seed)
        ctx.seed = seed
        ctx.save_for_backward(rows, weights, bias, values, codes)
        ctx.mark_non_differentiable(codes)
        return values[codes], codes

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        rows, weights, bias, values, codes = ctx.saved_tensors
        gradient = gradients[0]
        passes = _Passes(rows, weights, bias, ctx.seed)
        total, mean = passes.log_sums(), torch.zeros_like(gradient)
        for part, logits in passes:
            mean.addmm_((logits - total[:, None]).exp(), values[part])
        level = (gradient * mean).sum(1, keepdim=True)
        found = _Gradients(rows, weights, bias)
        for part, logits in passes:
            p = (logits - total[:, None]).exp()
            found.add(part, p * (gradient @ values[part].T - level))
        of_values = torch.zeros_like(values).index_add_(0, codes, gradient)
        return found.rows, found.weights, found.bias, of_values, None


def indexed(
    rows: Tensor, weights: Tensor, bias: Tensor, values: Tensor, seed: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return the values (n, d) and codes (n,) of the largest logits, with gradients as of a softmax.

    The result is ``one_hot @ values`` with ``one_hot = hard + soft - soft.detach()``: gradients reach the logits of
    all codes through the softmax, and the values that were chosen.

    Parameters
    ----------
    rows, weights, bias
        (n, e), (k, e), (k,).
    values
        (k, d): what codes stand for.
    seed
        Seed of Gumbel noise on the logits, None for none.

    """
    return _Indexed.apply(rows, weights, bias, values, seed)  # pyright: ignore[reportReturnType]
