"""Rounding with straight-through gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_LARGEST_HALF = 65504.0


def through(kept: Tensor, values: Tensor) -> Tensor:
    """Return ``kept`` exactly, with the gradient of ``values`` (straight through, Bengio et al. 2013)."""
    return kept.detach() + (values - values.detach())


def as_half(values: Tensor) -> Tensor:
    """Return values as float16 keeps them, clipped to its range."""
    return values.detach().clamp(-_LARGEST_HALF, _LARGEST_HALF).half().to(values.dtype)


def levels(values: Tensor, scales: Tensor, bits: int) -> Tensor:
    """Return the integers nearest to values / scales, clipped to the range of this many bits."""
    top = 1 << (bits - 1)
    return (values / scales).round().clamp(-top, top - 1)
