"""An index for PyLate's late-interaction models: ``retrieve.ColBERT(index=Annvq(...))``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from annvq.errors import MissingExtraError, StateError
from annvq.multivector import MultiVectorIndex, MultiVectorRecipe

try:
    from pylate.indexes.base import Base
except ImportError as error:
    raise MissingExtraError("pylate", "pylate") from error


class Annvq(Base):
    """PyLate's `indexes.base.Base` over a `MultiVectorIndex` in a folder, which is the attribute ``index``.

    A search finds candidates and scores them by MaxSim in one call, as PyLate's PLAID does.
    """

    is_end_to_end_index = True

    def __init__(
        self,
        index_folder: str | os.PathLike[str] = "indexes",
        index_name: str = "annvq",
        override: bool = False,
        recipe: MultiVectorRecipe | str | os.PathLike[str] = "muvera",
        *,
        candidates: int | None = None,
        seed: int = 0,
        threads: int | None = None,
    ) -> None:
        """Open the index in ``index_folder/index_name``, or prepare one that the first documents build there.

        Parameters
        ----------
        index_folder, index_name
            Where the index is.
        override
            Whether an index that is there is replaced, when the first documents are added.
        recipe
            The recipe of a new index: "muvera", "centroid-interaction", "chamfer-exact", or what else
            `MultiVectorIndex.build` takes.
        candidates
            The number of documents that are scored by their vectors; see `MultiVectorIndex.search`.
        seed, threads
            The same as for `MultiVectorIndex.build`.

        """
        self.path = Path(index_folder) / index_name
        self.recipe = recipe
        self.candidates = candidates
        self.seed = seed
        self.threads = threads
        is_there = self.path.exists() and not override
        self.index: MultiVectorIndex | None = MultiVectorIndex.open(self.path, "rw") if is_there else None

    def add_documents(
        self, documents_ids: str | Sequence[Any], documents_embeddings: Any, batch_size: int | None = None
    ) -> Annvq:
        """Add documents, in the place of those that the index holds under the same ids, and return this object.

        Ids are all strings or all integers; embeddings are one array (t, d) per document, NumPy or torch. They are
        on disk when the call returns. ``batch_size`` is not used.
        """
        ids, sets = _listed(documents_ids), _sets(documents_embeddings)
        if self.index is not None:
            self.index.upsert(sets, ids, threads=self.threads)
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.index = MultiVectorIndex.build(
                sets, self.recipe, ids=ids, seed=self.seed, threads=self.threads, path=self.path
            )
        return self

    def update_documents(self, documents_ids: str | Sequence[Any], documents_embeddings: Any) -> Annvq:
        """Replace documents, or add them; the same as `add_documents`."""
        return self.add_documents(documents_ids, documents_embeddings)

    def remove_documents(self, documents_ids: str | Sequence[Any]) -> Annvq:
        """Remove documents, and return this object; ids that the index does not hold are passed over."""
        self._filled().remove(_listed(documents_ids), missing="ignore")
        return self

    def __call__(
        self, queries_embeddings: Any, k: int = 10, subset: Sequence[Any] | None = None
    ) -> list[list[dict[str, Any]]]:
        """Return the k best documents of every query: ``[[{"id": ..., "score": ...}, ...], ...]``, best first.

        ``subset`` are the ids of the documents that may be returned, either one list or a list per query. StateError is
        raised if no documents were added.
        """
        index, queries = self._filled(), _sets(queries_embeddings)
        if subset is None:
            return _results(index.search(queries, k, candidates=self._at_least(k), threads=self.threads))
        each = isinstance(subset[0], list | tuple) if len(subset) else False
        allowed = list(subset) if each else [subset] * len(queries)
        results = []
        for query, ids in zip(queries, allowed, strict=True):
            if not len(ids):
                results.append([])
                continue
            hits = index.search([query], k, filter=list(ids), candidates=self._at_least(k), threads=self.threads)
            results += _results(hits)
        return results

    def get_documents_embeddings(self, documents_ids: Sequence[Sequence[Any]]) -> list[list[np.ndarray]]:
        """Return the embeddings (t, d) float32 of lists of documents, as the index keeps them (UnknownIdError)."""
        return [list(self._filled().reconstruct(list(group))) for group in documents_ids]

    def _at_least(self, k: int) -> int | None:
        return None if self.candidates is None else max(k, self.candidates)

    def _filled(self) -> MultiVectorIndex:
        if self.index is None:
            raise StateError("the index is empty: add documents first")
        return self.index


def _results(hits: Any) -> list[list[dict[str, Any]]]:
    return [[{"id": one, "score": score} for one, score in pairs] for pairs in hits.to_lists()]


def _listed(ids: str | Sequence[Any]) -> list[Any]:
    return [ids] if isinstance(ids, str) else list(ids)


def _sets(embeddings: Any) -> list[Any]:
    """Return one array (t, d) per document or query; a single one may stand for itself."""
    return [embeddings] if getattr(embeddings, "ndim", None) == 2 else list(embeddings)
