"""Arg-max over codes: matrix products propose candidates, and sums in a fixed order decide.

A matrix product of torch's may round the same code differently in another column, block, thread count or machine. So it
only names the codes that can be the best, those within its rounding error of the largest; if there are several, each is
scored again by element-wise operations alone, and equal scores go to the lowest code. What is chosen then follows from
the numbers given and from nothing else.

Codes are compared block after block of columns, so that memory does not grow with rows x codes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from annvq.learn.runtime import torch

if TYPE_CHECKING:
    from torch import Tensor

    Score = Callable[[Tensor, Tensor, Tensor], Tensor]

_BLOCK = 1 << 22  # numbers held in memory at a time
_LEAST_COLUMNS = 16
# relative error of one product if the device is allowed to multiply float32 in fewer digits
_ROUGH = {"highest": 0.0, "high": 2.0**-9, "medium": 2.0**-6}


@torch.no_grad()
def least_distance(rows: Tensor, codes: Tensor) -> Tensor:
    """Return the codes (..., n) int64 of least squared distance from rows; of equal ones the lowest.

    Parameters
    ----------
    rows, codes
        (..., n, d) and (..., k, d) of one floating dtype and the same leading axes, finite; k >= 1.

    """
    shape = rows.shape[:-1]
    rows, codes = _stacked(rows), _stacked(codes)
    shift = codes.mean(1, keepdim=True)  # far from the origin, products would have too few digits
    near, moved = rows - shift, codes - shift
    bias = moved.square().sum(2) / -2
    size, reach = moved.norm(dim=2).amax(1, keepdim=True), near.norm(dim=2)
    # the second term is for the rounding of what decides, which is relative to the distance
    margin = _margin(near, size * (reach + size))
    margin += 2 * torch.finfo(rows.dtype).eps * (_levels(rows.shape[2]) + 4) * (reach + size).square()

    def score(of: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return -tree_sum((rows[of, i] - codes[of, j]).square())

    return _decide(near, moved, bias, margin, _in_parts(score, rows.shape[2])).reshape(shape)


@torch.no_grad()
def largest_logit(rows: Tensor, weights: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the codes (..., n) int64 of the largest ``rows @ weights.T + bias``; of equal ones the lowest.

    Parameters
    ----------
    rows, weights
        (..., n, d) and (..., k, d) of one floating dtype and the same leading axes, finite; k >= 1.
    bias
        (..., k); None: 0.

    """
    shape = rows.shape[:-1]
    rows, weights = _stacked(rows), _stacked(weights)
    added = weights.new_zeros(weights.shape[:2]) if bias is None else bias.to(weights.dtype).reshape(weights.shape[:2])
    largest = added.abs().amax(1, keepdim=True)
    margin = _margin(rows, rows.norm(dim=2) * weights.norm(dim=2).amax(1, keepdim=True) + largest)

    def score(of: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return tree_sum(rows[of, i] * weights[of, j]) + added[of, j]

    return _decide(rows, weights, added, margin, _in_parts(score, rows.shape[2])).reshape(shape)


def tree_sum(values: Tensor) -> Tensor:
    """Return the sums over the last axis, which is not empty, by halves: in the same order on every machine."""
    while values.shape[-1] > 1:
        half = values.shape[-1] // 2
        sums = values[..., :half] + values[..., half : 2 * half]
        values = torch.cat([sums, values[..., 2 * half :]], -1) if values.shape[-1] % 2 else sums
    return values[..., 0]


def _in_parts(score: Score, d: int) -> Score:
    """Return a function that scores pairs in batches."""
    size = max(1, _BLOCK // max(1, d))

    def scores(of: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return torch.cat([score(*part) for part in zip(of.split(size), i.split(size), j.split(size))])

    return scores


def _stacked(values: Tensor) -> Tensor:
    """Return (b, n, d) values, of at least float32."""
    values = values.detach().to(torch.promote_types(values.dtype, torch.float32))
    return values.reshape(values.shape[:-2].numel(), *values.shape[-2:])


def _levels(d: int) -> int:
    """Return the depth of `tree_sum`: how many of its additions follow one another."""
    return (d - 1).bit_length()


def _margin(rows: Tensor, size: Tensor) -> Tensor:
    """Return how far two logits may be off (b, n), if no sum of absolute products is above ``size`` (b, n).

    In any order, d products are off by at most d units of rounding of the sum of their absolute values (Higham 2002,
    "Accuracy and stability of numerical algorithms", section 3.1); this is four times what two such sums take.
    """
    kind, d = torch.finfo(rows.dtype), rows.shape[2]
    rough = _ROUGH[torch.get_float32_matmul_precision()] if rows.dtype == torch.float32 else 0.0
    return 4 * ((d + 8) * kind.eps + rough) * size + d * kind.tiny


def _decide(rows: Tensor, weights: Tensor, bias: Tensor, margin: Tensor, score: Score) -> Tensor:
    """Return the codes (b, n) of the largest score, among those whose logits come within ``margin`` of the largest."""
    b, n, _ = rows.shape
    codes = torch.zeros(b, n, dtype=torch.int64, device=rows.device)
    held, best = (rows.new_full((b, n), -torch.inf) for _ in range(2))  # logits of the codes held; the largest so far
    step = max(_LEAST_COLUMNS, _BLOCK // max(1, b * n))
    for start in range(0, weights.shape[1] if codes.numel() else 0, step):
        part = slice(start, start + step)
        with torch.autocast(rows.device.type, enabled=False):
            logits = torch.baddbmm(bias[:, None, part], rows, weights[:, part].mT)
        first, places = logits.max(2)
        best = torch.maximum(best, first)
        least = best - margin
        logits.scatter_(2, places[..., None], -torch.inf)
        rivals = (logits.amax(2) >= least) | ((held >= least) & (first >= least))
        logits.scatter_(2, places[..., None], first[..., None])
        taken = (first >= least) & (held < least)
        codes = torch.where(taken, places + start, codes)
        before, held = held, torch.where(taken, first, held)
        of, i = rivals.nonzero().unbind(1)
        if len(of):
            stays = before[of, i] >= least[of, i]
            near = logits[of, i] >= least[of, i, None]
            found = _contest(codes[of, i], stays, near, start, lambda a, js, of=of, i=i: score(of[a], i[a], js))
            codes[of, i] = found
            inside = logits[of, i, (found - start).clamp_min(0)]
            held[of, i] = torch.where(found >= start, inside, before[of, i])
    return codes


def _contest(
    codes: Tensor, stays: Tensor, near: Tensor, start: int, score: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Return the codes (m,) of the largest score: of those held that stay, and of the columns that are near.

    Parameters
    ----------
    codes, stays
        (m,) codes held, all below ``start``, and whether they are still in the contest.
    near
        (m, columns) whether the code ``start + column`` is in it.
    score
        Returns the scores (p,) of rows (p,), 0 to m - 1, and codes (p,).

    """
    again, columns = near.nonzero().unbind(1)
    kept = stays.nonzero()[:, 0]
    owners, named = torch.cat([kept, again]), torch.cat([codes[kept], columns + start])
    scores = score(owners, named).nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    top = scores.new_full(codes.shape, -torch.inf).scatter_reduce_(0, owners, scores, "amax")
    is_best = scores == top[owners]
    most = torch.full_like(codes, torch.iinfo(torch.int64).max)
    return most.scatter_reduce_(0, owners[is_best], named[is_best], "amin")
