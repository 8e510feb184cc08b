"""LangChain: a vector store that keeps documents, their metadata and their embeddings in one collection."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.collection import Collection, Record
from annvq.errors import MissingExtraError, ShapeError
from annvq.hits import similarities

if TYPE_CHECKING:
    from annvq.index.recipe import Recipe

try:
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import VectorStore
    from langchain_core.vectorstores.utils import maximal_marginal_relevance
except ImportError as error:
    raise MissingExtraError("langchain-core", "langchain") from error


class AnnvqVectorStore(VectorStore):
    """A LangChain vector store on `annvq.Collection`, in memory or in a folder.

    Everything that searches takes ``filter=``, a condition on the metadata as data (``{"lang": "de", "page": {"$gte":
    3}}``) or as text (``lang == "de" and page >= 3``). Metadata are what JSON holds. The attribute ``collection`` is
    what lies beneath; its ``close`` releases the folder.
    """

    def __init__(
        self,
        embedding: Embeddings,
        path: str | os.PathLike[str] | None = None,
        *,
        recipe: Recipe | str | os.PathLike[str] = "flat",
        metric: str = "cosine",
        collection: Collection | None = None,
    ) -> None:
        """Open or create a store.

        Parameters
        ----------
        embedding
            What embeds documents and queries.
        path
            A folder that is opened for changes or, where there is none, created. Default: memory.
        recipe, metric
            Those of a store that is created; see `annvq.Collection.create`, and its errors.
        collection
            A collection to use instead, such as one that is open for reading; it needs no encoder.

        """
        self._embedding = embedding
        if collection is None:
            collection = Collection.open_or_create(path, _Encoder(embedding), recipe=recipe, metric=metric)
        self.collection = collection

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> AnnvqVectorStore:
        """Create a store of texts; ``kwargs`` are the constructor's."""
        store = cls(embedding, **kwargs)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    @property
    def embeddings(self) -> Embeddings:
        """What embeds documents and queries."""
        return self._embedding

    # -- changing -----------------------------------------------------------------------------

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Add texts as `add_documents` adds documents."""
        return super().add_texts(list(texts), metadatas, ids=ids, **kwargs)

    def add_documents(
        self, documents: list[Document], ids: Sequence[str | None] | None = None, **kwargs: Any
    ) -> list[str]:
        """Add documents, in the place of those with the same ids, in one version; return the ids.

        The ids are ``ids`` or the documents' own; documents without one get a random one.
        """
        if ids and len(ids) != len(documents):
            raise ShapeError(f"{len(ids)} ids, expected {len(documents)}")
        given = ids or [document.id for document in documents]
        made = [str(uuid.uuid4()) if one is None else one for one in given]
        texts = [document.page_content for document in documents]
        vectors = self._embedding.embed_documents(texts) if texts else None
        return self.collection.upsert(texts, [document.metadata for document in documents], made, vectors=vectors)

    def delete(self, ids: list[str] | None = None, *, filter: Any = None, **kwargs: Any) -> bool:
        """Delete documents by ids, by a filter, or by both; all of them if neither is given."""
        if ids is None and filter is None:
            filter = {}
        self.collection.remove(ids, filter=filter, missing="ignore")
        return True

    # -- reading ------------------------------------------------------------------------------

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the documents that the store holds under some ids, in their order."""
        return [_document(record) for record in self.collection.get(list(ids), missing="ignore")]

    def similarity_search(self, query: str, k: int = 4, filter: Any = None, **kwargs: Any) -> list[Document]:
        """Return the k documents nearest to a text."""
        return self.similarity_search_by_vector(self._embedding.embed_query(query), k, filter)

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Any = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Return the k documents nearest to a text, with scores: larger is closer."""
        return self.similarity_search_with_score_by_vector(self._embedding.embed_query(query), k, filter)

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, filter: Any = None, **kwargs: Any
    ) -> list[Document]:
        """Return the k documents nearest to a vector."""
        return [document for document, _ in self.similarity_search_with_score_by_vector(embedding, k, filter)]

    def similarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, filter: Any = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Return the k documents nearest to a vector, with scores: larger is closer."""
        return [(_document(record), record.score or 0.0) for record in self._search(embedding, k, filter)]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, filter: Any = None, **kwargs: Any
    ) -> list[Document]:
        """Return k of the ``fetch_k`` documents nearest to a text, chosen so that they also differ from each other."""
        embedding = self._embedding.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(embedding, k, fetch_k, lambda_mult, filter)

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Any = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Do what `max_marginal_relevance_search` does for a vector."""
        found = self._search(embedding, fetch_k, filter, with_vectors=True)
        vectors = [record.vector for record in found if record.vector is not None]
        chosen = maximal_marginal_relevance(np.asarray(embedding, np.float32), vectors, lambda_mult, k)
        return [_document(found[place]) for place in chosen]

    def _search(self, embedding: list[float], k: int, filter: Any, *, with_vectors: bool = False) -> list[Record]:
        return self.collection.search_vectors(np.array([embedding]), k, filter, with_vectors=with_vectors)[0]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        metric = self.collection.index.metric
        return lambda score: float(similarities(np.array(score), metric))


class _Encoder:
    """LangChain's embeddings as a collection takes them."""

    def __init__(self, embedding: Embeddings) -> None:
        self._embedding = embedding

    def encode_document(self, texts: list[str]) -> list[list[float]]:
        return self._embedding.embed_documents(texts)

    def encode_query(self, texts: list[str]) -> list[list[float]]:
        return [self._embedding.embed_query(text) for text in texts]


def _document(record: Record) -> Document:
    return Document(id=record.id, page_content=record.text or "", metadata=record.metadata)
