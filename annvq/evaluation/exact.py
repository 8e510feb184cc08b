"""Exact nearest neighbours by brute force in float64: the ground truth, independent of the engine.

Larger scores are closer: inner product, cosine, minus squared L2, or minus Hamming distance. Neighbours are ordered by
descending score, then by ascending row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from annvq.arguments import as_array, as_choice, as_count, as_integers
from annvq.errors import DtypeError, NonFiniteError, ParameterError, ShapeError, ZeroVectorError
from annvq.evaluation.pairs import score_pairs
from annvq.metrics import INDEX_METRICS
from annvq.vectors import as_bits

_MOST = 1 << 31  # neighbours of a query
_QUERY_BLOCK = 256
_BASE_BLOCK = 32_768
_SHIFT_ROWS = 4096  # of which the mean is taken


def exact_neighbors(base: np.ndarray, queries: np.ndarray, k: int, metric: str = "ip") -> tuple[np.ndarray, np.ndarray]:
    """Find the k exact nearest rows of ``base`` for every query.

    A matrix product in float64, of vectors less their mean, finds the rows that can be among them, given the product's
    rounding error; these are then scored one by one (`annvq.evaluation.pairs`). So equal rows get equal scores wherever
    they stand, and a large offset that all vectors share costs no precision.

    Parameters
    ----------
    base
        (n, d), any real dtype, finite.
    queries
        (nq, d), finite.
    k
        Neighbours per query, at least 1.
    metric
        "ip", "cosine", "l2", or "hamming" for packed bits (n, d / 8), uint8 or int8 as `annvq.build` takes them.

    Returns
    -------
    rows, scores
        (nq, k) int64 rows of ``base`` and (nq, k) float64 scores; places beyond n hold -1 and -inf. They are ordered
        by the scores before rounding to float64, then by ascending row.

    Raises
    ------
    ShapeError, DtypeError, ParameterError, ZeroVectorError
    NonFiniteError
        Vectors hold NaN or infinity, or scores overflow float64.

    Examples
    --------
    >>> base = np.array([[0.0, 0.0], [3.0, 4.0], [1.0, 0.0]])
    >>> rows, scores = annvq.evaluation.exact_neighbors(base, np.array([[0.0, 1.0]]), k=2, metric="l2")
    >>> rows, scores
    (array([[0, 2]]), array([[-1., -2.]]))

    """
    k, base, queries = as_count("k", k, most=_MOST), _prepare(base, metric), _prepare(queries, metric)
    _check_dimensions(base, queries)
    metric = _of_numbers(metric)
    shift = _shift(base)
    parts = [
        _neighbors(base, queries[start : start + _QUERY_BLOCK], shift, k, metric)
        for start in range(0, len(queries), _QUERY_BLOCK)
    ]
    rows, scores = zip(*parts) if parts else ([np.empty((0, k), np.int64)], [np.empty((0, k))])
    return np.concatenate(rows), np.concatenate(scores)


def exact_scores(base: np.ndarray, queries: np.ndarray, rows: np.ndarray, metric: str = "ip") -> np.ndarray:
    """Score given rows of ``base`` in float64.

    Parameters
    ----------
    base, queries, metric
        As for `exact_neighbors`.
    rows
        (nq, k) int64; negative places are missing.

    Returns
    -------
    scores
        (nq, k) float64, -inf for missing rows; they equal those of `exact_neighbors`.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError, ZeroVectorError
        The vectors are none that `exact_neighbors` takes, or ``rows`` does not have a row of integers for each query.
    ParameterError
        A row is beyond the last of ``base``, or the metric is unknown.

    """
    base, queries = _prepare(base, metric), _prepare(queries, metric)
    _check_dimensions(base, queries)
    rows = as_integers("rows", rows, "rows of the base (nq, k)")
    if rows.ndim != 2 or len(rows) != len(queries):
        raise ShapeError(f"rows have shape {rows.shape}, expected ({len(queries)}, k)")
    if rows.size and rows.max() >= len(base):
        raise ParameterError(f"rows: {rows.max()} of a base of {len(base)} rows")
    scores = np.full(rows.shape, -np.inf)
    owners, places = np.nonzero(rows >= 0)
    scores[owners, places] = _checked(*score_pairs(base, queries, rows[owners, places], owners, _of_numbers(metric)))[0]
    return scores


def _of_numbers(metric: str) -> str:
    """Return the metric that compares what `_prepare` returns: squared distances of 0 and 1 are Hamming distances."""
    return "l2" if metric == "hamming" else metric


def _check_dimensions(base: np.ndarray, queries: np.ndarray) -> None:
    if base.shape[1] != queries.shape[1]:
        raise ShapeError(f"queries have {queries.shape[1]} dimensions, the base has {base.shape[1]}")


def _prepare(vectors: np.ndarray, metric: str) -> np.ndarray:
    """Return (n, d) vectors that the metric can take: of unit length for cosine, else as given."""
    as_choice("metric", metric, INDEX_METRICS)
    vectors = as_array("vectors", vectors, "real numbers (n, d)")
    if vectors.ndim != 2:
        raise ShapeError(f"expected vectors of shape (n, d), got {vectors.shape}")
    if vectors.dtype.kind not in "fiu":
        raise DtypeError(f"vectors of {vectors.dtype}, expected real numbers")
    if metric == "hamming":
        return as_bits(vectors)
    if metric != "cosine":
        return vectors
    vectors = _finite(vectors.astype(np.float64), 0)
    largest = np.abs(vectors).max(axis=1, initial=0.0, keepdims=True)
    if not np.all(largest > 0):
        row = int(np.argmin(largest))
        raise ZeroVectorError(f"row {row} has no direction: cosine needs non-zero vectors")
    vectors = np.ldexp(vectors, -np.frexp(largest)[1])  # exactly, so that no square over- or underflows
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _finite(block: np.ndarray, first_row: int) -> np.ndarray:
    good = np.isfinite(block).all(axis=1)
    if not good.all():
        raise NonFiniteError(f"row {first_row + int(np.argmin(good))} holds NaN or infinity; expected finite numbers")
    return block


def _shift(base: np.ndarray) -> np.ndarray:
    """Return the mean (d,) of some rows."""
    some = base[:: max(1, -(-len(base) // _SHIFT_ROWS))].astype(np.float64)
    with np.errstate(all="ignore"):
        return np.nan_to_num(some.mean(axis=0), posinf=0.0, neginf=0.0) if len(some) else np.zeros(base.shape[1])


@dataclass(frozen=True)
class _Best:
    """The best rows seen so far, at most k per query, ordered by owner, then by score."""

    owners: np.ndarray
    rows: np.ndarray
    scores: np.ndarray
    finer: np.ndarray

    @classmethod
    def none(cls) -> _Best:
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0))

    def with_more(self, more: _Best, k: int) -> _Best:
        pairs = zip(
            (self.owners, self.rows, self.scores, self.finer), (more.owners, more.rows, more.scores, more.finer)
        )
        owners, rows, scores, finer = (np.concatenate(pair) for pair in pairs)
        order = np.lexsort((rows, -finer, -scores, owners))
        kept = order[_place_among_equals(owners[order]) < k]
        return _Best(owners[kept], rows[kept], scores[kept], finer[kept])


def _place_among_equals(ordered: np.ndarray) -> np.ndarray:
    """Return how many equal numbers stand before each of an ascending array."""
    return np.arange(len(ordered)) - np.searchsorted(ordered, ordered)


def _neighbors(
    base: np.ndarray, queries: np.ndarray, shift: np.ndarray, k: int, metric: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return what `exact_neighbors` does, for some queries."""
    asked = _finite(queries.astype(np.float64), 0)
    largest = np.full((len(queries), 0), -np.inf)
    best = _Best.none()
    for start in range(0, len(base), _BASE_BLOCK):
        block = _finite(base[start : start + _BASE_BLOCK].astype(np.float64), start)  # the base may be a memory map
        with np.errstate(all="ignore"):  # what overflows is compared pair by pair
            products, margin = _proposals(block, asked, shift, metric)
            largest = _largest(np.concatenate([largest, _largest(products, k) - margin], axis=1), k)
            least = largest.min(axis=1, keepdims=True) if largest.shape[1] == k else -np.inf
            owners, places = np.nonzero(~(products < least - margin))
        scores, finer = _checked(*score_pairs(base, queries, start + places, owners, metric))
        best = best.with_more(_Best(owners, start + places, scores, finer), k)
    rows, scores = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), -np.inf)
    places = _place_among_equals(best.owners)
    rows[best.owners, places], scores[best.owners, places] = best.rows, best.scores
    return rows, scores


