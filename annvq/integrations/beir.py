"""Dense retrieval for BEIR: ``EvaluateRetrieval(AnnvqSearch(model), score_function="cos_sim")``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import annvq
from annvq.arguments import as_choice, as_count
from annvq.errors import MissingExtraError

try:
    from beir.retrieval.search.base import BaseSearch
except ImportError as error:
    raise MissingExtraError("beir", "beir") from error

_METRICS = {"cos_sim": "cosine", "dot": "ip"}  # BEIR's names and annvq's


class AnnvqSearch(BaseSearch):
    """BEIR's `BaseSearch` over an annvq index, which is the attribute ``index`` once there was a search."""

    def __init__(
        self,
        model: Any,
        batch_size: int = 128,
        corpus_chunk_size: int = 50_000,
        recipe: Any = "flat",
        *,
        show_progress_bar: bool = False,
        seed: int = 0,
        threads: int | None = None,
    ) -> None:
        """Prepare searches.

        Parameters
        ----------
        model
            An encoder with ``encode_queries`` and ``encode_corpus``, as BEIR's models have them.
        batch_size, show_progress_bar
            What the encoder is told.
        corpus_chunk_size
            The number of documents that the encoder is given at once, and that a file of embeddings holds.
        recipe, seed, threads
            The same as for `annvq.build`; by default, search is exact.

        """
        self.model = model
        self.batch_size = batch_size
        self.corpus_chunk_size = as_count("corpus_chunk_size", corpus_chunk_size)
        self.recipe = recipe
        self.show_progress_bar = show_progress_bar
        self.seed = seed
        self.threads = threads
        self.index: annvq.Index | None = None
        self.results: dict[str, dict[str, float]] = {}

    def search(
        self, corpus: Any, queries: Any, top_k: int, score_function: str = "cos_sim", **kwargs: Any
    ) -> dict[str, dict[str, float]]:
        """Embed and index a corpus, and return ``{query id: {document id: score}}`` of the best documents.

        Parameters
        ----------
        corpus
            ``{document id: {"title": ..., "text": ...}}``, or the data set that BEIR's ``HFDataLoader`` returns.
        queries
            ``{query id: text}``, or such a data set.
        top_k
            At most so many documents per query, best first. As in BEIR's own search, a document that has the id of the
            query is not among them.
        score_function
            "cos_sim" or "dot".
        kwargs
            Not used; BEIR passes on what other searches take.

        """
        metric = _metric(score_function)
        query_ids, embedded = self._embedded_queries(queries)
        texts = _by_id(corpus)
        parts = [(chunk, self._encoded(texts, chunk)) for chunk in self._chunks(texts)]
        found = self._found(parts, embedded, top_k + 1, metric)
        self.results = {
            query: dict([(one, score) for one, score in pairs if one != query][:top_k])
            for query, pairs in zip(query_ids, found, strict=True)
        }
        return self.results

    def encode(
        self,
        corpus: Any,
        queries: Any,
        encode_output_path: str = "./embeddings/",
        overwrite: bool = False,
        query_filename: str = "queries.pkl",
        corpus_filename: str = "corpus.*.pkl",
        **kwargs: Any,
    ) -> None:
        """Embed queries and corpus, and write them to a folder in BEIR's format; ``*`` is the number of a chunk.

        Files that are there already are kept unless ``overwrite`` says otherwise.
        """
        from beir.retrieval.search.dense.util import save_embeddings

        path = os.path.join(encode_output_path, query_filename)
        if overwrite or not os.path.exists(path):
            ids, embedded = self._embedded_queries(queries)
            save_embeddings(embedded, ids, path)
        texts = _by_id(corpus)
        for number, chunk in enumerate(self._chunks(texts)):
            path = os.path.join(encode_output_path, corpus_filename.replace("*", str(number)))
            if overwrite or not os.path.exists(path):
                save_embeddings(self._encoded(texts, chunk), chunk, path)

    def search_from_files(
        self,
        query_embeddings_file: str,
        corpus_embeddings_files: Sequence[str],
        top_k: int,
        score_function: str = "dot",
        **kwargs: Any,
    ) -> dict[str, dict[str, float]]:
        """Search the embeddings that `encode` wrote; all else is the same as for `search`.

        The files are pickles, which can run code when they are read: read only your own. As in BEIR's own search from
        files, a document that has the id of the query may be among the results.
        """
        from beir.retrieval.search.dense.util import pickle_load

        metric = _metric(score_function)
        parts = [(ids, vectors) for vectors, ids in map(pickle_load, corpus_embeddings_files)]
        embedded, query_ids = pickle_load(query_embeddings_file)
        found = self._found(parts, embedded, top_k, metric)
        self.results = {query: dict(pairs) for query, pairs in zip(query_ids, found, strict=True)}
        return self.results

    def _found(
        self, parts: list[tuple[list[str], np.ndarray]], queries: np.ndarray, k: int, metric: str
    ) -> list[list[tuple[str, float]]]:
        ids = [str(one) for part, _ in parts for one in part]
        vectors = np.concatenate([part for _, part in parts])
        self.index = annvq.build(
            vectors, self.recipe, ids=ids, metric=metric, zero="score-0", seed=self.seed, threads=self.threads
        )
        return self.index.search(queries, min(k, len(ids)), threads=self.threads).to_lists()

    def _embedded_queries(self, queries: Any) -> tuple[list[str], np.ndarray]:
        if not isinstance(queries, Mapping):
            queries = {row["id"]: row["text"] for row in queries}
        made = self.model.encode_queries(
            list(queries.values()), batch_size=self.batch_size, show_progress_bar=self.show_progress_bar
        )
        return list(queries), _array(made)

    def _encoded(self, texts: Mapping[str, Mapping[str, str]], ids: list[str]) -> np.ndarray:
        documents = [texts[one] for one in ids]
        made = self.model.encode_corpus(documents, batch_size=self.batch_size, show_progress_bar=self.show_progress_bar)
        return _array(made)

    def _chunks(self, texts: Mapping[str, Mapping[str, str]]) -> Iterator[list[str]]:
        """Yield ids, those of long texts first: texts of one batch are then about equally long, and need no padding."""
        ids = sorted(texts, key=lambda one: len(texts[one].get("title", "") + texts[one].get("text", "")), reverse=True)
        for begin in range(0, len(ids), self.corpus_chunk_size):
            yield ids[begin : begin + self.corpus_chunk_size]


def _metric(score_function: str) -> str:
    return _METRICS[as_choice("score_function", score_function, tuple(_METRICS))]


def _by_id(corpus: Any) -> Mapping[str, Mapping[str, str]]:
    return corpus if isinstance(corpus, Mapping) else {row["id"]: row for row in corpus}


def _array(embeddings: Any) -> np.ndarray:
    return embeddings.detach().cpu().numpy() if hasattr(embeddings, "detach") else np.asarray(embeddings)
