"""Retrieval quality, size and speed of multi-vector recipes on token embeddings with judgements."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from annvq.bench.quality import AGREEMENT, DEPTH, Quality, agreement_of, ranking_measures
from annvq.bench.timing import time_batches
from annvq.evaluation import BeirDataset
from annvq.evaluation.tokens import cached_tokens
from annvq.multivector import MultiVectorIndex, Ragged, chamfer, recipe
from annvq.progress import Progress

_NEIGHBORS = 10
_EXACT_QUERIES = 300  # evenly spaced queries whose exact neighbours are computed, which is slow
_WARM = 64  # documents, enough to compile what a build and a search need


@dataclass(frozen=True)
class JudgedTokens:
    """Token embeddings of documents and queries, their names and judgements."""

    documents: Ragged
    queries: Ragged
    document_ids: tuple[str, ...]
    query_ids: tuple[str, ...]
    qrels: dict[str, dict[str, int]]

    @classmethod
    def embedded(
        cls,
        dataset: BeirDataset,
        model: str | os.PathLike[str],
        cache: Path,
        *,
        progress: bool | Progress = True,
        bfloat16: bool = False,
    ) -> JudgedTokens:
        """Embed a data set, or take its embeddings from ``cache``."""
        how = {"progress": progress, "bfloat16": bfloat16}
        documents = Ragged(*cached_tokens(cache, model, dataset.documents, "document", **how))
        queries = Ragged(*cached_tokens(cache, model, dataset.queries, "query", **how))
        return cls(documents, queries.floats(), tuple(dataset.documents), tuple(dataset.queries), dataset.qrels)


@dataclass(frozen=True)
class Truth:
    """Chamfer similarity (queries, documents) of every ``step``-th query with all documents as they were given."""

    step: int
    scores: np.ndarray

    @classmethod
    def of(cls, judged: JudgedTokens, threads: int | None) -> Truth:
        """Score all documents."""
        step = -(-len(judged.queries) // _EXACT_QUERIES)
        return cls(step, chamfer(judged.queries[::step], judged.documents, threads=threads))

    def recall(self, rows: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the share of the exact ten that are among the first ten of ``rows``, those found for all queries.

        The mean comes first, then the share of every query that has exact scores.
        """
        found = rows[:: self.step, :_NEIGHBORS]
        exact = -np.sort(-self.scores, axis=1)[:, :_NEIGHBORS]
        of_found = np.where(found >= 0, np.take_along_axis(self.scores, np.maximum(found, 0), 1), -np.inf)
        return agreement_of(found, of_found, exact)


def measure(judged: JudgedTokens, truth: Truth, name: str, threads: int | None) -> tuple[Quality, MultiVectorIndex]:
    """Build a recipe over the documents and search all queries; figures as for `annvq.bench.quality.measure`.

    ``bytes_per_vector`` counts a document's encoding and its vectors; ``recall_vs_exact`` is measured against the ten
    documents of largest Chamfer similarity, computed from the vectors as they were given.
    """
    made = recipe.load(name)
    few = judged.documents[: min(_WARM, len(judged.documents))]
    flat = replace(made.index, nlist=None, codebook=replace(made.index.codebook, residual=False), spill=False)
    MultiVectorIndex.build(few, replace(made, index=flat), threads=threads).search(judged.queries[:2], DEPTH)
    begin = time.perf_counter()
    index = MultiVectorIndex.build(judged.documents, made, threads=threads)
    build_s = time.perf_counter() - begin

    def search(numbers: np.ndarray) -> np.ndarray:
        return index.search(judged.queries[numbers], DEPTH, threads=threads).ids

    timing = time_batches(search, np.arange(len(judged.queries)))
    parts = index.stats()["bytes_per_document"]
    size = parts["codes"] + parts["constants"] + parts["tokens"]
    measures, per_query = ranking_measures(judged.qrels, judged.query_ids, judged.document_ids, timing.ids)
    agreement, per_query[AGREEMENT] = truth.recall(timing.ids)
    quality = Quality(
        recipe=name,
        measures=measures,
        bytes_per_vector=size,
        compression=4 * judged.documents.vectors.size / len(judged.documents) / size,
        qps=timing.qps,
        recall_vs_exact=agreement,
        build_s=build_s,
        per_query=per_query,
    )
    return quality, index
