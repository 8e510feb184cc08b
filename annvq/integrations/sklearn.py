"""scikit-learn (extra "sklearn"): a transformer of vectors to the graph of their nearest neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np

import annvq
from annvq.arguments import as_choice, as_count
from annvq.errors import MissingExtraError, ParameterError

try:
    from scipy.sparse import csr_matrix
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise MissingExtraError("scikit-learn", "sklearn") from error

_METRICS = {"euclidean": "l2", "sqeuclidean": "l2", "cosine": "cosine"}  # annvq's by scikit-learn's names
_MODES = ("distance", "connectivity")


class AnnvqTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Transform vectors into a sparse graph of their nearest neighbours, as `KNeighborsTransformer` does.

    The graph is what scikit-learn's estimators take as ``metric="precomputed"``.

    Parameters
    ----------
    mode
        "distance", or "connectivity" for a graph of ones.
    n_neighbors
        The number of neighbours of a vector. In mode "distance" there is one more, because a vector that was fitted is
        its own first neighbour.
    metric
        "euclidean", "sqeuclidean" or "cosine" (1 minus the cosine, which is 0 for vectors that are zero).
    recipe
        What the index is made of, as for `annvq.build`; "auto" chooses by the number of vectors, and is exact for
        fewer than 20,000.
    nprobe, rerank
        How far a search goes, as for `annvq.Index.search`; by default as far as the recipe says.
    threads
        The number of threads; by default, all CPUs of the process. The result does not depend on it.

    Attributes
    ----------
    index_
        The `annvq.Index` of the vectors, whose ids are their rows.
    n_samples_fit_
        The number of vectors.
    n_features_in_, feature_names_in_
        What scikit-learn's estimators note of the data.

    """

    def __init__(
        self,
        *,
        mode: str = "distance",
        n_neighbors: int = 5,
        metric: str = "euclidean",
        recipe: Any = "auto",
        nprobe: int | None = None,
        rerank: int | None = None,
        threads: int | None = None,
    ) -> None:
        self.mode = mode
        self.n_neighbors = n_neighbors
        self.metric = metric
        self.recipe = recipe
        self.nprobe = nprobe
        self.rerank = rerank
        self.threads = threads

    def fit(self, X: Any, y: Any = None) -> AnnvqTransformer:
        """Build the index of vectors (n, d); ``y`` is not used.

        Errors are those of `annvq.build` and of scikit-learn's validation, both ValueErrors.
        """
        self._check()
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        metric = _METRICS[self.metric]
        self.index_ = annvq.build(X, self.recipe, metric=metric, zero="score-0", threads=self.threads)
        self.n_samples_fit_ = self._n_features_out = len(X)
        return self

    def transform(self, X: Any) -> csr_matrix:
        """Return the graph from vectors (nq, d) to their neighbours among the fitted ones: CSR of shape (nq, n).

        The neighbours of a row are in the order of their distances. NotFittedError is raised before `fit`,
        ParameterError if so many vectors were not fitted.
        """
        check_is_fitted(self)
        self._check()
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return self._graph(X, *self._neighbors(X, self._places))

    def fit_transform(self, X: Any, y: Any = None) -> csr_matrix:
        """Fit vectors (n, d) and return the graph (n, n) between them.

        Every vector is its own first neighbour, at distance 0, also where codes are not exact or others are equal.
        """
        self.fit(X)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        ids, distances = self._neighbors(X, self._places)
        own = np.arange(len(X))[:, None]
        other = np.argsort(ids == own, axis=1, kind="stable")[:, :-1]  # without itself, or without the last
        ids, distances = (np.take_along_axis(found, other, axis=1) for found in (ids, distances))
        return self._graph(X, np.hstack([own, ids]), np.hstack([np.zeros_like(own, np.float32), distances]))

    @property
    def _places(self) -> int:
        return self.n_neighbors + (self.mode == "distance")

    def _check(self) -> None:
        as_choice("mode", self.mode, _MODES)
        as_choice("metric", self.metric, tuple(_METRICS))
        as_count("n_neighbors", self.n_neighbors)

    def _neighbors(self, X: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids and distances (nq, k) of the nearest neighbours (ParameterError if there are not as many)."""
        if k > self.n_samples_fit_:
            raise ParameterError(
                f"{k} neighbors of each vector in mode {self.mode!r}, but n_samples_fit = {self.n_samples_fit_}"
            )
        hits = self.index_.search(X, k, nprobe=self.nprobe, rerank=self.rerank, threads=self.threads)
        distances = np.maximum(hits.distances, 0)
        return hits.ids, np.sqrt(distances) if self.metric == "euclidean" else distances

    def _graph(self, X: np.ndarray, ids: np.ndarray, distances: np.ndarray) -> csr_matrix:
        values = distances if self.mode == "distance" else np.ones_like(distances)
        starts = np.arange(0, ids.size + 1, ids.shape[1])
        return csr_matrix((values.ravel().astype(X.dtype), ids.ravel(), starts), (len(ids), self.n_samples_fit_))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
