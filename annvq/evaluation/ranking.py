"""Ranking measures against judgements: nDCG, MAP, recall, MRR, precision (BEIR's conventions).

``qrels`` is ``{query id: {document id: grade}}``; ``run`` is ``{query id: {document id: score}}``, and larger
scores come first. Values come from trec_eval's own code through pytrec_eval, with its conventions:

- equal scores are ordered by document id, *descending* (`run_from_ids` makes runs without ties); scores are compared
  as float64, and trec_eval, which would round them to float32, is given the ranks;
- gains are the grades themselves: DCG = sum of grade / log2(rank + 1) (trec_eval's ndcg_cut);
- a document counts as relevant from grade 1 on for the other measures;
- every judged query counts; one without results counts as 0 (plain pytrec_eval leaves it out of the
  mean, which flatters a system that returns nothing).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from annvq.arguments import as_flag
from annvq.errors import MissingExtraError, ParameterError, ShapeError

Qrels = Mapping[str, Mapping[str, int]]
Run = Mapping[str, Mapping[str, float]]

LARGEST_GRADE = 1_000_000  # trec_eval counts the documents of every grade up to the largest
LARGEST_RANK = 1_000_000_000  # of a cut: trec_eval takes longer numbers for others, without a word
DEFAULT_METRICS = ("ndcg@10", "recall@100", "mrr@10", "map@100")
_TREC_NAMES = {
    "ndcg": "ndcg_cut.{k}",
    "recall": "recall.{k}",
    "map": "map_cut.{k}",
    "precision": "P.{k}",
    "mrr": "recip_rank",
}


def evaluate(
    qrels: Qrels,
    run: Run,
    metrics: Sequence[str] = DEFAULT_METRICS,
    *,
    ignore_identical_ids: bool = False,
) -> dict[str, float]:
    """Return the mean of each measure over the judged queries.

    Parameters
    ----------
    qrels, run
        Judgements and results; see the module's docstring.
    metrics
        Names like "ndcg@10", of the kinds ndcg, recall, map, precision and mrr.
    ignore_identical_ids
        Whether to drop a document whose id is the query's, as BEIR does by default for ArguAna and Quora.
        It is off here, since in Cranfield, for instance, query 1 and document 1 merely share a name.

    Raises
    ------
    ParameterError
        A metric is unknown, an id is not text, a grade is not a whole number (or is beyond a million), or a
        score is not a number. trec_eval would crash or measure something else.
    MissingExtraError
        pytrec_eval is not installed.

    Examples
    --------
    >>> qrels = {"q1": {"d1": 1, "d2": 0}, "q2": {"d3": 1}}
    >>> run = annvq.evaluation.run_from_ids(["q1", "q2"], [["d1", "d2"], ["d1", "d3"]])
    >>> annvq.evaluation.evaluate(qrels, run, ["mrr@10", "recall@1"])
    {'mrr@10': 0.75, 'recall@1': 0.5}

    """
    metrics = _as_names(metrics)
    values = evaluate_per_query(qrels, run, metrics, ignore_identical_ids=ignore_identical_ids)
    return {
        metric: sum(query[metric] for query in values.values()) / len(values) if values else 0.0 for metric in metrics
    }


def evaluate_per_query(
    qrels: Qrels,
    run: Run,
    metrics: Sequence[str] = DEFAULT_METRICS,
    *,
    ignore_identical_ids: bool = False,
) -> dict[str, dict[str, float]]:
    """Return every measure of every judged query.

    Parameters
    ----------
    qrels, run, metrics, ignore_identical_ids
        The same as for `evaluate`.

    Returns
    -------
    dict
        ``{query id: {metric: value}}``.

    Raises
    ------
    ParameterError, MissingExtraError
        The same as for `evaluate`.

    """
    kinds = {metric: _parse(metric) for metric in _as_names(metrics)}
    ignore_identical_ids = as_flag("ignore_identical_ids", ignore_identical_ids)
    qrels, run = _as_mappings("qrels", qrels), _as_mappings("run", run)
    results = {qid: _results(qid, run, ignore_identical_ids) for qid in qrels}
    measured = _trec_eval(qrels, results, {_trec_name(*kind) for kind in kinds.values() if kind[0] != "mrr"})
    # trec_eval's recip_rank knows no cut: each cut is a run of its own.
    reciprocal = {
        k: _trec_eval(qrels, {qid: docs[:k] for qid, docs in results.items()}, {"recip_rank"})
        for kind, k in kinds.values()
        if kind == "mrr"
    }
    return {
        qid: {
            metric: (reciprocal[k] if kind == "mrr" else measured)
            .get(qid, {})
            .get(_trec_name(kind, k).replace(".", "_"), 0.0)
            for metric, (kind, k) in kinds.items()
        }
        for qid in qrels
    }


def ndcg(qrels: Qrels, run: Run, k: int = 10) -> float:
    """Return the mean normalized discounted cumulative gain at rank k (linear gains).

    Parameters
    ----------
    qrels, run
        Judgements and results, as for `evaluate`.
    k
        The number of documents of each query that count, best first; at least 1.

    Raises
    ------
    ParameterError, MissingExtraError
        The same as for `evaluate`.

    Examples
    --------
    >>> qrels = {"q1": {"d1": 1, "d2": 0}, "q2": {"d3": 1}}
    >>> run = {"q1": {"d1": 0.9, "d2": 0.4}, "q2": {"d1": 0.7, "d3": 0.6}}
    >>> round(annvq.evaluation.ndcg(qrels, run), 3)
    0.815

    """
    return evaluate(qrels, run, [f"ndcg@{k}"])[f"ndcg@{k}"]


def mrr(qrels: Qrels, run: Run, k: int = 10) -> float:
    """Return the mean reciprocal rank of the first relevant document, which is 0 beyond rank k.

    Parameters
    ----------
    qrels, run, k
        The same as for `ndcg`.

    Raises
    ------
    ParameterError, MissingExtraError
        The same as for `evaluate`.

    Examples
    --------
    >>> qrels = {"q1": {"d1": 1, "d2": 0}, "q2": {"d3": 1}}
    >>> run = {"q1": {"d1": 0.9, "d2": 0.4}, "q2": {"d1": 0.7, "d3": 0.6}}
    >>> round(annvq.evaluation.mrr(qrels, run), 3)
    0.75

    """
    return evaluate(qrels, run, [f"mrr@{k}"])[f"mrr@{k}"]


def mean_average_precision(qrels: Qrels, run: Run, k: int = 100) -> float:
    """Return the mean average precision at rank k.

    Parameters
    ----------
    qrels, run, k
        The same as for `ndcg`.

    Raises
    ------
    ParameterError, MissingExtraError
        The same as for `evaluate`.

    Examples
    --------
    >>> qrels = {"q1": {"d1": 1, "d2": 0}, "q2": {"d3": 1}}
    >>> run = {"q1": {"d1": 0.9, "d2": 0.4}, "q2": {"d1": 0.7, "d3": 0.6}}
    >>> round(annvq.evaluation.mean_average_precision(qrels, run), 3)
    0.75

    """
    return evaluate(qrels, run, [f"map@{k}"])[f"map@{k}"]


def qrel_recall(qrels: Qrels, run: Run, k: int = 100) -> float:
    """Return the mean share of the relevant documents that are found among the first k.

    `annvq.evaluation.recall` is another measure: it compares with exact neighbours and knows no judgements.

    Parameters
    ----------
    qrels, run, k
        The same as for `ndcg`.

    Raises
    ------
    ParameterError, MissingExtraError
        The same as for `evaluate`.

    Examples
    --------
    >>> qrels = {"q1": {"d1": 1, "d2": 0}, "q2": {"d3": 1}}
    >>> run = {"q1": {"d1": 0.9, "d2": 0.4}, "q2": {"d1": 0.7, "d3": 0.6}}
    >>> round(annvq.evaluation.qrel_recall(qrels, run, k=1), 3)
    0.5

    """
    return evaluate(qrels, run, [f"recall@{k}"])[f"recall@{k}"]


def run_from_ids(query_ids: Sequence[str], found: Iterable[Iterable[Any]]) -> dict[str, dict[str, float]]:
    """Make a run that keeps the order of the given ids, whatever their scores.

    Compressed codes give equal scores to different documents, and trec_eval would reorder them by
    document id. Here the score is minus the rank, so that what the index returned is what is
    measured. Missing places (id -1, None) are left out; if a document
    stands at several places, the first counts.

    Parameters
    ----------
    query_ids
        nq names, no two alike.
    found
        (nq, k) document ids, best first: integers or strings.

    Raises
    ------
    ParameterError
        Two queries have the same name, there are not as many names as rows, or an id is neither an integer nor text.
    ShapeError
        ``found`` does not have a row of ids for each query.

    Examples
    --------
    >>> annvq.evaluation.run_from_ids(["q1", "q2"], [["d1", "d2"], ["d3", None]])
    {'q1': {'d1': -0.0, 'd2': -1.0}, 'q2': {'d3': -0.0}}

    """
    names, rows = _listed(query_ids, found)
    run: dict[str, dict[str, float]] = {}
    for qid, row in zip(names, rows):
        if qid in run:
            raise ParameterError(f"query id {qid!r} is given twice: one's results would take the place of the other's")
        run[qid] = documents = {}
        for rank, key in enumerate(row):
            if not (key is None or key == -1):
                documents.setdefault(str(key), -float(rank))
    return run


def _places(row: Any) -> list[Any]:
    """Return a row's ids as a list; TypeError if it is not a row, ParameterError if it holds anything else."""
    places = row.tolist() if hasattr(row, "tolist") else None if isinstance(row, str | bytes) else list(row)
    if not isinstance(places, list):
        raise TypeError
    for key in places:
        if not (key is None or isinstance(key, str | int | np.integer)) or isinstance(key, bool):
            raise ParameterError(
                f"id {key!r} of {type(key).__name__}: expected integers or strings, None where missing"
            )
    return places


