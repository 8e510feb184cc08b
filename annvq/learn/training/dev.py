"""The measurement that chooses the best step, on held-out queries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import annvq
from annvq.errors import ParameterError
from annvq.evaluation import evaluate, run_from_ids
from annvq.learn.data import QuerySet
from annvq.learn.training.live import LiveIndex

DEPTH = 10
_MOST = 1000  # queries: encoding more would take longer than many steps


@dataclass(frozen=True)
class DevSet:
    """Dev queries and what should be found for them.

    Parameters
    ----------
    queries
        The queries.
    metric
        "ndcg@10" for labelled queries; without labels, "recall@10" of the original embeddings' 10 best documents.
    qrels
        What `annvq.evaluation.evaluate` takes.

    """

    queries: QuerySet
    metric: str
    qrels: dict[str, dict[str, int]]

    @classmethod
    def of(cls, queries: QuerySet, documents: np.ndarray, threads: int) -> DevSet:
        """Build from dev queries; those without a relevant document are left out, and of many 1,000 are enough.

        Raises
        ------
        ParameterError
            None is left.

        """
        given, queries = len(queries), queries.labelled()
        if not len(queries):
            raise ParameterError(
                f"none of {given} dev queries has a relevant document: no step could be chosen by them"
            )
        if len(queries) > _MOST:
            queries = queries.part(np.linspace(0, len(queries) - 1, _MOST).round().astype(np.int64))
        if queries.relevance is not None:
            found = [queries.relevance.of_query(q) for q in range(len(queries))]
            metric = f"ndcg@{DEPTH}"
        else:
            exact = annvq.build(documents, "flat", metric="ip", threads=threads)
            found = exact.search(queries.vectors, k=min(DEPTH, len(documents)), threads=threads).ids
            metric = f"recall@{DEPTH}"
        return cls(queries, metric, {str(q): {str(row): 1 for row in rows} for q, rows in enumerate(found)})

    def measure(self, live: LiveIndex, vectors: np.ndarray, threads: int) -> float:
        """Return the metric of a search with the queries' vectors (nq, d)."""
        found = live.search(vectors, DEPTH, threads)
        run = run_from_ids(list(self.qrels), found.tolist())
        return evaluate(self.qrels, run, [self.metric])[self.metric]
