"""FSQ: each dimension is rounded to one of a few levels; there is no codebook to learn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from annvq.arguments import as_count
from annvq.errors import ParameterError
from annvq.learn.runtime import torch
from annvq.tokenizers.projection import Projection
from annvq.tokenizers.quantized import Quantized
from annvq.tokenizers.tokenizer import Tokenizer
from annvq.tokenizers.training.estimators import straight_through

if TYPE_CHECKING:
    from torch import Tensor

_LEAST_LEVELS = 3
_MOST_LEVELS = 8  # of a dimension, if they are chosen here (Mentzer et al. 2023 go as far)
_MARGIN = 1e-3  # beyond the outermost levels, so that tanh reaches them


class FSQ(Tokenizer):
    """Finite scalar quantization (Mentzer et al. 2023): a tanh bound, rounding, straight-through gradients.

    A code is the number whose digits, least first, are the levels of the dimensions. If ``dim`` is not the number of
    these dimensions, linear maps lead there and back.

    Parameters
    ----------
    dim
        Dimension of the vectors.
    codebook_size
        A product of numbers from 3 to 8; ``levels`` are then as few and as large as possible.
    levels
        Number of levels of each code dimension, at least 3 (with 2, tanh would hardly reach the lower one). If they are
        given, codebook_size is their product and may be left out.

    Examples
    --------
    >>> import torch
    >>> quantizer = annvq.tokenizers.FSQ(32, levels=[8, 5, 5])
    >>> z = torch.randn(2, 200, 32)
    >>> z_q, codes, loss, stats = quantizer(z)
    >>> codes.shape
    torch.Size([2, 200])

    """

    def __init__(self, dim: int, codebook_size: int | None = None, *, levels: Sequence[int] | None = None) -> None:
        chosen = _levels(codebook_size, levels)
        super().__init__(dim, math.prod(chosen))
        self.levels = chosen
        self.projection = Projection(self.dim, len(chosen))

    def bound(self, x: Tensor) -> Tensor:
        """Return x (n, len(levels)) brought between the outermost levels, (-L / 2, L / 2) about."""
        levels = self._like(x, self.levels)
        half = (levels - 1) * (1 + _MARGIN) / 2
        offset = torch.where(levels % 2 == 0, 0.5, 0.0).to(x.dtype)
        return (x + (offset / half).atanh()).tanh() * half - offset

    def quantize(self, rows: Tensor) -> Quantized:
        """Quantize rows (n, dim); see `Tokenizer`."""
        bounded = self.bound(self.projection.down(rows))
        whole = bounded.round()
        z_q = self.projection.up(straight_through(bounded, whole) / self._half(rows))
        return Quantized(z_q, self._number(whole), rows.new_zeros(()), {})

    def assign(self, rows: Tensor) -> Tensor:
        """Return the codes (n,) of rows (n, dim)."""
        return self._number(self.bound(self.projection.down(rows)).round())

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the rows (n, dim) of codes (n,); the row of a code -1 is 0."""
        values = (self.digits(codes.clamp_min(0)) - self._half(codes)) / self._half(codes)
        found = self.projection.up(values.to(self.projection.dtype))
        return found * (codes >= 0)[:, None]

    def digits(self, codes: Tensor) -> Tensor:
        """Return the levels (..., len(levels)) int64, from 0, that codes (...) name."""
        steps = self._steps(codes)
        return codes[..., None] // steps % self._like(steps, self.levels)

    @property
    def column_size(self) -> int:
        """The most levels of a dimension."""
        return max(self.levels)

    def code_columns(self, codes: Tensor) -> Tensor:
        """Return the levels (n, len(levels)) of codes (n,)."""
        return self.digits(codes)

    @torch.no_grad()
    def column_tables(self) -> list[Tensor]:
        """Return a table (levels, dim) for each dimension of a code."""
        tables = []
        for place, level in enumerate(self.levels):
            table = torch.zeros(level, len(self.levels), device=self._device())
            table[:, place] = (torch.arange(level) - level // 2) / (level // 2)
            tables.append(table)
        return self.projection.up_tables(tables)

    def _steps(self, like: Tensor) -> Tensor:
        products = [math.prod(self.levels[:place]) for place in range(len(self.levels))]
        return torch.tensor(products, device=like.device)

    def _half(self, like: Tensor) -> Tensor:
        return self._like(like, [level // 2 for level in self.levels])

    def _like(self, like: Tensor, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, device=like.device, dtype=like.dtype)

    def _number(self, whole: Tensor) -> Tensor:
        digits = (whole.detach() + self._half(whole)).long()
        return (digits * self._steps(digits)).sum(-1)


def _levels(codebook_size: int | None, levels: Sequence[int] | None) -> tuple[int, ...]:
    if levels is None:
        if codebook_size is None:
            raise ParameterError("FSQ needs codebook_size or levels")
        return _factors(as_count("codebook_size", codebook_size, least=_LEAST_LEVELS))
    if not isinstance(levels, Iterable):
        raise ParameterError(f"levels must be a sequence of numbers, not {levels!r}")
    chosen = tuple(as_count("a level", level, least=_LEAST_LEVELS) for level in levels)
    if not chosen or math.prod(chosen) >= 1 << 62:
        raise ParameterError(f"levels must be at least one, with a product below 2^62, not {chosen}")
    if codebook_size is not None and codebook_size != math.prod(chosen):
        raise ParameterError(f"levels {chosen} make {math.prod(chosen)} codes, not codebook_size {codebook_size}")
    return chosen


def _factors(size: int) -> tuple[int, ...]:
    """Return the fewest levels of 3 to 8 with this product, those that differ least."""
    most = max(1, math.ceil(math.log(size, 2)))
    for count in range(1, most + 1):
        found = _products(size, count, _MOST_LEVELS)
        if found is not None:
            return found
    raise ParameterError(f"codebook_size {size} is no product of numbers from 3 to 8: give levels instead")


def _products(size: int, count: int, most: int) -> tuple[int, ...] | None:
    """Return ``count`` numbers of 3 to ``most``, descending, with this product and the least first; None for none."""
    if count == 1:
        return (size,) if _LEAST_LEVELS <= size <= most else None
    for first in range(_LEAST_LEVELS, most + 1):
        rest = _products(size // first, count - 1, first) if size % first == 0 else None
        if rest is not None:
            return (first, *rest)
    return None
