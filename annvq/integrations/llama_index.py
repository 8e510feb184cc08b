"""LlamaIndex: a vector store that keeps nodes, their texts and their embeddings in one collection."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from annvq.collection import Collection, Record
from annvq.errors import MissingExtraError, ParameterError

try:
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.indices.query.embedding_utils import get_top_k_mmr_embeddings
    from llama_index.core.schema import BaseNode, MetadataMode
    from llama_index.core.vector_stores.types import (
        DEFAULT_PERSIST_DIR,
        DEFAULT_PERSIST_FNAME,
        BasePydanticVectorStore,
        FilterCondition,
        FilterOperator,
        MetadataFilter,
        MetadataFilters,
        VectorStoreQuery,
        VectorStoreQueryMode,
        VectorStoreQueryResult,
    )
    from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict
except ImportError as error:
    raise MissingExtraError("llama-index-core", "llama-index") from error

_NAMESPACE = "default"


class AnnvqVectorStore(BasePydanticVectorStore):
    """A LlamaIndex vector store on `annvq.Collection`, in memory or in a folder.

    It keeps the nodes themselves, so that an index needs no other store beside it. The attribute ``client`` is the
    collection beneath, None until a store in memory has its first nodes, which say what the dimension is.
    """

    stores_text: bool = True
    path: str | None = None
    recipe: str = "flat"
    metric: str = "cosine"
    _collection: Collection | None = PrivateAttr(default=None)

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, recipe: str = "flat", metric: str = "cosine", **kwargs: Any
    ) -> None:
        """Open or create a store.

        Parameters
        ----------
        path
            A folder that is opened for changes or, where there is none, created. Default: memory.
        recipe, metric
            Those of a store that is created; see `annvq.Collection.create`, and its errors.
        kwargs
            Those of the class that LlamaIndex has for vector stores.

        """
        super().__init__(path=None if path is None else os.fspath(path), recipe=recipe, metric=metric, **kwargs)
        if self.path is not None and os.path.isdir(self.path) and os.listdir(self.path):
            self._opened(None)

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex writes the class."""
        return "AnnvqVectorStore"

    @property
    def client(self) -> Collection | None:
        """The collection."""
        return self._collection

    # -- changing -----------------------------------------------------------------------------

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Add nodes that have embeddings, in the place of those with the same ids, in one version; return the ids."""
        last = {node.node_id: node for node in nodes}
        if last:
            vectors = np.array([node.get_embedding() for node in last.values()], np.float32)
            texts = [node.get_content(metadata_mode=MetadataMode.NONE) for node in last.values()]
            metadata = [node_to_metadata_dict(node, remove_text=True) for node in last.values()]
            self._opened(vectors.shape[1]).upsert(texts, metadata, list(last), vectors=vectors)
        return [node.node_id for node in nodes]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete the nodes of a document."""
        self._remove(None, {"ref_doc_id": ref_doc_id})

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Delete nodes by ids, by filters, or by both; all nodes if neither is given."""
        self._remove(node_ids, self._filter(filters))

    def clear(self) -> None:
        """Delete all nodes."""
        self._remove(None, {})

    def _remove(self, node_ids: list[str] | None, filter: dict[str, Any]) -> None:
        if self._collection is not None:
            self._collection.remove(node_ids, filter=filter, missing="ignore")

    # -- reading ------------------------------------------------------------------------------

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """Return nodes by ids, in their order, by filters, or by both; all nodes if neither is given."""
        if self._collection is None:
            return []
        found = self._collection.get(node_ids, filter=self._filter(filters), missing="ignore", with_vectors=True)
        return [_node(record) for record in found]

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Return the nodes nearest to a query's embedding.

        The modes are the default one and, with ``mmr_threshold`` and ``mmr_prefetch_k`` (default: four times as many
        as are asked for), the one by maximal marginal relevance; ParameterError for others.
        """
        if query.mode not in (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR):
            raise ParameterError(f"query mode {query.mode.value!r}, expected 'default' or 'mmr'")
        if query.query_embedding is None:
            raise ParameterError("the query has no embedding")
        if self._collection is None:
            return VectorStoreQueryResult(nodes=[], similarities=[], ids=[])
        k, is_mmr = query.similarity_top_k, query.mode == VectorStoreQueryMode.MMR
        found = self._collection.search_vectors(
            np.array([query.query_embedding], np.float32),
            max(k, kwargs.get("mmr_prefetch_k", 4 * k)) if is_mmr else k,
            self._filter(query.filters, query.doc_ids),
            ids=query.node_ids or None,  # indexes give an empty list where no nodes are chosen
            with_vectors=is_mmr,
        )[0]
        scores = [record.score or 0.0 for record in found]
        if is_mmr:
            threshold = query.mmr_threshold if query.mmr_threshold is not None else kwargs.get("mmr_threshold")
            vectors: Any = [record.vector for record in found]
            scores, places = get_top_k_mmr_embeddings(
                query.query_embedding, vectors, similarity_top_k=k, mmr_threshold=threshold
            )
            found = [found[place] for place in places]
        ids = [record.id for record in found]
        return VectorStoreQueryResult(nodes=[_node(record) for record in found], similarities=scores, ids=ids)

    # -- keeping ------------------------------------------------------------------------------

    def persist(
        self, persist_path: str = os.path.join(DEFAULT_PERSIST_DIR, DEFAULT_PERSIST_FNAME), fs: Any = None
    ) -> None:
        """Write the store to a folder; a store that has a folder keeps itself there, and may be written to another."""
        if fs is not None and "file" not in fs.protocol:
            raise ParameterError(f"file system {fs.protocol}, expected the local one")
        if self._collection is not None and (
            self.path is None or os.path.realpath(persist_path) != os.path.realpath(self.path)
        ):
            os.makedirs(os.path.dirname(os.path.abspath(persist_path)), exist_ok=True)
            self._collection.save(persist_path)

    @classmethod
    def from_persist_path(cls, persist_path: str, fs: Any = None) -> AnnvqVectorStore:
        """Read what `persist` wrote into memory; changes stay there until it is written again."""
        if fs is not None and "file" not in fs.protocol:
            raise ParameterError(f"file system {fs.protocol}, expected the local one")
        collection = Collection.open(persist_path, mode="copy")
        store = cls(recipe=collection.index.recipe.name, metric=collection.index.metric)
        store._collection = collection
        return store

    @classmethod
    def from_persist_dir(
        cls, persist_dir: str = DEFAULT_PERSIST_DIR, namespace: str = _NAMESPACE, fs: Any = None
    ) -> AnnvqVectorStore:
        """Read what a storage context wrote into a folder; see `from_persist_path`."""
        return cls.from_persist_path(os.path.join(persist_dir, f"{namespace}__{DEFAULT_PERSIST_FNAME}"), fs)

    # -- inside -------------------------------------------------------------------------------

    def _opened(self, dim: int | None) -> Collection:
        if self._collection is None:
            self._collection = Collection.open_or_create(self.path, dim=dim, recipe=self.recipe, metric=self.metric)
        return self._collection

    def _filter(self, filters: MetadataFilters | None, doc_ids: list[str] | None = None) -> dict[str, Any]:
        """Return LlamaIndex's filters, and documents of which nodes are, in annvq's dialect."""
        parts = [] if filters is None or not filters.filters else [self._logic(filters)]
        if doc_ids:
            parts.append({"ref_doc_id": {"$in": doc_ids}})
        return {"$and": parts} if parts else {}

    def _logic(self, filters: MetadataFilters) -> dict[str, Any]:
        parts = [
            self._logic(part) if isinstance(part, MetadataFilters) else self._comparison(part)
            for part in filters.filters
        ]
        if not parts:
            return {}
        if filters.condition == FilterCondition.NOT:  # none of them holds
            return {"$not": {"$or": parts}}
        return {"$or" if filters.condition == FilterCondition.OR else "$and": parts}

    def _comparison(self, given: MetadataFilter) -> dict[str, Any]:
        key, value, operator = given.key, given.value, given.operator
        if operator in _ORDERS:
            return {key: {_ORDERS[operator]: value}}
        if operator in (FilterOperator.EQ, FilterOperator.IN):
            return {key: {"$in": _with_booleans([value] if operator == FilterOperator.EQ else value)}}
        if operator in (FilterOperator.NE, FilterOperator.NIN):
            return {key: {"$nin": _with_booleans([value] if operator == FilterOperator.NE else value)}}
        if operator in (FilterOperator.CONTAINS, FilterOperator.TEXT_MATCH):
            return {key: {"$contains": value}}
        if operator == FilterOperator.TEXT_MATCH_INSENSITIVE:
            return {key: {"$in": self._texts_that_contain(key, value)}}
        if operator == FilterOperator.IS_EMPTY:
            return {"$or": [{key: None}, {key: ""}, {key: []}]}
        if operator not in (FilterOperator.ALL, FilterOperator.ANY):
            raise ParameterError(f"filter on {key!r}: operator {operator}, which is not known")
        each: list[dict[str, Any]] = [{key: {"$contains": item}} for item in _items(given)]
        if operator == FilterOperator.ALL:
            return {"$and": [{key: {"$exists": True}}, *each]}
        return {"$or": each} if each else _NOTHING

    def _texts_that_contain(self, key: str, value: Any) -> list[str]:
        if not isinstance(value, str):
            raise ParameterError(f"filter on {key!r}: {type(value).__name__}, expected a text to be found")
        held = [] if self._collection is None else self._collection.values(key)
        return [one for one in held if isinstance(one, str) and value.lower() in one.lower()]


_NOTHING: dict[str, Any] = {"$not": {}}
_ORDERS = {
    FilterOperator.GT: "$gt",
    FilterOperator.GTE: "$gte",
    FilterOperator.LT: "$lt",
    FilterOperator.LTE: "$lte",
}


def _with_booleans(values: Any) -> Any:
    """Return values with True beside 1 and False beside 0: LlamaIndex's filters hold no booleans, and compare so."""
    if not isinstance(values, list):
        return values
    return [*values, *(bool(value) for value in values if not isinstance(value, str) and value in (0, 1))]


def _items(given: MetadataFilter) -> list[Any]:
    if not isinstance(given.value, list):
        raise ParameterError(f"filter on {given.key!r}: {type(given.value).__name__}, expected a list")
    return given.value


def _node(record: Record) -> BaseNode:
    node = metadata_dict_to_node(record.metadata, text=record.text)
    if record.vector is not None:
        node.embedding = record.vector.tolist()
    return node
