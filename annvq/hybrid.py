"""Hybrid search: the ranked lists of several searches (of vectors, of words) joined into one.

A *ranking* is what one search returned for every query, best first, in any of these forms:

- `annvq.Hits`;
- a pair of arrays (ids, scores), each (nq, k);
- a list with one list of (id, score) pairs per query;
- the results of a bm25s retriever, whose documents are ids: ``retriever.retrieve(tokens, corpus=ids)``, or
  `from_bm25s` of results that hold row numbers.

Larger scores are better. Ids are integers or strings, the same kind in all rankings. Places with the id -1 or None, or
with the score -inf, are missing. If an id stands twice in a query's list, its first place counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from annvq.arguments import as_count, as_weight
from annvq.errors import DtypeError, NonFiniteError, ParameterError, ShapeError
from annvq.hits import Hits

__all__ = ["from_bm25s", "reciprocal_rank_fusion", "weighted_scores"]

RANK_CONSTANT = 60.0  # of Cormack et al.: ranks count much the same up to about here, and less beyond

_Ranked = list[tuple[Any, float]]


def reciprocal_rank_fusion(*rankings: Any, k: int = 10, constant: float = RANK_CONSTANT) -> Hits:
    """Join rankings by the ranks of their hits, whatever the scores mean.

    An id scores the sum of 1 / (constant + rank) over the rankings that hold it, where ranks count from 1 (Cormack,
    Clarke and Buettcher, "Reciprocal rank fusion outperforms Condorcet and individual rank learning methods", SIGIR
    2009).

    Parameters
    ----------
    rankings
        At least one ranking, see the module; all are of the same queries.
    k
        How many hits to return per query. The rankings should hold more, for instance 100.
    constant
        At least 0; the larger it is, the less the first ranks count for more than those behind them.

    Returns
    -------
    Hits
        The k best ids of every query by their joint scores, ties by id.

    Raises
    ------
    ParameterError, ShapeError, DtypeError, NonFiniteError
        The rankings are none, or of different numbers of queries or kinds of ids, or not best first.

    Examples
    --------
    >>> of_vectors = [[("a", 0.9), ("b", 0.8), ("c", 0.1)]]
    >>> of_words = [[("b", 7.5), ("d", 2.0)]]
    >>> annvq.hybrid.reciprocal_rank_fusion(of_vectors, of_words, k=2).ids.tolist()
    [['b', 'a']]

    """
    constant = as_weight("constant", constant)
    return _joined([[_by_rank(hits, constant) for hits in ranking] for ranking in _read(rankings)], k)


def weighted_scores(*rankings: Any, weights: Sequence[float], k: int = 10) -> Hits:
    """Join rankings by the weighted sums of their scores, which are scaled to 0..1 per ranking and query.

    A query's best hit in a ranking scores 1 there and its worst 0 (min-max normalization); an id that the ranking
    lacks scores 0, and if all of its scores are equal, they are 1. How far down a ranking goes therefore matters:
    take equally many hits from all, for instance 100.

    Parameters
    ----------
    rankings
        At least one ranking, see the module; all are of the same queries.
    weights
        A number of at least 0 per ranking, not all of which are 0. Choose them on queries with judgements that are not
        those on which results are reported.
    k
        How many hits to return per query.

    Returns
    -------
    Hits
        The k best ids of every query by their joint scores, ties by id.

    Raises
    ------
    ParameterError, ShapeError, DtypeError, NonFiniteError
        As for `reciprocal_rank_fusion`; or the weights do not fit the rankings.

    Examples
    --------
    >>> of_vectors = [[("a", 0.9), ("b", 0.8), ("c", 0.1)]]
    >>> of_words = [[("b", 7.5), ("d", 2.0)]]
    >>> annvq.hybrid.weighted_scores(of_vectors, of_words, weights=[0.5, 0.5], k=2).to_lists()
    [[('b', 0.9375), ('a', 0.5)]]

    """
    shares = [as_weight("weights", weight) for weight in _listed("weights", weights)]
    if len(shares) != len(rankings) or not any(shares):
        raise ParameterError(
            f"weights = {shares} for {len(rankings)} rankings: expected a number per ranking, not all of them 0"
        )
    parts = zip(_read(rankings), shares, strict=True)
    return _joined([[_by_score(hits, share) for hits in ranking] for ranking, share in parts], k)


def from_bm25s(results: Any, ids: Any = None) -> Hits:
    """Return what a bm25s retriever found as hits, without the documents that share no word with the query.

    Parameters
    ----------
    results
        What ``retriever.retrieve`` returned: documents and scores, each (nq, k).
    ids
        The id of every document of the retriever's corpus, in its order, for results that hold row numbers. By
        default the documents in the results are ids.

    Raises
    ------
    ShapeError, ParameterError, DtypeError
        The results are not arrays (nq, k), or name rows that ``ids`` does not have.

    Examples
    --------
    >>> documents, scores = np.array([[2, 0, 1]]), np.array([[7.5, 2.0, 0.0]])  # as retriever.retrieve returns them
    >>> annvq.hybrid.from_bm25s((documents, scores), ids=["a", "b", "c"]).to_lists()
    [[('c', 7.5), ('a', 2.0)]]

    """
    found, scores = _pair(results)
    missing = np.asarray(scores) == 0  # bm25s fills up with documents that score 0
    if ids is not None:
        if found.dtype.kind not in "iu":
            raise DtypeError(f"results of {found.dtype}, expected row numbers: leave ids out if they hold ids")
        labels = np.asarray(ids)
        if labels.ndim != 1 or (found.size and not 0 <= found.min() <= found.max() < len(labels)):
            raise ParameterError(f"ids of shape {labels.shape} for results that name row {found.max()}: one per row")
        found = labels[found]
    of_words = found.dtype.kind not in "iu"
    found = found.astype(object if of_words else np.int64)
    found[missing] = None if of_words else -1
    return Hits(found, np.where(missing, -np.inf, scores).astype(np.float32))


def _read(rankings: Sequence[Any]) -> list[list[_Ranked]]:
    """Return every ranking as a list of (id, score) pairs per query, without what is missing."""
    if not rankings:
        raise ParameterError("no rankings to join: expected at least one")
    made = [_ranking(given, f"ranking {number}") for number, given in enumerate(rankings)]
    if len({len(ranking) for ranking in made}) > 1:
        raise ShapeError(f"rankings of {', '.join(str(len(one)) for one in made)} queries: expected as many in all")
    kinds = {type(key) for ranking in made for hits in ranking for key, _ in hits}
    if len(kinds) > 1:
        raise DtypeError("ids are integers in one place and strings in another: expected one kind in all rankings")
    return made


def _ranking(given: Any, name: str) -> list[_Ranked]:
    if hasattr(given, "documents"):
        given = from_bm25s(given)
    if isinstance(given, tuple) or hasattr(given, "ids"):
        ids, scores = _pair(given)
        rows = [zip(*row, strict=True) for row in zip(ids.tolist(), scores.tolist(), strict=True)]
    else:
        rows = _listed(name, given)
    return [_hits(row, f"{name}, query {q}") for q, row in enumerate(rows)]


def _pair(given: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and scores, (nq, k) each, of hits, a pair of arrays, or bm25s' results."""
    both = (given.ids, given.scores) if hasattr(given, "ids") else tuple(given)
    if len(both) != 2:
        raise ShapeError(f"a tuple of {len(both)}: expected a pair of arrays, ids and scores")
    ids, scores = (np.asarray(part) for part in both)
    if ids.ndim != 2 or ids.shape != scores.shape:
        raise ShapeError(f"ids {ids.shape} and scores {scores.shape}: expected two arrays (nq, k)")
    return ids, scores