def _listed(query_ids: Iterable[str], found: Iterable[Iterable[Any]]) -> tuple[list[str], list[list[Any]]]:
    try:
        names, rows = [_checked_id(name) for name in query_ids], [_places(row) for row in found]
    except TypeError:
        raise ShapeError("expected the queries' names, and for each of them the ids found, best first") from None
    if len(names) != len(rows):
        raise ParameterError(f"{len(names)} query ids for the results of {len(rows)} queries: expected as many")
    return names, rows


def _as_names(metrics: Sequence[str]) -> list[str]:
    if not isinstance(metrics, list | tuple | set | dict) or not all(isinstance(metric, str) for metric in metrics):
        raise ParameterError(f"metrics must be a list of names such as 'ndcg@10', not {metrics!r}")
    return list(metrics)


def _as_mappings(name: str, given: Any) -> Any:
    if not isinstance(given, Mapping) or not all(isinstance(row, Mapping) for row in given.values()):
        raise ParameterError(f"{name} must be {{query id: {{document id: number}}}}, not {type(given).__name__}")
    return given


def _parse(metric: str) -> tuple[str, int]:
    kind, at, cut = metric.partition("@")
    is_rank = cut.isdecimal() and len(cut) <= len(str(LARGEST_RANK)) and 1 <= int(cut) <= LARGEST_RANK
    if kind not in _TREC_NAMES or not at or not is_rank:
        kinds = ", ".join(f"{name}@K" for name in _TREC_NAMES)
        raise ParameterError(f"unknown metric {metric!r}: expected one of {kinds} with K from 1 to {LARGEST_RANK:,}")
    return kind, int(cut)


