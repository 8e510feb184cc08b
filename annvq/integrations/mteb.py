"""A search index for MTEB: ``SearchEncoderWrapper(model, index_backend=AnnvqSearchIndex(model))``."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import annvq
from annvq.errors import ParameterError, StateError, UnknownIdError
from annvq.multivector import MultiVectorIndex
from annvq.multivector.recipe import load
from annvq.multivector.tokens import TokenSpec

_METRICS = {"cosine": "cosine", "dot": "ip", "euclidean": "l2", "MaxSim": "chamfer"}  # MTEB's names and annvq's


class AnnvqSearchIndex:
    """MTEB's `IndexEncoderSearchProtocol` over an annvq index, which is the attribute ``index``.

    Encoders of one vector per text (similarity "cosine", "dot" or "euclidean") and of several ("MaxSim", for which they
    return a list of arrays (t, d)) are both accepted.
    """

    def __init__(self, model: Any, recipe: Any = None, *, seed: int = 0, threads: int | None = None) -> None:
        """Prepare an index that is built when documents are added.

        Parameters
        ----------
        model
            The encoder; its ``mteb_model_meta`` says by which similarity texts are compared.
        recipe
            What `annvq.build` or, for MaxSim, `MultiVectorIndex.build` takes. Default: exact search in float32.
        seed, threads
            The same as for these.

        Raises
        ------
        ParameterError
            The similarity is another one.

        """
        similarity = getattr(model.mteb_model_meta.similarity_fn_name, "value", None)
        if similarity not in _METRICS:
            raise ParameterError(f"similarity {similarity!r}: expected one of {', '.join(_METRICS)}")
        self.metric = _METRICS[similarity]
        self.recipe = recipe
        self.seed = seed
        self.threads = threads
        self.index: annvq.Index | MultiVectorIndex | None = None
        self._places: dict[str, int] = {}  # of documents in the corpus

    def add_documents(self, embeddings: Any, idxs: Sequence[str]) -> None:
        """Add the embeddings of documents and their ids."""
        if self.index is not None:
            self.index.add(embeddings, threads=self.threads)
        elif self.metric == "chamfer":
            self.index = MultiVectorIndex.build(
                embeddings, self.recipe or _exact_chamfer(), seed=self.seed, threads=self.threads
            )
        else:
            self.index = annvq.build(
                embeddings, self.recipe or "flat", metric=self.metric, zero="score-0", seed=self.seed,
                threads=self.threads,
            )  # fmt: skip
        first = len(self._places)
        self._places.update((one, first + place) for place, one in enumerate(idxs))

    def search(
        self,
        embeddings: Any,
        top_k: int,
        similarity_fn: Callable[..., Any] | None = None,
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        query_idx_to_id: Mapping[int, str] | None = None,
    ) -> tuple[list[list[float]], list[list[int]]]:
        """Return scores and indices of the best documents of every query.

        Parameters
        ----------
        embeddings
            Queries, as the encoder returns them.
        top_k
            At most so many documents per query.
        similarity_fn
            Not called: the index knows the metric.
        top_ranked, query_idx_to_id
            The candidates of every query id, and the ids of the queries, for re-ranking. An index is then the place in
            the query's list of candidates, which is how MTEB reads it, and otherwise the place in the corpus.

        Raises
        ------
        StateError
            No documents were added.
        ParameterError
            Candidates are given without the ids of the queries.
        UnknownIdError
            A candidate is not in the corpus.

        """
        if self.index is None:
            raise StateError("the index is empty: add documents first")
        if top_ranked is None:
            return self._best(embeddings, min(top_k, len(self.index)))
        if query_idx_to_id is None:
            raise ParameterError("re-ranking (top_ranked) needs the ids of the queries (query_idx_to_id)")
        scores, indices = [], []
        for query in range(len(embeddings)):
            candidates = top_ranked.get(query_idx_to_id[query], ())
            if not candidates:
                warnings.warn(f"query {query_idx_to_id[query]!r} has no candidates", stacklevel=2)
            found = self._reranked(embeddings[query : query + 1], top_k, candidates)
            scores.append(found[0])
            indices.append(found[1])
        return scores, indices

    def _reranked(self, query: Any, k: int, candidates: Sequence[str]) -> tuple[list[float], list[int]]:
        if not candidates:
            return [], []
        unknown = [one for one in candidates if one not in self._places]
        if unknown:
            raise UnknownIdError(f"candidate {unknown[0]!r} is not in the corpus")
        place_of = {self._places[one]: place for place, one in enumerate(candidates)}
        scores, rows = self._best(query, min(k, len(place_of)), list(place_of))
        return scores[0], [place_of[row] for row in rows[0]]

    def _best(self, queries: Any, k: int, rows: list[int] | None = None) -> tuple[list[list[float]], list[list[int]]]:
        assert self.index is not None
        found = self.index.search(queries, k, filter=rows, threads=self.threads).to_lists()
        scores = [[self._as_mteb(score) for _, score in pairs] for pairs in found]
        return scores, [[row for row, _ in pairs] for pairs in found]

    def _as_mteb(self, score: float) -> float:
        """Return a score on MTEB's scale, where Euclidean distances are not squared."""
        return -math.sqrt(max(0.0, -score)) if self.metric == "l2" else score

    def clear(self) -> None:
        """Forget all documents."""
        self.index = None
        self._places = {}


def _exact_chamfer() -> Any:
    return replace(load("chamfer-exact"), name="chamfer-exact-fp32", tokens=TokenSpec(kind="fp32"))
