"""Codes that are rows of bits: numbers from bits and back, and entropies of independent bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from annvq.arguments import as_count
from annvq.errors import ParameterError
from annvq.learn.runtime import torch

if TYPE_CHECKING:
    from torch import Tensor

_MOST_BITS = 62


def bits_in(codebook_size: int) -> int:
    """Return K for a codebook of 2^K codes, 1 to 62; ParameterError for any other size."""
    size = as_count("codebook_size", codebook_size, least=2, most=1 << _MOST_BITS)
    if size & (size - 1):
        raise ParameterError(f"codebook_size must be a power of 2, not {size}")
    return size.bit_length() - 1


def number_of(bits: Tensor) -> Tensor:
    """Return the codes (...) int64 of bits (..., K) bool; the first is the lowest."""
    return (bits.long() << torch.arange(bits.shape[-1], device=bits.device)).sum(-1)


def bits_of_number(codes: Tensor, count: int) -> Tensor:
    """Return the bits (..., count) bool of codes (...)."""
    return (codes[..., None] >> torch.arange(count, device=codes.device) & 1).bool()


def column_bits(count: int) -> int:
    """Return how many of K bits make a column of codes: the most, up to 8, that divide K."""
    return max(size for size in range(1, 9) if count % size == 0)


def bit_columns(codes: Tensor, count: int) -> Tensor:
    """Return the columns (n, C) of codes (n,) of K bits."""
    size = column_bits(count)
    starts = torch.arange(0, count, size, device=codes.device)
    return codes[:, None] >> starts & ((1 << size) - 1)


def bit_tables(values: Tensor, count: int) -> list[Tensor]:
    """Return tables (2^b, K) for each column of K bits, which stand for ``values`` (2,), that of 0 first."""
    size = column_bits(count)
    patterns = bits_of_number(torch.arange(1 << size, device=values.device), size).long()
    tables = []
    for start in range(0, count, size):
        table = values.new_zeros(len(patterns), count)
        table[:, start : start + size] = values[patterns]
        tables.append(table)
    return tables


def bit_entropies(logits: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """Return the entropy of each row's bits (n,), and that of their mean distribution, in nats.

    Bit d of a row is 1 with probability sigmoid(logits[:, d]), independent of the others. A row's entropy is exact.
    That of the mean is exact within groups of bits and summed over groups, which is an upper bound (Zhao, Xiong and
    Kraehenbuehl 2024 (BSQ)): of K bits at once it would take 2^K probabilities.

    Parameters
    ----------
    logits
        (n, K).
    group
        Bits of a group.

    """
    chances = logits.sigmoid()
    of_rows = (torch.nn.functional.softplus(logits) - logits * chances).sum(1)
    of_mean = logits.new_zeros(())
    for part in chances.split(group, dim=1):
        # the mean over rows of products of two halves' probabilities is a matrix product: no n x 2^group
        low, high = (_pattern_chances(half) for half in part.tensor_split([(part.shape[1] + 1) // 2], dim=1))
        shares = low.T @ high / max(1, len(logits))
        of_mean = of_mean - (shares * shares.clamp_min(torch.finfo(shares.dtype).tiny).log()).sum()
    return of_rows, of_mean


def _pattern_chances(chances: Tensor) -> Tensor:
    """Return the probabilities (n, 2^b) of all patterns of independent bits of probabilities (n, b)."""
    found = chances.new_ones(len(chances), 1)
    for bit in chances.unbind(1):
        found = torch.cat([found * (1 - bit)[:, None], found * bit[:, None]], 1)
    return found