def _hits(row: Iterable[Any], where: str) -> _Ranked:
    """Return the (id, score) pairs of one query, best first and without what is missing; ids are int or str."""
    made: dict[Any, float] = {}
    scores = []
    for pair in _listed(where, row):
        try:
            key, score = pair
            score = float(score)
        except (TypeError, ValueError):
            raise ShapeError(f"{where}: {pair!r}, expected a pair (id, score)") from None
        if key is None or score == -math.inf or (isinstance(key, int | np.integer) and key == -1):
            continue
        if not math.isfinite(score):
            raise NonFiniteError(f"{where}: score {score} of id {key!r}, expected a finite number")
        if isinstance(key, bool | np.bool_) or not isinstance(key, str | int | np.integer):
            raise DtypeError(f"{where}: id {key!r} of {type(key).__name__}, expected an integer or a string")
        scores.append(score)
        made.setdefault(str(key) if isinstance(key, str) else int(key), score)
    if any(later > earlier for earlier, later in pairwise(scores)):
        raise ParameterError(f"{where} is not best first: scores must not rise, and larger is better")
    return list(made.items())


def _listed(name: str, given: Any) -> list[Any]:
    if isinstance(given, str | bytes | dict) or not isinstance(given, Iterable):
        raise ShapeError(f"{name}: {type(given).__name__}, expected hits, a pair of arrays, or a list")
    return list(given)


def _by_rank(hits: _Ranked, constant: float) -> dict[Any, float]:
    return {key: 1.0 / (constant + rank) for rank, (key, _) in enumerate(hits, 1)}


def _by_score(hits: _Ranked, weight: float) -> dict[Any, float]:
    if not hits:
        return {}
    best, worst = hits[0][1], hits[-1][1]
    span = best - worst
    return {key: weight * ((score - worst) / span if span > 0 else 1.0) for key, score in hits}


def _joined(parts: list[list[dict[Any, float]]], k: int) -> Hits:
    """Return the k best ids of every query by the sums of their parts."""
    k, count = as_count("k", k, most=1 << 24), len(parts[0])
    of_words = any(isinstance(key, str) for part in parts for hits in part for key in hits)
    ids = np.full((count, k), None if of_words else -1, object if of_words else np.int64)
    scores = np.full((count, k), -np.inf, np.float32)
    for q in range(count):
        totals: dict[Any, float] = {}
        for part in parts:
            for key, score in part[q].items():
                totals[key] = totals.get(key, 0.0) + score
        # Rounded first: sums of the same parts in another order are ties.
        best = sorted(((-np.float32(total), key) for key, total in totals.items()))[:k]
        ids[q, : len(best)] = [key for _, key in best]
        scores[q, : len(best)] = [-total for total, _ in best]
    return Hits(ids, scores)