def _proposals(block: np.ndarray, queries: np.ndarray, shift: np.ndarray, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers (nq, block) that equal scores up to a constant per query, and their largest error (nq, 1).

    A sum of d products, whatever its order, is off by at most d units of rounding of the sum of their absolute values
    (Higham 2002, "Accuracy and stability of numerical algorithms", section 3.1). The margin is twice that or more, and
    includes the rounding of the pairs' own scores, which is relative to the distance (l2, cosine), or to the products
    in twice the digits.
    """
    d, unit = block.shape[1], np.finfo(np.float64).eps
    near = block - shift
    size = np.sqrt(np.square(near).sum(axis=1)).max(initial=0.0)
    if metric == "ip":
        products = queries @ near.T
        lengths = np.sqrt(np.square(queries).sum(axis=1, keepdims=True))
        whole = np.sqrt(np.square(block).sum(axis=1)).max(initial=0.0)
        margin = 2 * (d + 8) * unit * lengths * (size + (d + 8) * unit * whole)
    else:
        moved = queries - shift
        products = moved @ near.T
        products -= np.square(near).sum(axis=1) / 2
        lengths = np.sqrt(np.square(moved).sum(axis=1, keepdims=True))
        margin = 2 * (d + 8) * unit * size * (lengths + size) + 2 * (d.bit_length() + 8) * unit * (lengths + size) ** 2
    return products, margin + d * np.finfo(np.float64).tiny


def _checked(scores: np.ndarray, finer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not np.isfinite(scores).all():
        raise NonFiniteError(
            "scores that are not finite: NaN or infinity in the vectors, or products that overflow float64"
        )
    return scores, finer


def _largest(scores: np.ndarray, k: int) -> np.ndarray:
    """Return the min(k, columns) largest entries of each row, in no order."""
    columns = scores.shape[1]
    return scores if columns <= k else np.partition(scores, columns - k, axis=1)[:, columns - k :]
