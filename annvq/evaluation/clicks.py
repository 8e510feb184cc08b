"""Measures of predicted probabilities, and of lists of recommended items."""

from __future__ import annotations

import numpy as np

from annvq.errors import ParameterError, ShapeError


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the area under the ROC curve: how often a positive scores above a negative, where ties count half.

    It is computed from the rank sum of the positives (Mann and Whitney 1947).

    Parameters
    ----------
    scores
        (n,) finite numbers; larger ones are more likely positive.
    labels
        (n,) of 0 and 1, at least one of each.

    Raises
    ------
    ShapeError, ParameterError
        The arrays differ in length, all labels are alike, or scores are not finite.

    """
    scores, positive = _checked(scores, labels, "scores")
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        raise ParameterError(f"{positives} positive and {negatives} negative labels: expected both")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return float((ranks[place][positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean negative logarithm of the probability (n,) that was given to what happened (n,).

    Probabilities are clipped to a distance of 1e-7 from 0 and 1. Errors are those of `auc`, but labels may all be
    alike.
    """
    given, positive = _checked(probabilities, labels, "probabilities")
    p = np.clip(given, 1e-7, 1 - 1e-7)
    return float(-np.where(positive, np.log(p), np.log1p(-p)).mean())


def _checked(given: np.ndarray, labels: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return finite float64 numbers (n,), and which of them have the label 1 (n,)."""
    numbers, labels = np.asarray(given, np.float64), np.asarray(labels)
    if numbers.shape != labels.shape or numbers.ndim != 1:
        raise ShapeError(f"{name} {numbers.shape} and labels {labels.shape}, expected (n,) each")
    if not np.isfinite(numbers).all():
        raise ParameterError(f"{name} hold NaN or infinity: expected finite numbers")
    if not np.isin(labels, (0, 1)).all():
        raise ParameterError("labels: expected 0 and 1 only")
    return numbers, labels.astype(bool)


def recall_and_ndcg(found: np.ndarray, wanted: list[np.ndarray]) -> tuple[float, float]:
    """Return recall@k and nDCG@k of recommended items, as means over the users who want any.

    The ideal list has as many wanted items as fit into k (He et al. 2020, LightGCN's evaluation).

    Parameters
    ----------
    found
        (users, k) items, best first; -1 marks an empty place.
    wanted
        The items that each user wants.

    """
    users, k = found.shape
    counts = np.array([len(items) for items in wanted], np.int64)
    asked = counts > 0
    if not asked.any():
        return 0.0, 0.0
    every = np.concatenate(wanted)
    first = np.arange(users)[:, None] * (int(max(found.max(), every.max())) + 1)  # numbers a user's items
    hits = ((found >= 0) & np.isin(found + first, every + np.repeat(first[:, 0], counts)))[asked]
    discounts = 1 / np.log2(np.arange(k) + 2)
    ideal = np.cumsum(discounts)[np.minimum(counts[asked], k) - 1]
    return float((hits.sum(1) / counts[asked]).mean()), float((hits @ discounts / ideal).mean())
