"""The order of hits as integers, and sums in the order of the CPU's kernels.

A candidate is one int64: its score in the upper half, mapped to an integer that rises with it, and in the lower half
2^31 - 1 less the rank of its row's key among all keys. So candidates are compared by descending score and then by
ascending key, as everywhere in annvq, and no two rows are equal. -0.0 counts as 0.0.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

NOTHING = -(1 << 63)  # a place that no candidate fills
MOST_ROWS = (1 << 31) - 1  # of one device


def candidates_of(scores: torch.Tensor, ranks: torch.Tensor) -> torch.Tensor:
    """Return candidates, int64, of scores (float32) and ranks (int32) of the same shape."""
    bits = torch.where(scores == 0, torch.zeros_like(scores), scores).view(torch.int32)
    rising = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (rising.long() << 32) | (MOST_ROWS - ranks.long())


def scores_of(candidates: torch.Tensor) -> torch.Tensor:
    """Return the scores, float32, of candidates; -inf where there is none."""
    rising = (candidates >> 32).int()
    scores = (rising ^ ((rising >> 31) & 0x7FFFFFFF)).view(torch.float32)
    return torch.where(candidates == NOTHING, torch.full_like(scores, -torch.inf), scores)


def ranks_of(candidates: torch.Tensor) -> torch.Tensor:
    """Return the ranks, int64, of candidates; -1 where there is none."""
    ranks = MOST_ROWS - (candidates & 0x7FFFFFFF)
    return torch.where(candidates == NOTHING, torch.full_like(ranks, -1), ranks)


@triton.jit
def _packed(scores, ranks):
    """Return what `candidates_of` does."""
    bits = tl.where(scores == 0.0, 0.0, scores).to(tl.int32, bitcast=True)
    rising = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (rising.to(tl.int64) << 32) | (0x7FFFFFFF - ranks.to(tl.int64))


@triton.jit
def _reach(thresholds):
    """Return what `scores_of` does, of thresholds: the scores that candidates have to reach."""
    rising = (thresholds >> 32).to(tl.int32)
    scores = (rising ^ ((rising >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)
    return tl.where(thresholds == -(1 << 63), float("-inf"), scores)


@triton.jit
def _hsum(lanes, ROWS: tl.constexpr):
    """Return the sums (ROWS,) of 16 lanes (ROWS, 16): lane i with lane i + 8, then with i + 4, i + 2 and i + 1."""
    low, high = tl.split(tl.permute(tl.reshape(lanes, [ROWS, 2, 8]), [0, 2, 1]))
    low, high = tl.split(tl.permute(tl.reshape(low + high, [ROWS, 2, 4]), [0, 2, 1]))
    low, high = tl.split(tl.permute(tl.reshape(low + high, [ROWS, 2, 2]), [0, 2, 1]))
    low, high = tl.split(low + high)
    return low + high
