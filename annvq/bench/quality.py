"""Retrieval quality, size and speed of recipes on embeddings with judgements."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import annvq
from annvq.bench.timing import time_batches
from annvq.evaluation import evaluate, exact_neighbors, exact_scores, recall_with_ties, run_from_ids
from annvq.evaluation.ranking import DEFAULT_METRICS, evaluate_per_query
from annvq.index.warmup import warmup

DEPTH = 100  # documents retrieved per query
_NEIGHBORS = 10
AGREEMENT = f"recall@{_NEIGHBORS}_vs_exact"


@dataclass(frozen=True)
class JudgedVectors:
    """Embeddings and what is known about them.

    Parameters
    ----------
    documents, queries
        (n, d) and (nq, d) float32 of unit length.
    document_ids, query_ids
        Their names.
    qrels
        ``{query id: {document id: grade}}``.

    """

    documents: np.ndarray
    queries: np.ndarray
    document_ids: tuple[str, ...]
    query_ids: tuple[str, ...]
    qrels: dict[str, dict[str, int]]


@dataclass(frozen=True)
class Tuning:
    """The queries (nq, d) on which each index is tuned to a recall; none of them is reported."""

    queries: np.ndarray
    recall: float


@dataclass(frozen=True)
class Quality:
    """One recipe's figures; ``measures`` is empty if nothing could compute them.

    ``per_query`` holds the values, (nq,) each, whose means are the measures and `AGREEMENT`; intervals need them.
    """

    recipe: str
    measures: dict[str, float]
    bytes_per_vector: float
    compression: float
    qps: float
    recall_vs_exact: float
    build_s: float
    per_query: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def row(self) -> dict[str, Any]:
        """Return the figures as a row of `bench beir`."""
        return {
            "recipe": self.recipe,
            **{name: round(value, 5) for name, value in self.measures.items()},
            "bytes_per_vector": round(self.bytes_per_vector, 2),
            "compression": round(self.compression, 2),
            "qps": round(self.qps, 1),
            AGREEMENT: round(self.recall_vs_exact, 5),
        }


def measure(
    judged: JudgedVectors,
    recipe: str,
    *,
    threads: int | None = None,
    tuning: Tuning | None = None,
    judge: bool = True,
) -> tuple[Quality, annvq.Index]:
    """Build a recipe over the documents, search all queries, and compare with judgements and truth.

    Parameters
    ----------
    judged
        Embeddings and judgements.
    recipe
        Name, path or factory string.
    threads
        For building and searching; by default all CPUs.
    tuning
        If given, the index is tuned on these queries; otherwise the recipe's own parameters are used.
    judge
        Whether ranking measures are computed (they need pytrec_eval).

    Returns
    -------
    quality, index

    """
    warmup(recipe, metric="ip")  # compilation is not counted as building
    begin = time.perf_counter()
    index = annvq.build(judged.documents, recipe=recipe, metric="ip", threads=threads)
    build_s = time.perf_counter() - begin
    return measure_index(judged, recipe, index, build_s, threads=threads, tuning=tuning, judge=judge), index


def measure_index(
    judged: JudgedVectors,
    name: str,
    index: annvq.Index,
    build_s: float,
    *,
    threads: int | None = None,
    tuning: Tuning | None = None,
    judge: bool = True,
) -> Quality:
    """Measure an index of the documents whose ids are their rows; parameters as for `measure`."""
    if tuning is not None:
        index.tune(tuning.queries, k=_NEIGHBORS, recall=tuning.recall)

    def search(queries: np.ndarray) -> np.ndarray:
        return index.search(queries, k=DEPTH, threads=threads).ids

    timing = time_batches(search, judged.queries)
    size = float(index.stats()["bytes_per_vector"])
    measures, per_query = (
        ranking_measures(judged.qrels, judged.query_ids, judged.document_ids, timing.ids) if judge else ({}, {})
    )
    agreement, per_query[AGREEMENT] = _recall_vs_exact(judged, timing.ids)
    return Quality(
        recipe=name,
        measures=measures,
        bytes_per_vector=size,
        compression=4 * judged.documents.shape[1] / size,
        qps=timing.qps,
        recall_vs_exact=agreement,
        build_s=build_s,
        per_query=per_query,
    )


def ranking_measures(
    qrels: Mapping[str, Mapping[str, int]], query_ids: Sequence[str], document_ids: Sequence[str], rows: np.ndarray
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Return the means of the ranking measures, and their values for every judged query.

    ``rows`` (nq, k) are the documents found for every query, and -1 where there is none.
    """
    found = [[document_ids[row] for row in ranked if row >= 0] for ranked in rows.tolist()]
    run = run_from_ids(query_ids, found)
    values = evaluate_per_query(qrels, run, DEFAULT_METRICS)
    return evaluate(qrels, run, DEFAULT_METRICS), {
        metric: np.array([query[metric] for query in values.values()]) for metric in DEFAULT_METRICS
    }


def _recall_vs_exact(judged: JudgedVectors, rows: np.ndarray) -> tuple[float, np.ndarray]:
    """Return recall against exact search, as a mean and for every query."""
    rows = rows[:, :_NEIGHBORS]
    exact = exact_neighbors(judged.documents, judged.queries, _NEIGHBORS, "ip")[1]
    return agreement_of(rows, exact_scores(judged.documents, judged.queries, rows, "ip"), exact)


def agreement_of(rows: np.ndarray, scores: np.ndarray, exact: np.ndarray) -> tuple[float, np.ndarray]:
    """Return `recall_with_ties` of the same three arrays, as a mean and for every query."""
    shares = [recall_with_ties(rows[q : q + 1], scores[q : q + 1], exact[q : q + 1]) for q in range(len(rows))]
    return recall_with_ties(rows, scores, exact), np.array(shares)
