"""Recall of approximate against exact neighbours (for recall of judged documents, see `qrel_recall`)."""

from __future__ import annotations

import numpy as np

from annvq.arguments import as_array, as_count, as_weight
from annvq.errors import DtypeError, ShapeError

_IDS, _SCORES = "ids (nq, k)", "real numbers (nq, k)"


def recall(found: np.ndarray, exact: np.ndarray, k: int | None = None) -> float:
    """Return the mean share of the exact k neighbours that were found: ``|found ∩ exact| / k``.

    An id counts once, however often it was returned. Missing places (id -1, None) count as
    not found. If fewer than k exact neighbours exist, the share is of those.

    Parameters
    ----------
    found
        (nq, >= k) ids, integers or strings, best first.
    exact
        (nq, >= k) ids of the true neighbours, best first.
    k
        How many are compared; by default all columns of ``exact``.

    Raises
    ------
    ShapeError, ParameterError
        The arrays are not (nq, k) for as many queries, or ``k`` is more than the columns of ``exact``.

    Examples
    --------
    >>> annvq.evaluation.recall(found=[[4, 7], [2, 9]], exact=[[4, 7], [2, 5]])
    0.75

    """
    found, exact = as_array("found", found, _IDS), as_array("exact", exact, _IDS)
    k = _checked_k(found, exact, k)
    shares = []
    for approximate, true in zip(found[:, :k].tolist(), exact[:, :k].tolist()):
        wanted = {key for key in true if not _missing(key)}
        if wanted:
            shares.append(len(wanted.intersection(approximate)) / len(wanted))
    return float(np.mean(shares)) if shares else 0.0


def recall_with_ties(
    found: np.ndarray,
    found_scores: np.ndarray,
    exact_scores: np.ndarray,
    k: int | None = None,
    *,
    eps: float = 1e-6,
) -> float:
    """Return the mean share of places whose score is as good as that of the k-th exact neighbour.

    A returned id counts if its score is at least the k-th exact score less ``eps`` times its
    magnitude, so that any of several equidistant neighbours is right (the rule of ann-benchmarks,
    with a relative tolerance). An id that is returned twice counts once.

    Parameters
    ----------
    found
        (nq, >= k) ids, used only to count repeated ones once.
    found_scores
        (nq, >= k) true scores of the returned ids, computed again from the vectors
        (`annvq.evaluation.exact_scores`): an index's own estimates would let errors pass.
    exact_scores
        (nq, >= k) scores of the true neighbours, descending; -inf beyond the last.
    k, eps
        How many places are compared, and the relative tolerance.

    Raises
    ------
    ShapeError, ParameterError
        The arrays do not fit each other, or ``k`` is more than the columns of ``exact_scores``.
    DtypeError
        Scores are not real numbers.

    Examples
    --------
    >>> annvq.evaluation.recall_with_ties(found=[[4, 9]], found_scores=[[3.0, 2.0]], exact_scores=[[3.0, 2.0]])
    1.0

    """
    found, found_scores = as_array("found", found, _IDS), _scores("found_scores", found_scores)
    exact_scores, eps = _scores("exact_scores", exact_scores), as_weight("eps", eps)
    k = _checked_k(found, exact_scores, k)
    if found_scores.shape != found.shape:
        raise ShapeError(f"found_scores have shape {found_scores.shape}, found has {found.shape}")
    shares = []
    for ids, scores, true in zip(found[:, :k].tolist(), found_scores[:, :k], exact_scores[:, :k]):
        true = true[np.isfinite(true)]
        if len(true):
            threshold = true[-1] - eps * abs(true[-1])
            right = {key for key, score in zip(ids, scores) if score >= threshold and not _missing(key)}
            shares.append(min(len(right), len(true)) / len(true))
    return float(np.mean(shares)) if shares else 0.0


def _missing(key: object) -> bool:
    return key is None or key == -1


def _checked_k(found: np.ndarray, exact: np.ndarray, k: int | None) -> int:
    if found.ndim != 2 or exact.ndim != 2 or len(found) != len(exact):
        shapes = f"{found.shape} and {exact.shape}"
        raise ShapeError(f"expected two (nq, k) arrays of as many queries, got {shapes}")
    given: int = exact.shape[1]
    if not given:
        raise ShapeError("no exact neighbours to compare with: expected at least one column")
    return given if k is None else as_count("k", k, most=given)


def _scores(name: str, scores: np.ndarray) -> np.ndarray:
    given = as_array(name, scores, _SCORES)
    if given.dtype.kind not in "fiu":
        raise DtypeError(f"{name}: dtype {given.dtype}, expected {_SCORES}")
    return given