def _trec_name(kind: str, k: int) -> str:
    return _TREC_NAMES[kind].format(k=k)


def _results(qid: str, run: Run, ignore_identical_ids: bool) -> list[str]:
    """Return a query's documents in trec_eval's order: score descending, then document id descending."""
    documents = {_checked_id(key): _checked_score(score) for key, score in run.get(qid, {}).items()}
    if ignore_identical_ids:
        documents.pop(qid, None)
    return sorted(documents, key=lambda key: (documents[key], key), reverse=True)


def _trec_eval(qrels: Qrels, results: Mapping[str, Sequence[str]], names: set[str]) -> dict[str, dict[str, float]]:
    """Return trec_eval's values for ordered documents; the scores are ranks, exact in float32 up to 2^24."""
    try:
        import pytrec_eval
    except ImportError:
        raise MissingExtraError("pytrec-eval-terrier", "eval") from None
    if not names:
        return {}
    plain = {
        _checked_id(qid): {_checked_id(key): _checked_grade(grade) for key, grade in documents.items()}
        for qid, documents in qrels.items()
    }
    placed = {qid: {key: -float(rank) for rank, key in enumerate(keys)} for qid, keys in results.items()}
    return pytrec_eval.RelevanceEvaluator(plain, names).evaluate(placed)


def is_plain_text(key: str) -> bool:
    """Return whether trec_eval can hold an id; it truncates at NUL, and crashes on half a surrogate pair."""
    return "\0" not in key and (key.isascii() or key.encode(errors="replace").decode() == key)


def _checked_id(key: Any) -> str:
    if not isinstance(key, str):
        raise ParameterError(f"ids of queries and documents are str, not {type(key).__name__}: {key!r}")
    if not is_plain_text(key):
        raise ParameterError(f"id {key!r}: expected valid Unicode without NUL")
    return key


def _checked_grade(grade: Any) -> int:
    try:
        whole = int(grade)
    except (TypeError, ValueError, OverflowError):
        raise ParameterError(f"grade {grade!r}: expected a whole number") from None
    if whole != grade or abs(whole) > LARGEST_GRADE:
        raise ParameterError(f"grade {grade!r}: expected a whole number of at most {LARGEST_GRADE:,}")
    return whole


def _checked_score(score: Any) -> float:
    try:
        number = float(score)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if math.isnan(number):
        raise ParameterError(f"score {score!r}: expected a number, by which documents can be ordered")
    return number
