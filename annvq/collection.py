"""Texts with metadata, searched by meaning: an index paired with what embeds the texts.

A collection keeps its rows in an ordinary index under string ids, with three attributes: ``text``, ``metadata`` (JSON)
and ``embedded``, which is false for rows that have no vector and that no search finds.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.arguments import as_count
from annvq.errors import DtypeError, FilterError, ParameterError, ShapeError, StateError
from annvq.hits import Hits
from annvq.index.build import build
from annvq.index.filters.conditions import And, Comparison, Condition, renamed
from annvq.index.filters.dialect import TEXT
from annvq.index.filters.distinct import distinct_values
from annvq.index.filters.given import read
from annvq.index.index import Index
from annvq.index.opening import open_index
from annvq.index.recipe import Recipe
from annvq.index.rows.snapshot import Snapshot

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMNS = ("text", "metadata", "embedded")
_PROBE = "dimension"  # the text that is embedded to learn how long vectors are


@dataclass(frozen=True)
class Record:
    """One row of a collection.

    Attributes
    ----------
    id
        The row's id.
    text
        The text, or None if the row was added without one.
    metadata
        What was given with the text; empty if nothing was.
    score
        The score of a search, larger is closer; None where the row was not searched for.
    similarity
        The same from 0 to 1 (`Hits.similarities`).
    vector
        (d,) float32 if it was asked for, and the row has one.

    """

    id: str
    text: str | None
    metadata: dict[str, Any]
    score: float | None = None
    similarity: float | None = None
    vector: np.ndarray | None = field(default=None, compare=False, repr=False)


class Collection:
    """Texts with metadata under string ids, searched by meaning and filtered by metadata.

    `Collection.create` and `Collection.open` return collections. The attribute ``index`` is the `annvq.Index` beneath:
    what a collection does not offer, the index does.

    Examples
    --------
    >>> def encoder(texts):  # in earnest a model; this one counts letters
    ...     return np.array([[text.count(letter) for letter in "abcdefgh"] for text in texts])
    >>> collection = annvq.Collection.create(encoder)
    >>> collection.add(["a bad cab", "high hedge"], [{"lang": "en"}, {"lang": "de"}], ids=["one", "two"])
    ['one', 'two']
    >>> collection.search("bad", k=1, filter={"lang": "en"})[0].text
    'a bad cab'

    """

    def __init__(self, index: Index, encoder: Any) -> None:
        """Take an index that has a collection's attributes (StateError) and an encoder, as `create` does."""
        schema = index.rows.current.snapshot.schema
        if index.rows.current.snapshot.segments and (schema is None or not set(_COLUMNS) <= set(schema.names)):
            raise StateError(f"the index is no collection: its rows lack the attributes {', '.join(_COLUMNS)}")
        self.index = index
        self.encoder = encoder
        self._known: tuple[Snapshot, bool] | None = None  # whether that version holds rows without a vector

    @classmethod
    def create(
        cls,
        encoder: Any = None,
        *,
        dim: int | None = None,
        recipe: Recipe | str | os.PathLike[str] = "flat",
        metric: str = "cosine",
        path: str | os.PathLike[str] | None = None,
    ) -> Collection:
        """Create an empty collection.

        Parameters
        ----------
        encoder
            What embeds texts: a sentence-transformers model, an object with ``encode_document`` and ``encode_query``,
            or any function that takes a list of texts and returns vectors (n, d). None if vectors are always given.
        dim
            The dimension d of the vectors. Default: that of the encoder, which embeds one word to learn it.
        recipe
            One that learns nothing, because there are no vectors yet; `optimize` takes another later.
        metric
            "cosine", "ip" or "l2".
        path
            A folder in which the collection is kept: what changes is on disk when the call returns. Default: memory.

        Raises
        ------
        ParameterError
            Neither an encoder nor a dimension is given, or the recipe learns from vectors.

        """
        if dim is None:
            if encoder is None:
                raise ParameterError("a collection needs an encoder, or the dimension of the vectors (dim)")
            dim = _embedded(encoder, [_PROBE], "document").shape[1]
        nothing = np.empty((0, as_count("dim", dim)), np.float32)
        return cls(build(nothing, recipe, metric=metric, zero="score-0", path=path), encoder)

    @classmethod
    def open(cls, path: str | os.PathLike[str], encoder: Any = None, mode: str = "r") -> Collection:
        """Open a collection's folder.

        Parameters
        ----------
        path, mode
            The same as for `annvq.open`.
        encoder
            What embeds texts, as for `create`: the one that embedded those of the collection, which does not store it.

        Raises
        ------
        StateError
            The folder holds an index that is no collection.
        StorageError, CorruptIndexError, VersionError, LockedError, ParameterError
            The same as for `annvq.open`.

        """
        index = open_index(path, mode)
        try:
            return cls(index, encoder)
        except BaseException:
            index.close()
            raise

    @classmethod
    def open_or_create(
        cls,
        path: str | os.PathLike[str] | None,
        encoder: Any = None,
        *,
        dim: int | None = None,
        recipe: Recipe | str | os.PathLike[str] = "flat",
        metric: str = "cosine",
    ) -> Collection:
        """Open a collection's folder for changes or, where there is none, create it.

        Parameters
        ----------
        path
            The folder; it may be missing or empty. None creates a collection in memory.
        encoder
            The same as for `open` and `create`.
        dim, metric
            The same as for `create`. A collection that is there must have this metric and, unless ``dim`` is None,
            this dimension.
        recipe
            The recipe of a collection that is created; one that is there keeps its own.

        Raises
        ------
        ParameterError
            The collection that is there has another metric or dimension; or as for `create`.
        StateError, StorageError, CorruptIndexError, VersionError, LockedError
            The same as for `open`.

        """
        if path is None or not os.path.isdir(path) or not os.listdir(path):
            return cls.create(encoder, dim=dim, recipe=recipe, metric=metric, path=path)
        opened = cls.open(path, encoder, "rw")
        held, asked = (opened.index.dim, opened.index.metric), (dim or opened.index.dim, metric)
        if held != asked:
            opened.close()
            raise ParameterError(f"the collection in {os.fspath(path)} has dimension and metric {held}, not {asked}")
        return opened

    def __len__(self) -> int:
        return len(self.index)

    def __contains__(self, id: object) -> bool:
        return id in self.index

    def __repr__(self) -> str:
        return f"Collection({self.index!r})"

    # -- changing -----------------------------------------------------------------------------

    def add(
        self,
        texts: Sequence[str | None],
        metadatas: Sequence[Mapping[str, Any] | None] | None = None,
        ids: Sequence[str] | None = None,
        *,
        vectors: Any = None,
        replace: bool = False,
    ) -> list[str]:
        """Add texts, and return their ids.

        Parameters
        ----------
        texts
            n texts; None for rows that have none, whose vectors are given or missing.
        metadatas
            n dicts of what JSON can hold, or None: numbers, texts, lists, dicts within dicts.
        ids
            n strings, new to the collection; by default random ones are made.
        vectors
            (n, d), or n vectors of which some may be None: rows without one are kept, and no search finds them.
            Default: the encoder's, of the texts.
        replace
            Whether rows that the collection holds under the same ids are replaced, in the same version.

        Raises
        ------
        ShapeError, DtypeError, NonFiniteError, DuplicateIdError, ParameterError
            The input does not fit; nothing is added.

        """
        texts = _listed("texts", texts)
        if any(not isinstance(text, str | None) for text in texts):
            wrong = next(text for text in texts if not isinstance(text, str | None))
            raise DtypeError(f"texts: {type(wrong).__name__}, expected str")
        made = [uuid.uuid4().hex for _ in texts] if ids is None else _listed("ids", ids, len(texts))
        for one in made:
            if not isinstance(one, str):
                raise DtypeError(f"ids: {type(one).__name__} {one!r}, expected str")
        given = [None] * len(texts) if metadatas is None else _listed("metadatas", metadatas, len(texts))
        written = [_to_json(metadata, row) for row, metadata in enumerate(given)]
        if not texts:
            return []
        matrix, is_embedded = self._vectors_of(texts, vectors)
        attributes = _attributes(texts, written, is_embedded)
        change = self.index.upsert if replace else self.index.add
        change(matrix, made, attributes)
        return made

    def upsert(
        self,
        texts: Sequence[str | None],
        metadatas: Sequence[Mapping[str, Any] | None] | None,
        ids: Sequence[str],
        *,
        vectors: Any = None,
    ) -> list[str]:
        """Add texts in the place of those that the collection holds under the same ids; return these ids.

        It is one version, as for `annvq.Index.upsert`.

        Parameters
        ----------
        texts, metadatas, vectors
            The same as for `add`. A row that is replaced loses its metadata where None is given.
        ids
            n strings, no two alike.

        Raises
        ------
        ShapeError, DtypeError, NonFiniteError, DuplicateIdError, ParameterError
            The input does not fit; nothing is changed.

        """
        return self.add(texts, metadatas, ids, vectors=vectors, replace=True)

    def update(self, ids: Sequence[str], metadatas: Sequence[Mapping[str, Any]]) -> None:
        """Replace the metadata of rows; texts and vectors stay (UnknownIdError, and nothing is changed)."""
        ids = _listed("ids", ids)
        written = [_to_json(one, row) for row, one in enumerate(_listed("metadatas", metadatas, len(ids)))]
        if ids:
            self.index.update(ids, {"metadata": written})

    def remove(self, ids: Sequence[str] | None = None, *, filter: Any = None, missing: str = "error") -> int:
        """Remove rows by ids, by a filter on metadata, or by both; return how many there were.

        Parameters
        ----------
        ids, missing
            The same as for `annvq.Index.remove`.
        filter
            A condition on the metadata, as for `search`; together with ``ids``, only the rows of these that pass.

        Raises
        ------
        UnknownIdError, FilterError, ParameterError
            The same as for `annvq.Index.remove`; nothing is removed.

        """
        if len(self) == 0 and ids is None:
            return 0
        return self.index.remove(ids, filter=self._filter(filter), missing=missing)

    def optimize(self, recipe: Recipe | str | os.PathLike[str] = "auto", *, threads: int | None = None) -> None:
        """Build the index anew with a recipe that suits the number of rows, from the vectors that it keeps.

        With "flat", which new collections have, these are the vectors that were added. It is one version, as every
        change is; changes by other threads wait for it.

        Raises
        ------
        StateError
            The collection is open for reading.
        RecipeError, ParameterError
            The recipe does not fit, or learns more than there are rows.

        """
        rows = self.index.rows
        with rows.changing():
            held, trained = self.index.get(vectors=True), rows.current.trained
            vectors = held.column("vector").combine_chunks()
            made = build(
                vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, trained.dim),
                recipe,
                ids=held.column("id"),
                attributes=held.select(list(_COLUMNS)),
                metric=trained.metric,
                zero="score-0",
                threads=threads,
            )
            rows.take_over(made.rows)

    # -- reading ------------------------------------------------------------------------------

    def search(self, query: str, k: int = 10, filter: Any = None, *, offset: int = 0) -> list[Record]:
        """Return the k rows nearest to a text, best first.

        Parameters
        ----------
        query
            The text.
        k, offset
            At most so many rows, after so many of the best that are passed over.
        filter
            A condition on the metadata, as data (``{"lang": "de", "page": {"$gte": 3}}``) or as text
            (``lang == "de" and page >= 3``); fields of dicts are named by dots. ``{"$text": {"$contains": "word"}}``
            is a condition on the texts.

        Raises
        ------
        DtypeError
            The query is not a text.
        StateError
            The collection has no encoder.
        FilterError, ParameterError
            The filter, or a number, is not one that is accepted.

        """
        if not isinstance(query, str):
            raise DtypeError(f"query: {type(query).__name__}, expected str; search_vectors takes several at once")
        return self.search_vectors(self.embed([query], "query"), k, filter, offset=offset)[0]

    def search_vectors(
        self,
        vectors: Any,
        k: int = 10,
        filter: Any = None,
        *,
        offset: int = 0,
        with_vectors: bool = False,
        ids: Sequence[str] | None = None,
    ) -> list[list[Record]]:
        """Return the k rows nearest to every vector, best first: one list of records per vector.

        Parameters
        ----------
        vectors
            (nq, d), or (d,) for one.
        k, filter, offset
            The same as for `search`.
        with_vectors
            Whether the records hold their vectors, as precisely as the index keeps them.
        ids
            Only rows of these ids; those that the collection does not hold are passed over. Default: all rows.

        Raises
        ------
        ShapeError, DtypeError, NonFiniteError
            The vectors do not fit the collection, or the ids are no list of strings.
        FilterError, ParameterError
            The filter, or a number, is not one that is accepted.

        """
        condition: Any = self._filter(filter, embedded=True)
        if ids is not None:
            known = self.index.get(_listed("ids", ids), filter=condition, columns=(), missing="ignore")
            condition = known.column("id")
        hits = self.index.search(vectors, k, filter=condition, columns=self._columns(), offset=offset)
        decoded = None
        if with_vectors:
            decoded = dict(self._vectors_by_id({one for row in hits.ids.tolist() for one in row if one is not None}))
        return [self._records(hits, query, decoded) for query in range(len(hits.ids))]

    def get(
        self,
        ids: Sequence[str] | None = None,
        *,
        filter: Any = None,
        limit: int | None = None,
        offset: int = 0,
        with_vectors: bool = False,
        missing: str = "error",
    ) -> list[Record]:
        """Return rows by ids, in their order, by a filter on metadata, or by both.

        Parameters
        ----------
        ids, limit, offset, missing
            The same as for `annvq.Index.get`.
        filter
            A condition on the metadata, as for `search`; together with ``ids``, only the rows of these that pass.
        with_vectors
            Whether the records hold their vectors, as precisely as the index keeps them.

        Raises
        ------
        UnknownIdError, FilterError, ParameterError
            The same as for `annvq.Index.get`.

        """
        if ids is not None:
            ids = _listed("ids", ids)
        table = self.index.get(
            ids, filter=self._filter(filter), columns=self._columns(), vectors=with_vectors, limit=limit,
            offset=offset, missing=missing,
        )  # fmt: skip
        return [
            Record(row["id"], row["text"], json.loads(row["metadata"]), vector=_vector(row))
            for row in table.to_pylist()
            if "text" in row
        ]

    def count(self, filter: Any = None) -> int:
        """Return how many rows pass a filter on metadata; all rows without one."""
        return self.index.count(self._filter(filter))

    def values(self, field: str, filter: Any = None) -> list[Any]:
        """Return the different values of a field of the metadata, for rows that pass a filter, in no particular order.

        Of lists, these are the items; dicts and None are left out. 1, 1.0 and True are different values.
        """
        return distinct_values(self.index.rows.current.narrowed(self._filter(filter)).snapshot, _attribute(field))

    def embed(self, texts: Sequence[str], side: str = "document") -> np.ndarray:
        """Return the encoder's vectors (n, d) float32 of texts, as "document" or "query" (StateError without one)."""
        if self.encoder is None:
            raise StateError("the collection has no encoder: give one to create or open, or give vectors")
        return _embedded(self.encoder, list(texts), side)

    # -- keeping ------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the collection to a folder, all or nothing."""
        self.index.save(path)

    def close(self) -> None:
        """Release files, memory and lock; see `annvq.Index.close`."""
        self.index.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        self.index.__exit__(kind, *exc)

    # -- inside -------------------------------------------------------------------------------

    def _columns(self) -> tuple[str, ...]:
        return _COLUMNS if self.index.rows.current.snapshot.schema is not None else ()

    def _filter(self, given: Any, *, embedded: bool = False) -> Condition | None:
        """Return the condition on attributes of one on metadata; ``embedded`` leaves rows without a vector out."""
        parts: list[Condition] = []
        if given is not None:
            condition = read(given)
            if condition is None:
                raise FilterError(f"filter: {type(given).__name__}, expected a dict or a text about the metadata")
            parts.append(renamed(condition, _attribute))
        if not self._columns():
            return None
        if embedded and self._holds_rows_without_vector():
            parts.append(Comparison("embedded", "eq", True))
        return None if not parts else parts[0] if len(parts) == 1 else And(tuple(parts))

    def _holds_rows_without_vector(self) -> bool:
        snapshot = self.index.rows.current.snapshot
        if self._known is None or self._known[0] is not snapshot:
            self._known = snapshot, self.index.count(_WITHOUT_VECTOR) > 0
        return self._known[1]

    def _vectors_of(self, texts: list[str | None], given: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the vectors (n, d) of new rows, zero where there is none, and where there is one, (n,) bool."""
        if given is None:
            present = [text for text in texts if text is not None]
            rows, vectors = np.array([text is not None for text in texts]), self.embed(present) if present else None
        elif isinstance(given, list | tuple) and any(one is None for one in given):
            _listed("vectors", given, len(texts))
            rows = np.array([one is not None for one in given])
            vectors = np.asarray([one for one in given if one is not None], np.float32) if rows.any() else None
        else:
            return np.asarray(given), np.ones(len(texts), bool)
        matrix = np.zeros((len(texts), self.index.dim), np.float32)
        if vectors is not None:
            if vectors.shape != (int(rows.sum()), self.index.dim):
                raise ShapeError(f"vectors {vectors.shape}, expected {(int(rows.sum()), self.index.dim)}")
            matrix[rows] = vectors
        return matrix, rows

    def _vectors_by_id(self, ids: set[str]) -> Any:
        listed = sorted(ids)
        return zip(listed, self.index.reconstruct(listed), strict=True) if listed else ()

    def _records(self, hits: Hits, query: int, vectors: Mapping[str, np.ndarray] | None) -> list[Record]:
        k = hits.ids.shape[1]
        found = [place for place in range(k) if hits.ids[query, place] not in (None, -1)]
        if not found or hits.attributes is None:
            return []
        rows = hits.attributes.slice(query * k, len(found)).to_pylist()
        similarities = hits.similarities[query]
        return [
            Record(
                hits.ids[query, place], row["text"], json.loads(row["metadata"]), float(hits.scores[query, place]),
                float(similarities[place]), None if vectors is None else vectors[hits.ids[query, place]],
            )
            for place, row in zip(found, rows, strict=True)
        ]  # fmt: skip


_WITHOUT_VECTOR = Comparison("embedded", "eq", False)


def _attribute(field: str) -> str:
    """Return the path, in the rows' attributes, of a field that a filter on a collection names."""
    return "text" if field == TEXT else f"metadata.{field}"


def _listed(name: str, given: Any, n: int | None = None) -> list[Any]:
    if isinstance(given, str | bytes | Mapping):
        raise DtypeError(f"{name}: {type(given).__name__}, expected a list")
    try:
        made = list(given)
    except TypeError:
        raise DtypeError(f"{name}: {type(given).__name__}, expected a list") from None
    if n is not None and len(made) != n:
        raise ShapeError(f"{len(made)} {name}, expected {n}")
    return made


def _to_json(metadata: Any, row: int) -> str:
    """Return metadata as JSON text that `json.loads` makes equal metadata of (DtypeError)."""
    if metadata is None:
        return "{}"
    if not isinstance(metadata, Mapping):
        raise DtypeError(f"metadatas: row {row} is {type(metadata).__name__}, expected a dict")
    plain = _plain(dict(metadata), f"metadatas: row {row}")
    return json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _plain(value: Any, where: str) -> Any:
    """Return a value that JSON gives back as it is, with NumPy's numbers as Python's (DtypeError)."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, np.bool_ | np.integer | np.floating):
        value = value.item()
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        if not np.isfinite(value):
            raise DtypeError(f"{where}: {value}, which JSON does not hold")
        return value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise DtypeError(f"{where}: key {key!r}, expected str")
        return {key: _plain(item, f"{where}, {key!r}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, where) for item in value]
    raise DtypeError(f"{where}: {type(value).__name__}, expected what JSON holds: numbers, text, lists, dicts")


def _attributes(texts: list[str | None], metadata: list[str], is_embedded: np.ndarray) -> pa.Table:
    import pyarrow as pa

    columns = {"text": pa.array(texts, pa.large_string()), "metadata": pa.array(metadata, pa.large_string())}
    return pa.table({**columns, "embedded": pa.array(is_embedded)})


def _embedded(encoder: Any, texts: list[str], side: str) -> np.ndarray:
    """Return vectors (n, d) float32 of texts (ShapeError, DtypeError: the encoder returned something else)."""
    call: Callable[[list[str]], Any] | None = getattr(encoder, f"encode_{side}", None) or getattr(
        encoder, "encode", None
    )
    call = call or (encoder if callable(encoder) else None)
    if call is None:
        raise DtypeError(f"encoder: {type(encoder).__name__}, expected a function, or an object with encode")
    try:
        vectors = np.asarray(call(texts), np.float32)
    except (TypeError, ValueError) as error:
        raise DtypeError(f"the encoder's result is no array of numbers: {error}") from error
    if vectors.ndim != 2 or len(vectors) != len(texts):
        raise ShapeError(f"the encoder returned {vectors.shape} for {len(texts)} texts, expected ({len(texts)}, d)")
    return vectors


def _vector(row: Mapping[str, Any]) -> np.ndarray | None:
    given = row.get("vector")
    return None if given is None or not row["embedded"] else np.array(given, np.float32)
