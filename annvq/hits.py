"""What searches return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from annvq.errors import MissingExtraError, StateError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


class _Pair(NamedTuple):
    ids: np.ndarray
    scores: np.ndarray


class Hits(_Pair):
    """The k best hits of every query, ordered by descending score and then by ascending id.

    ``ids`` (nq, k) are int64 or, for string ids, objects. ``scores`` (nq, k) are float32; larger is closer for every
    metric (inner product, cosine, or minus the squared Euclidean distance). Where fewer than k rows were found, the
    remaining places hold the id -1 (None for strings) and the score -inf. Hits unpack as ``ids, scores``.

    Where the queries were tensors on a GPU, ids (if they are integers), scores, `distances` and `similarities` are
    tensors there; `to_lists`, `to_arrow` and `to_pandas` copy them to the host.

    Attributes
    ----------
    metric
        The metric of the scores, or None for hits that no search made.
    attributes
        An Arrow table of nq * k rows, which has the columns that the search was asked for; row q * k + i belongs to
        ``ids[q, i]`` and is null where no hit fills the place. None if the search was asked for none.
    explain
        What the search did and how long it took (`annvq.index.search.explain.Explanation`), if it was asked to say so.

    Examples
    --------
    >>> index = annvq.build([[0.0, 0.0], [3.0, 4.0]], "flat", metric="l2", ids=["a", "b"])
    >>> hits = index.search([0.0, 1.0], k=3)
    >>> hits.ids
    array([['a', 'b', None]], dtype=object)
    >>> hits.distances
    array([[ 1., 18., inf]], dtype=float32)
    >>> hits.to_lists()
    [[('a', -1.0), ('b', -18.0)]]

    """

    metric: str | None = None
    attributes: pa.Table | None = None
    explain: Any = None

    @property
    def distances(self) -> np.ndarray:
        """Distances (nq, k) float32, smaller is closer; infinite where no hit fills the place.

        They are squared Euclidean distances under "l2", Hamming distances under "hamming", 1 - cosine under "cosine",
        and minus the inner product under "ip". StateError is raised if no search made the hits.
        """
        if self._known_metric() == "cosine":
            return (1 - self.scores).clip(min=0)  # rounding may take a score above 1
        return -self.scores

    @property
    def similarities(self) -> np.ndarray:
        """Similarities (nq, k) float32 from 0 to 1, larger is closer; 0 where no hit fills the place.

        They rise with the scores: (1 + s) / 2 under "cosine", 1 / (1 + d) of the distance d under "l2" and "hamming",
        and the logistic function 1 / (1 + exp(-s)) under "ip". StateError is raised if no search made the hits.
        """
        return similarities(self.scores, self._known_metric())

    def _known_metric(self) -> str:
        if self.metric is None:
            raise StateError("these hits come from no search, so the metric of their scores is not known")
        return self.metric

    def to_lists(self) -> list[list[tuple[Any, float]]]:
        """Return a list of (id, score) pairs per query, without the places that no hit fills."""
        return [
            [(label, float(score)) for label, score in zip(ids, scores, strict=True) if score != -np.inf]
            for ids, scores in zip(self.ids.tolist(), _on_host(self.scores), strict=True)
        ]

    def to_arrow(self) -> pa.Table:
        """Return one row per hit: query and rank (int64, from 0), id, score, and the attributes if there are any.

        Places that no hit fills are left out. StateError is raised if an attribute has the name of another column.
        """
        import pyarrow as pa

        scores = _on_host(self.scores)
        queries, ranks = np.nonzero(scores != -np.inf)
        ids = _on_host(self.ids)[queries, ranks]
        columns: dict[str, Any] = {
            "query": pa.array(queries),
            "rank": pa.array(ranks),
            "id": pa.array(ids.tolist(), pa.string()) if ids.dtype == object else pa.array(ids),
            "score": pa.array(scores[queries, ranks]),
        }
        if self.attributes is not None:
            if taken := set(columns) & set(self.attributes.schema.names):
                raise StateError(f"attribute {min(taken)!r} has the name of another column of the hits")
            held = self.attributes.take(pa.array(queries * scores.shape[1] + ranks))
            columns |= dict(zip(held.schema.names, held.columns, strict=True))
        return pa.table(columns)

    def to_pandas(self) -> pd.DataFrame:
        """Return what `to_arrow` returns as a pandas data frame (MissingExtraError without pandas)."""
        try:
            import pandas  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("pandas", "pandas") from error
        return self.to_arrow().to_pandas()


def _on_host(values: Any) -> Any:
    """Return ids or scores as they are or, if they are a tensor, as an array on the host."""
    return values.cpu().numpy() if hasattr(values, "cpu") else values


def similarities(scores: np.ndarray, metric: str) -> np.ndarray:
    """Return scores of a metric as similarities, float32 of the same shape, as `Hits.similarities` has them."""
    if hasattr(scores, "cpu"):
        return _similarities_there(scores, metric)
    scores = np.array(scores, np.float64)
    missing = np.isneginf(scores)
    scores[missing] = 0
    if metric == "cosine":
        found = np.clip((1 + scores) / 2, 0, 1)
    elif metric == "ip":
        found = np.exp(-np.logaddexp(0, -scores))
    else:
        found = 1 / (1 + np.maximum(0, -scores))
    return np.where(missing, 0, found).astype(np.float32)


def _similarities_there(scores: Any, metric: str) -> Any:
    """Return what `similarities` does, of a tensor, on its device; a score of -inf becomes 0 by itself."""
    scores = scores.double()
    if metric == "cosine":
        found = ((1 + scores) / 2).clip(0, 1)
    elif metric == "ip":
        found = scores.sigmoid()
    else:
        found = 1 / (1 + (-scores).clip(min=0))
    return found.float()


class RangeHits(NamedTuple):
    """All rows within a radius of every query, in the order of `Hits`.

    Attributes
    ----------
    offsets
        (nq + 1,) int64: the hits of query q stand at ``offsets[q]:offsets[q + 1]``.
    ids
        (total,) int64 or, for string ids, objects.
    scores
        (total,) float32; larger is closer.

    Examples
    --------
    >>> index = annvq.build([[0.0, 0.0], [3.0, 4.0]], "flat", metric="l2")
    >>> hits = index.range_search([[0.0, 1.0], [3.0, 5.0]], radius=20.0)
    >>> hits.ids[hits.offsets[1] : hits.offsets[2]]  # of the second query
    array([1])

    """

    offsets: np.ndarray
    ids: np.ndarray
    scores: np.ndarray
