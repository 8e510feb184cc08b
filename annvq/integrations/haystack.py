"""Haystack: a document store on a collection, and the component that retrieves from it by embeddings."""

from __future__ import annotations

import asyncio
import functools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import numpy as np

from annvq.collection import Collection, Record
from annvq.errors import MissingExtraError
from annvq.index.filters.dialect import TEXT

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.document_stores.errors import DuplicateDocumentError
    from haystack.document_stores.types import DuplicatePolicy, FilterPolicy, apply_filter_policy
    from haystack.errors import FilterError
    from haystack.utils.filters import document_matches_filter
except ImportError as error:
    raise MissingExtraError("haystack-ai", "haystack") from error

_METRICS = {"cosine": "cosine", "dot_product": "ip", "l2": "l2"}
_KEPT = ("blob", "score", "sparse_embedding")  # of a document, besides its id, content, meta and embedding


class AnnvqDocumentStore:
    """A Haystack document store on `annvq.Collection`, in memory or in a folder.

    Documents need no embedding; those without one are found by filters only. A filter's ISO dates are compared as
    dates, as Haystack does. Every method has one that ends in ``_async``. The attribute ``collection`` is what lies
    beneath; its ``close`` releases the folder.
    """

    def __init__(
        self,
        path: str | None = None,
        embedding_dim: int = 768,
        embedding_similarity_function: str = "cosine",
        recipe: str = "flat",
    ) -> None:
        """Open or create a store.

        Parameters
        ----------
        path
            A folder that is opened for changes or, where there is none, created. Default: memory.
        embedding_dim
            The number of dimensions of the embeddings.
        embedding_similarity_function
            "cosine", "dot_product" or "l2".
        recipe
            That of a store that is created; see `annvq.Collection.create`, and its errors.

        """
        if embedding_similarity_function not in _METRICS:
            raise ValueError(f"embedding_similarity_function {embedding_similarity_function!r}; one of {[*_METRICS]}")
        self.path = None if path is None else os.fspath(path)
        self.embedding_dim = embedding_dim
        self.embedding_similarity_function = embedding_similarity_function
        self.recipe = recipe
        metric = _METRICS[embedding_similarity_function]
        self.collection = Collection.open_or_create(self.path, dim=embedding_dim, recipe=recipe, metric=metric)

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` makes a store of: its arguments, but not its documents."""
        return default_to_dict(
            self,
            path=self.path,
            embedding_dim=self.embedding_dim,
            embedding_similarity_function=self.embedding_similarity_function,
            recipe=self.recipe,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> AnnvqDocumentStore:
        """Open or create a store as `to_dict` describes it."""
        return default_from_dict(cls, data)

    # -- changing -----------------------------------------------------------------------------

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Write documents, all of them in one version, and return how many were written.

        Without a policy, documents that are in the store already are refused, as with ``DuplicatePolicy.FAIL``.
        """
        if isinstance(documents, str) or not isinstance(documents, Iterable):
            raise ValueError("documents: expected a list of Documents")
        documents = list(documents)
        if any(not isinstance(document, Document) for document in documents):
            raise ValueError("documents: expected a list of Documents")
        written: dict[str, Document] = {}
        for document in documents:
            if policy != DuplicatePolicy.OVERWRITE and (document.id in written or document.id in self.collection):
                if policy == DuplicatePolicy.SKIP:
                    continue
                raise DuplicateDocumentError(f"ID '{document.id}' already exists.")
            written[document.id] = document
        kept = written.values()
        self.collection.upsert(
            [document.content for document in kept],
            [_metadata(document) for document in kept],
            list(written),
            vectors=[None if document.embedding is None else np.array(document.embedding) for document in kept],
        )
        return len(documents) if policy == DuplicatePolicy.OVERWRITE else len(written)

    def delete_documents(self, document_ids: list[str]) -> None:
        """Delete documents; ids that the store does not hold are passed over."""
        self.collection.remove(list(document_ids), missing="ignore")

    def delete_all_documents(self, recreate_index: bool = False) -> None:
        """Delete all documents; ``recreate_index`` also frees the memory or disk that they took."""
        self.collection.remove(filter={})
        if recreate_index:
            self.collection.index.compact()

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """Delete the documents that pass a filter, and return how many there were."""
        return self.collection.remove(filter=self._filter(filters, required=True))

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Set values in the meta of the documents that pass a filter, and return how many there were."""
        found = self.collection.get(filter=self._filter(filters, required=True))
        changed = [{**one.metadata, "meta": {**one.metadata["meta"], **meta}} for one in found]
        self.collection.update([one.id for one in found], changed)
        return len(found)

    # -- reading ------------------------------------------------------------------------------

    def count_documents(self) -> int:
        """Return how many documents there are."""
        return len(self.collection)

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """Return the documents that pass a filter in Haystack's dialect, in the order in which they were written."""
        found = self.collection.get(filter=self._filter(filters), with_vectors=True)
        return [self._document(record) for record in found]

    def embedding_retrieval(
        self,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        scale_score: bool = False,
        return_embedding: bool = False,
    ) -> list[Document]:
        """Return the documents whose embeddings are nearest to one, best first.

        Their scores are cosines, inner products or minus squared distances, larger is closer; ``scale_score`` brings
        them to 0..1.
        """
        if top_k == 0:
            return []
        query = np.array([query_embedding])
        found = self.collection.search_vectors(query, top_k, self._filter(filters), with_vectors=return_embedding)[0]
        scores = [record.similarity if scale_score else record.score for record in found]
        return [replace(self._document(record), score=score) for record, score in zip(found, scores, strict=True)]

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        """Return how many documents pass a filter."""
        return self.collection.count(self._filter(filters))

    def count_unique_metadata_by_filter(self, filters: dict[str, Any], metadata_fields: list[str]) -> dict[str, int]:
        """Return how many different values some fields of the meta have, for the documents that pass a filter."""
        metas = list(self._metas(filters))
        names = [name.removeprefix("meta.") for name in metadata_fields]
        return {name: len({_key(meta[name]) for meta in metas if meta.get(name) is not None}) for name in names}

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        """Return the type of every field of the meta: boolean, int, float, or keyword for all else."""
        types: dict[str, str] = {}
        for meta in self._metas():
            types |= {name: _TYPES.get(type(value), "keyword") for name, value in meta.items() if value is not None}
        return {name: {"type": kind} for name, kind in types.items()}

    def get_metadata_field_min_max(self, metadata_field: str) -> dict[str, Any]:
        """Return the smallest and the largest value of a field of the meta; None where they do not compare."""
        name = metadata_field.removeprefix("meta.")
        values = [meta[name] for meta in self._metas() if isinstance(meta.get(name), int | float | str)]
        try:
            return {"min": min(values), "max": max(values)}
        except (TypeError, ValueError):  # numbers and texts, or no values
            return {"min": None, "max": None}

    def get_metadata_field_unique_values(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: dict[str, Any] | None = None,
    ) -> tuple[list[Any], int]:
        """Return ``size`` of the different values of a field of the meta, by their texts, and how many there are.

        ``search_term`` leaves those that contain it, in upper or lower case.
        """
        name, term = metadata_field.removeprefix("meta."), (search_term or "").lower()
        values = {_key(meta[name]): meta[name] for meta in self._metas(filters) if meta.get(name) is not None}
        found = [value for value in values.values() if term in str(value).lower()]
        found.sort(key=lambda value: (str(value), type(value).__name__))
        return found[from_ : from_ + size], len(found)

    def _metas(self, filters: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        return (record.metadata["meta"] for record in self.collection.get(filter=self._filter(filters)))

    def _document(self, record: Record) -> Document:
        held = record.metadata
        embedding = None
        if record.vector is not None:
            scale = held["length"] if self.embedding_similarity_function == "cosine" else 1.0
            embedding = (record.vector.astype(np.float64) * scale).tolist()
        kept = {name: held[name] for name in ("meta", *_KEPT) if name in held}
        return Document.from_dict({"id": record.id, "content": record.text, "embedding": embedding, **kept})

    # -- Haystack's filters -------------------------------------------------------------------

    def _filter(self, filters: dict[str, Any] | None, *, required: bool = False) -> dict[str, Any] | None:
        """Return a filter in annvq's dialect (FilterError of Haystack); None for an empty one if that is accepted."""
        if not filters and not required:
            return None
        if not isinstance(filters, dict):
            raise FilterError(f"filters: {type(filters).__name__}, expected a dict")
        return self._comparison(filters) if "field" in filters else self._logic(filters)

    def _logic(self, given: dict[str, Any]) -> dict[str, Any]:
        operator, conditions = _value_of(given, "operator"), _value_of(given, "conditions")
        if operator not in ("AND", "OR", "NOT"):
            raise FilterError(f"unknown logical operator {operator!r}; there are AND, OR, NOT")
        parts = [self._filter(part, required=True) for part in conditions]
        if operator == "OR":
            return {"$or": parts} if parts else _NOTHING
        every = {"$and": parts} if parts else {}
        return every if operator == "AND" else {"$not": every}

    def _comparison(self, given: dict[str, Any]) -> dict[str, Any]:
        path, value = _path(given["field"]), _value_of(given, "value")
        operator = _value_of(given, "operator")
        if operator in ("==", "!="):
            found = {path: {"$in": self._equal(path, value)}}
            return found if operator == "==" else {"$not": found}
        if operator in ("in", "not in"):
            if not isinstance(value, list):
                raise FilterError(f"{operator!r} of {type(value).__name__}, expected a list")
            found = {path: {"$in": [same for one in value for same in self._equal(path, one)]}}
            return found if operator == "in" else {"$not": found}
        if operator not in _ORDERS:
            raise FilterError(f"unknown operator {operator!r}; there are ==, !=, >, >=, <, <=, in, not in")
        if value is None:
            return _NOTHING
        if isinstance(value, str | datetime):
            if isinstance(value, str) and not _begins_with_date(value):
                raise FilterError(f"{operator!r} of {value!r}, expected a number or an ISO date")
            _matches(operator, value, "2000-01-01")  # raises if it is no date
            return {path: {"$in": self._dates(path, operator, value)}}
        if not isinstance(value, int | float):
            raise FilterError(f"{operator!r} of {type(value).__name__}, expected a number or an ISO date")
        return {path: {_ORDERS[operator]: value}}

    def _equal(self, path: str, value: Any) -> list[Any]:
        """Return the values that are equal to one: also the same date, written otherwise."""
        if isinstance(value, datetime):
            return self._dates(path, "==", value)
        if isinstance(value, str) and _begins_with_date(value):
            return [value, *self._dates(path, "==", value)]
        if value is not None and not isinstance(value, str | int | float):
            raise FilterError(
                f"{type(value).__name__} as a filter's value, expected a text, a number, a boolean or None"
            )
        return [value]

    def _dates(self, path: str, operator: str, value: str | datetime) -> list[str]:
        """Return the texts at a path for which a comparison of dates holds."""
        found = []
        for held in self.collection.values(path):
            with suppress(FilterError):  # it is no date
                if isinstance(held, str) and _matches(operator, value, held):
                    found.append(held)
        return found


def _with_async_methods(store: type) -> None:
    """Give a class, for every public method that is no constructor or conversion, one that runs in a thread."""
    for name, method in list(vars(store).items()):
        if callable(method) and not name.startswith("_") and name != "to_dict":
            setattr(store, f"{name}_async", _in_a_thread(method))


def _in_a_thread(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    async def run(*args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(method, *args, **kwargs)

    run.__name__ = run.__qualname__ = f"{method.__name__}_async"
    return run


_with_async_methods(AnnvqDocumentStore)


@component
class AnnvqEmbeddingRetriever:
    """A Haystack component that retrieves the documents of an `AnnvqDocumentStore` nearest to an embedding."""

    def __init__(
        self,
        document_store: AnnvqDocumentStore,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        scale_score: bool = False,
        return_embedding: bool = False,
        filter_policy: FilterPolicy = FilterPolicy.REPLACE,
    ) -> None:
        """Take what `run` uses where it is not given it; the policy says how filters go together."""
        if not isinstance(document_store, AnnvqDocumentStore):
            raise TypeError(f"document_store: {type(document_store).__name__}, expected an AnnvqDocumentStore")
        if top_k <= 0:
            raise ValueError(f"top_k {top_k}, expected at least 1")
        self.document_store = document_store
        self.filters = filters
        self.top_k = top_k
        self.scale_score = scale_score
        self.return_embedding = return_embedding
        self.filter_policy = filter_policy

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` makes the component of."""
        return default_to_dict(
            self,
            document_store=self.document_store,
            filters=self.filters,
            top_k=self.top_k,
            scale_score=self.scale_score,
            return_embedding=self.return_embedding,
            filter_policy=self.filter_policy.value,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> AnnvqEmbeddingRetriever:
        """Make the component that `to_dict` describes."""
        given = data.get("init_parameters", {})
        if "filter_policy" in given:
            data = {
                **data,
                "init_parameters": {**given, "filter_policy": FilterPolicy.from_str(given["filter_policy"])},
            }
        return default_from_dict(cls, data)

    @component.output_types(documents=list[Document])
    def run(
        self,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        scale_score: bool | None = None,
        return_embedding: bool | None = None,
    ) -> dict[str, list[Document]]:
        """Return ``{"documents": ...}`` as `AnnvqDocumentStore.embedding_retrieval` finds them."""
        asked = self._asked(filters, top_k, scale_score, return_embedding)
        return {"documents": self.document_store.embedding_retrieval(query_embedding, **asked)}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        scale_score: bool | None = None,
        return_embedding: bool | None = None,
    ) -> dict[str, list[Document]]:
        """Do what `run` does."""
        asked = self._asked(filters, top_k, scale_score, return_embedding)
        return {"documents": await asyncio.to_thread(self.document_store.embedding_retrieval, query_embedding, **asked)}

    def _asked(
        self,
        filters: dict[str, Any] | None,
        top_k: int | None,
        scale_score: bool | None,
        return_embedding: bool | None,
    ) -> dict[str, Any]:
        return {
            "filters": apply_filter_policy(self.filter_policy, self.filters, filters),
            "top_k": self.top_k if top_k is None else top_k,
            "scale_score": self.scale_score if scale_score is None else scale_score,
            "return_embedding": self.return_embedding if return_embedding is None else return_embedding,
        }


_NOTHING: dict[str, Any] = {"$not": {}}
_ORDERS = {">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte"}
_TYPES = {bool: "boolean", int: "int", float: "float"}


def _metadata(document: Document) -> dict[str, Any]:
    """Return what a row keeps of a document besides its text and embedding."""
    held = document.to_dict(flatten=False)
    kept = {name: held[name] for name in _KEPT if held[name] is not None}
    if document.embedding is not None:
        kept["length"] = float(np.linalg.norm(document.embedding))  # under cosine, a row's vector has length 1
    return {"id": document.id, "meta": document.meta, **kept}


def _path(field: str) -> str:
    """Return where a row keeps what Haystack's filters name: fields that a document lacks are those of its meta."""
    if field == "content":
        return TEXT
    if field == "embedding":
        return "length"
    return field if "." in field or field in ("id", "meta", *_KEPT) else f"meta.{field}"


def _value_of(given: dict[str, Any], key: str) -> Any:
    if key not in given:
        raise FilterError(f"{key!r} is missing in {given}")
    return given[key]


def _matches(operator: str, value: Any, held: str) -> bool:
    """Return what Haystack's comparison says of a text that is held and a filter's value (FilterError: no dates)."""
    condition = {"field": "meta.held", "operator": operator, "value": value}
    return document_matches_filter(condition, Document(id="-", meta={"held": held}))


def _begins_with_date(value: str) -> bool:
    try:
        date.fromisoformat(value[:10])
    except ValueError:
        return False
    return True


def _key(value: Any) -> tuple[str, str]:
    """Return what tells values of JSON apart: 1, 1.0, "1" and True are different."""
    return type(value).__name__, json.dumps(value, sort_keys=True)
