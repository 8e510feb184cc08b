"""An index with the methods of a Faiss index, for code that takes one; Faiss itself is not needed.

`annvq.interop.faiss` converts indexes to and from Faiss.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import annvq
from annvq.arguments import as_choice, as_count
from annvq.errors import DtypeError, ParameterError, RecipeError, StateError
from annvq.metrics import METRICS

_INNER_PRODUCT, _L2 = 0, 1  # faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2
_EXTREME = np.finfo(np.float32).max


class FaissLike:
    """An annvq index under the names that Faiss's indexes have.

    Distances are Faiss's: inner products or cosines, descending, or squared Euclidean distances, ascending. A place
    that no row fills has the id -1 and the lowest or the highest float32.

    Parameters
    ----------
    d
        Dimension of the vectors.
    recipe
        The name of a recipe, the path of one, a factory string or an `annvq.Recipe`.
    metric
        "ip", "l2" or "cosine". The last is an inner product to Faiss: vectors and queries need not be normalized.
    n
        The number of vectors that the index will hold, from which numbers of lists follow. By default as many as
        `train` is given.

    Attributes
    ----------
    d, metric_type
        Dimension, and 0 for inner products and cosines or 1 for squared Euclidean distances.
    nprobe
        The number of lists that a search scans, or None for the index's own default.

    Raises
    ------
    RecipeError, ParameterError
        An argument is not valid.

    """

    def __init__(self, d: int, recipe: Any = "balanced", *, metric: str = "ip", n: int | None = None) -> None:
        self.d = as_count("d", d)
        self.metric = as_choice("metric", metric, METRICS)
        self.metric_type = _L2 if metric == "l2" else _INNER_PRODUCT
        self.nprobe: int | None = None
        self._recipe = annvq.recipes.load(recipe)
        self._n = None if n is None else as_count("n", n)
        self._index: annvq.Index | None = None
        try:
            self.train(np.empty((0, self.d), np.float32))
        except (ParameterError, RecipeError):  # the recipe learns from vectors
            self._index = None

    @classmethod
    def of(cls, index: annvq.Index) -> FaissLike:
        """Return an index of annvq under Faiss's names; it is shared, not copied.

        DtypeError is raised for string ids, ParameterError for metric "hamming" and for what is no `annvq.Index`.
        """
        if not isinstance(index, annvq.Index):
            raise ParameterError(f"index: {type(index).__name__}, expected an annvq.Index")
        if index.ids.dtype == object:
            raise DtypeError("the index has string ids, and those of Faiss are integers")
        made = cls(index.dim, index.recipe, metric=index.metric)
        made._index = index
        return made

    @property
    def wrapped(self) -> annvq.Index:
        """The index of annvq itself; StateError before it is trained."""
        if self._index is None:
            raise StateError(
                f"recipe {self._recipe.name!r} learns from vectors: call train first (train_size= of datasets)"
            )
        return self._index

    @property
    def is_trained(self) -> bool:
        """Whether vectors can be added; from the beginning if the recipe learns nothing."""
        return self._index is not None

    @property
    def ntotal(self) -> int:
        """The number of vectors."""
        return 0 if self._index is None else len(self._index)

    def train(self, x: Any) -> None:
        """Learn lists and codes from vectors (n, d); the index is empty afterwards, so StateError if it holds any."""
        if self.ntotal:
            raise StateError(f"the index holds {self.ntotal} vectors, whose codes another training would not fit")
        trained = annvq.train(x, self._recipe, n=self._n, metric=self.metric)
        self._index = annvq.build(np.empty((0, self.d), np.float32), trained=trained)

    def add(self, x: Any) -> None:
        """Add vectors (n, d) under the ids that follow the largest one, or from 0 on."""
        self.wrapped.add(x)

    def add_with_ids(self, x: Any, ids: Any) -> None:
        """Add vectors (n, d) under n integers, each of which is new to the index (DuplicateIdError)."""
        self.wrapped.add(x, ids=np.asarray(ids))

    def search(self, x: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return distances (nq, k) float32 and ids (nq, k) int64 of the k closest vectors of every query."""
        ids, scores = self.wrapped.search(x, k, nprobe=self.nprobe)
        return np.clip(self._distances(scores), -_EXTREME, _EXTREME), ids

    def range_search(self, x: Any, thresh: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return offsets (nq + 1,) uint64, distances float32 and ids int64 of all vectors closer than a threshold.

        Those of query q stand at ``lims[q]:lims[q + 1]``. As with Faiss, vectors exactly at the threshold are left out.
        """
        towards = -np.inf if self.metric_type == _L2 else np.inf
        radius = np.nextafter(np.float32(thresh), np.float32(towards))
        offsets, ids, scores = self.wrapped.range_search(x, float(radius), nprobe=self.nprobe)
        return offsets.astype(np.uint64), self._distances(scores), ids

    def reconstruct(self, key: int) -> np.ndarray:
        """Return the vector (d,) float32 of an id, as its codes hold it (UnknownIdError)."""
        return self.wrapped.reconstruct([key])[0]

    def remove_ids(self, x: Any) -> int:
        """Remove the vectors of these ids, if there are any, and return how many there were; other ids stay."""
        return self.wrapped.remove(np.asarray(x, np.int64), missing="ignore")

    def _distances(self, scores: np.ndarray) -> np.ndarray:
        return -scores if self.metric_type == _L2 else scores
