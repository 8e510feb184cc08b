"""What is learned from: documents, queries, and which documents are relevant to which query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from annvq import vectors as door
from annvq.arrays import offsets_of
from annvq.errors import DtypeError, ParameterError, ShapeError

_DEV_SHARE, _LEAST_DEV, _MOST_DEV = 0.1, 20, 1000


@dataclass(frozen=True)
class Texts:
    """Texts whose vectors (n, d), made by the encoder that goes with them, have already been computed."""

    texts: Sequence[str]
    vectors: Any


def as_bytes(texts: Sequence[str]) -> np.ndarray:
    """Return texts as one array of bytes (uint8), for a fingerprint."""
    return np.frombuffer("\0".join(texts).encode("utf-8", "surrogatepass"), np.uint8)


@dataclass(frozen=True)
class Relevance:
    """Relevant documents of every query: rows ``rows[offsets[q]:offsets[q + 1]]`` of the documents."""

    offsets: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, pairs: Any, queries: int, documents: int) -> Relevance:
        """Build from pairs of a query and a document that is relevant to it.

        Parameters
        ----------
        pairs
            (m, 2) integers, each a query's row and a document's row; repeated ones count once.
        queries, documents
            The numbers of queries and documents.

        Raises
        ------
        ShapeError, DtypeError, ParameterError
            The input is not pairs, not integers, or names rows that do not exist.

        """
        pairs = np.asarray(pairs)
        if pairs.size == 0:
            pairs = np.empty((0, 2), np.int64)
        if pairs.ndim != 2 or pairs.shape[1] != 2:
            raise ShapeError(f"relevance of shape {pairs.shape}, expected pairs (m, 2) of query row and document row")
        if pairs.dtype.kind not in "iu":
            raise DtypeError(f"relevance of dtype {pairs.dtype}, expected whole numbers")
        for name, column, count in (("query", 0, queries), ("document", 1, documents)):
            wrong = (pairs[:, column] < 0) | (pairs[:, column] >= count)
            if wrong.any():
                at = int(wrong.argmax())
                raise ParameterError(f"pair {at} names {name} {pairs[at, column]}, there are {count}")
        pairs = np.unique(pairs.astype(np.int64), axis=0)
        offsets = offsets_of(np.bincount(pairs[:, 0], minlength=queries))
        return cls(offsets.astype(np.int64), pairs[:, 1].copy())

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of_query(self, query: int) -> np.ndarray:
        """Return the relevant rows of a query."""
        return self.rows[self.offsets[query] : self.offsets[query + 1]]

    def part(self, queries: np.ndarray) -> Relevance:
        """Return the relevance of some queries (int64), renumbered."""
        found = [self.of_query(q) for q in queries]
        offsets = offsets_of([len(rows) for rows in found])
        return Relevance(offsets, np.concatenate(found) if found else np.empty(0, np.int64))


@dataclass(frozen=True)
class QuerySet:
    """Queries that serve one purpose, such as training.

    Parameters
    ----------
    vectors
        (nq, d) float32, from the original encoder.
    texts
        The same queries as texts, or None.
    relevance
        The relevant documents, or None without labels.

    """

    vectors: np.ndarray
    texts: tuple[str, ...] | None = None
    relevance: Relevance | None = None

    @classmethod
    def of(cls, vectors: Any, texts: Sequence[str] | None, pairs: Any, documents: int, dim: int, name: str) -> QuerySet:
        """Check and take what a user gives.

        Parameters
        ----------
        vectors
            (nq, dim), what `annvq.vectors.as_matrix` takes.
        texts
            nq texts, or None.
        pairs
            Pairs (m, 2) as for `Relevance.of`, or None without labels.
        documents
            The number of documents.
        dim
            The dimension that the vectors must have.
        name
            What messages of errors call the vectors.

        Raises
        ------
        ShapeError, DtypeError, NonFiniteError, ParameterError
            The vectors are none, or do not fit the dimension or the texts; or as for `Relevance.of`.

        """
        rows = door.as_matrix(vectors, dim=dim, name=name)
        if texts is not None and len(texts) != len(rows):
            raise ShapeError(f"{len(rows)} {name} with {len(texts)} texts")
        relevance = None if pairs is None else Relevance.of(pairs, len(rows), documents)
        return cls(rows, None if texts is None else tuple(texts), relevance)

    def __len__(self) -> int:
        return len(self.vectors)

    def arrays(self) -> list[np.ndarray]:
        """Return all numbers and texts, for a fingerprint."""
        labels = [] if self.relevance is None else [self.relevance.offsets, self.relevance.rows]
        return [self.vectors, *labels] if self.texts is None else [self.vectors, *labels, as_bytes(self.texts)]

    def part(self, rows: np.ndarray) -> QuerySet:
        """Return some queries (int64)."""
        texts = None if self.texts is None else tuple(self.texts[row] for row in rows)
        relevance = None if self.relevance is None else self.relevance.part(rows)
        return QuerySet(self.vectors[rows], texts, relevance)

    def labelled(self) -> QuerySet:
        """Return the queries that have a relevant document; all without labels."""
        if self.relevance is None:
            return self
        return self.part(np.flatnonzero(np.diff(self.relevance.offsets) > 0))

    def split(self, seed: int) -> tuple[QuerySet, QuerySet]:
        """Return training queries and a tenth (20 to 1,000) as dev queries, drawn at random.

        Raises
        ------
        ParameterError
            There are fewer than 40 queries.

        """
        held = min(max(_LEAST_DEV, round(_DEV_SHARE * len(self))), _MOST_DEV)
        if len(self) < 2 * _LEAST_DEV:
            raise ParameterError(
                f"{len(self)} queries: expected at least {2 * _LEAST_DEV}, of which some are held out, or dev queries"
            )
        order = np.random.default_rng(seed).permutation(len(self))
        return self.part(np.sort(order[held:])), self.part(np.sort(order[:held]))
