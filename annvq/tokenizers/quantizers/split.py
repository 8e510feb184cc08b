"""Quantizers side by side, each for its run of dimensions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from annvq.errors import ParameterError
from annvq.learn.runtime import torch
from annvq.tokenizers.quantized import Quantized, mean_of

if TYPE_CHECKING:
    from torch import Tensor


def width_of(dim: int, parts: int, name: str) -> int:
    """Return the dimension of each of this many parts; ParameterError if their number does not divide dim."""
    if dim % parts:
        raise ParameterError(f"{name} must divide dim {dim}, and {parts} does not")
    return dim // parts


def quantize_parts(parts: Iterable[Any], rows: Iterable[Tensor]) -> Quantized:
    """Return what quantizers make of their rows, side by side; loss and statistics are means over them."""
    found = [part.quantize(own) for part, own in zip(parts, rows)]
    loss = torch.stack([one.loss for one in found]).mean()
    columns = torch.cat([_columns(one.codes) for one in found], 1)
    return Quantized(torch.cat([one.z_q for one in found], 1), columns, loss, mean_of([one.stats for one in found]))


def assign_parts(parts: Iterable[Any], rows: Iterable[Tensor]) -> Tensor:
    """Return the codes (n, M) of rows, side by side."""
    return torch.cat([_columns(part.assign(own)) for part, own in zip(parts, rows)], 1)


def lookup_parts(parts: Iterable[Any], codes: Iterable[Tensor]) -> Tensor:
    """Return the rows (n, dim) of each part's codes, side by side."""
    return torch.cat([part.lookup(own) for part, own in zip(parts, codes)], 1)


def _columns(codes: Tensor) -> Tensor:
    return codes if codes.ndim == 2 else codes[:, None]
