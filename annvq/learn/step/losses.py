"""Losses over scores (B, P) of B queries and P documents: pairs weighted by rank, contrast, distillation.

Every function returns a scalar, the mean over the queries that have something to learn from; 0 if none has. Masks are
(B, P) bool. Scores are divided by ``temperature`` first: those of unit vectors lie within a few tenths of each other,
where no loss would tell a good order from a bad one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from annvq.learn.runtime import torch

if TYPE_CHECKING:
    from torch import Tensor

_FAR = -1e9  # a score that softmax turns into 0


def lambda_rank(
    scores: Tensor, relevant: Tensor, negatives: Tensor, ranks: Tensor, cut: int, temperature: float
) -> Tensor:
    """Return the pairwise loss weighted by the change in MRR@cut that exchanging two documents would make.

    log(1 + exp(s_neg - s_pos)) |1/rank_neg - 1/rank_pos| for every relevant document and every negative that
    the search ranked within ``cut`` (Burges et al. 2010, "From RankNet to LambdaRank"; Zhan et al. 2021 (JPQ),
    section 3.3).

    Parameters
    ----------
    scores
        (B, P), with gradients.
    relevant, negatives
        Which documents are relevant to a query, and which ones the search found that are not.
    ranks
        (B, P) int64: the document's rank in the search, from 1; 0 if it was not found.

    """
    gains = torch.where((ranks > 0) & (ranks <= cut), 1.0 / ranks.clamp_min(1), 0.0).to(scores.dtype)
    query, place = relevant.nonzero(as_tuple=True)
    usable = negatives[query] & (ranks[query] <= cut)
    if not usable.any():
        return scores.sum() * 0.0
    difference = (scores[query] - scores[query, place][:, None]) / temperature
    weights = (gains[query] - gains[query, place][:, None]).abs() * usable
    losses = (torch.nn.functional.softplus(difference) * weights).sum(1)
    return losses.sum() / len(torch.unique(query[usable.any(1)]))


def contrastive(scores: Tensor, relevant: Tensor, usable: Tensor, temperature: float) -> Tensor:
    """Return the cross-entropy of relevant documents against all usable ones that are not relevant.

    Other relevant documents of the same query count on neither side; losses are averaged per query first.
    """
    query, place = relevant.nonzero(as_tuple=True)
    if len(query) == 0:
        return scores.sum() * 0.0
    own = scores[query, place] / temperature
    others = (scores / temperature).masked_fill(relevant | ~usable, _FAR)
    total = torch.logaddexp(own, torch.logsumexp(others, 1)[query])
    counts = relevant.sum(1)
    return ((total - own) / counts[query]).sum() / (counts > 0).sum()


def listnet(scores: Tensor, teacher: Tensor, usable: Tensor, temperature: float) -> Tensor:
    """Return the cross-entropy of the teacher's and the student's softmax (Xiao et al. 2022, equation 12)."""
    wanted, given = _softmaxes(scores, teacher, usable, temperature)
    return _mean(-(wanted.exp() * given).sum(1), usable)


def kl(scores: Tensor, teacher: Tensor, usable: Tensor, temperature: float) -> Tensor:
    """Return the Kullback-Leibler divergence of the student's softmax from the teacher's (equation 11)."""
    wanted, given = _softmaxes(scores, teacher, usable, temperature)
    return _mean((wanted.exp() * (wanted - given)).sum(1), usable)


def ranknet(scores: Tensor, teacher: Tensor, usable: Tensor, temperature: float) -> Tensor:
    """Return the pairwise loss weighted by the teacher's differences (equation 9), over pairs it does not tie.

    Memory grows with the square of the largest number of usable documents per query.
    """
    most = int(usable.sum(1).max())
    first = usable.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :most]
    scores, teacher, usable = (values.gather(1, first) for values in (scores, teacher, usable))
    scores, teacher = scores / temperature, teacher / temperature
    better = (teacher[:, :, None] - teacher[:, None, :]).clamp_min(0) * (usable[:, :, None] & usable[:, None, :])
    losses = torch.nn.functional.softplus(scores[:, None, :] - scores[:, :, None]) * better
    return _mean(losses.sum((1, 2)) / better.sum((1, 2)).clamp_min(1e-12), usable)


def margin_mse(scores: Tensor, teacher: Tensor, usable: Tensor, temperature: float) -> Tensor:
    """Return the squared error of differences from each query's mean, which equals that of all pairs' margins."""
    counts = usable.sum(1, keepdim=True).clamp_min(1)
    error = ((scores - teacher) / temperature).masked_fill(~usable, 0.0)
    centred = (error - error.sum(1, keepdim=True) / counts).masked_fill(~usable, 0.0)
    return _mean(2 * centred.square().sum(1) / counts[:, 0], usable)


DISTILLATIONS = {"listnet": listnet, "kl": kl, "ranknet": ranknet, "margin-mse": margin_mse}


def _softmaxes(scores: Tensor, teacher: Tensor, usable: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return the logarithms of the teacher's and the student's softmax over the usable documents."""
    logs = [torch.log_softmax((s / temperature).masked_fill(~usable, _FAR), 1) for s in (teacher, scores)]
    return logs[0], logs[1]


def _mean(losses: Tensor, usable: Tensor) -> Tensor:
    has_any = usable.any(1)
    return (losses * has_any).sum() / has_any.sum().clamp_min(1)
