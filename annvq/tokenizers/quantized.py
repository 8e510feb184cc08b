"""What a quantizer returns, and how its codes are used."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from annvq.learn.runtime import torch

if TYPE_CHECKING:
    from torch import Tensor

MASKED = -1  # the code of a vector that is masked, and of a stage that was left out


class Quantized(NamedTuple):
    """The result of a quantizer's forward pass.

    Parameters
    ----------
    z_q
        Of z's shape and dtype: what the codes stand for, with gradients that reach z. Masked vectors are 0.
    codes
        int64, (batch, ...) or, with several codebooks, (batch, ..., M); `MASKED` (-1) where there is no code.
    loss
        Scalar to add to the task's loss; 0 if the quantizer has none.
    stats
        Scalars without gradient: the parts of the loss, "utilization" (share of the codebook that this batch
        uses) and "perplexity" (2 to the entropy of the codes of this batch), means over codebooks.

    """

    z_q: Tensor
    codes: Tensor
    loss: Tensor
    stats: dict[str, Tensor]


def usage_of(codes: Tensor, codebook_size: int) -> dict[str, Tensor]:
    """Return "utilization" and "perplexity" of codes (n,) or (n, M); masked ones do not count.

    Memory grows with n alone, however many codes there are.
    """
    columns = codes.reshape(len(codes), -1).unbind(1) if codes.numel() else ()
    found = [_usage(column[column >= 0], codebook_size) for column in columns]
    used = [one for one in found if one is not None]
    if not used:
        zero = torch.zeros((), device=codes.device)
        return {"utilization": zero, "perplexity": zero.clone()}
    utilization, perplexity = (torch.stack(values).mean() for values in zip(*used))
    return {"utilization": utilization, "perplexity": perplexity}


def _usage(codes: Tensor, codebook_size: int) -> tuple[Tensor, Tensor] | None:
    if not len(codes):
        return None
    _, counts = torch.unique(codes, return_counts=True)
    shares = counts.float() / len(codes)
    entropy = -(shares * shares.log()).sum()
    return torch.tensor(len(counts) / codebook_size, device=codes.device), entropy.exp()


def mean_of(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the means of statistics that all parts have."""
    names = set(parts[0]).intersection(*parts[1:])
    return {name: torch.stack([part[name] for part in parts]).mean() for name in sorted(names)}


def bits_of(codebook_size: int) -> float:
    """Return the bits of one code."""
    return math.log2(codebook_size)
