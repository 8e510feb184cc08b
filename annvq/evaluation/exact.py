"""Exact neighbours by brute force in float64: the ground truth, independent of the engine.

Larger scores are closer: inner product, cosine, or minus squared L2. Order is score descending,
then row ascending.
"""

from __future__ import annotations

import numpy as np

from annvq.errors import ParameterError, ShapeError, ZeroVectorError

METRICS = ("ip", "cosine", "l2")
_QUERY_BLOCK = 256
_BASE_BLOCK = 32_768


def exact_neighbors(base: np.ndarray, queries: np.ndarray, k: int, metric: str = "ip") -> tuple[np.ndarray, np.ndarray]:
    """Find the k exact nearest rows of ``base`` for every query.

    A matrix product in float64 preselects; the survivors are scored again one by one, so that equal
    rows get equal scores wherever they stand in the matrix (a blocked product does not promise that).

    Parameters
    ----------
    base
        (n, d), any real dtype.
    queries
        (nq, d).
    k
        Neighbours a query, at least 1.
    metric
        "ip", "cosine" or "l2".

    Returns
    -------
    rows, scores
        (nq, k) int64 rows of ``base`` and (nq, k) float64 scores; places beyond n hold -1 and -inf.

    Raises
    ------
    ShapeError, ParameterError, ZeroVectorError

    """
    base, queries = _prepare(base, metric), _prepare(queries, metric)
    if base.shape[1] != queries.shape[1]:
        raise ShapeError(f"queries have {queries.shape[1]} dimensions, the base has {base.shape[1]}")
    if k < 1:
        raise ParameterError(f"k must be at least 1, got {k}")
    rows = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), -np.inf)
    for start in range(0, len(queries), _QUERY_BLOCK):
        block = queries[start : start + _QUERY_BLOCK]
        for q, candidates in enumerate(_preselect(base, block, k, metric)):
            exact = _row_scores(base, block[q], candidates, metric)
            order = np.lexsort((candidates, -exact))[:k]
            rows[start + q, : len(order)] = candidates[order]
            scores[start + q, : len(order)] = exact[order]
    return rows, scores


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
        (nq, k) float64, -inf where the row is missing; equal to those of `exact_neighbors`.

    """
    base, queries = _prepare(base, metric), _prepare(queries, metric)
    rows = np.asarray(rows)
    scores = np.full(rows.shape, -np.inf)
    for q in range(len(queries)):
        present = rows[q] >= 0
        scores[q, present] = _row_scores(base, queries[q], rows[q, present], metric)
    return scores


def _prepare(vectors: np.ndarray, metric: str) -> np.ndarray:
    """Return (n, d) vectors that the metric can take: of unit length for cosine, else as given."""
    if metric not in METRICS:
        raise ParameterError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
    vectors = np.asarray(vectors)
    if vectors.ndim != 2:
        raise ShapeError(f"expected vectors of shape (n, d), got {vectors.shape}")
    if metric != "cosine":
        return vectors
    vectors = vectors.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.all(lengths > 0):
        row = int(np.argmin(lengths))
        raise ZeroVectorError(f"row {row} has no direction: cosine needs non-zero vectors")
    return vectors / lengths


def _preselect(base: np.ndarray, queries: np.ndarray, k: int, metric: str) -> list[np.ndarray]:
    """Return for every query the rows that can be among its k nearest (more than k at near-ties)."""
    found: list[list[np.ndarray]] = [[] for _ in queries]
    best = np.full((len(queries), 0), -np.inf)
    for start in range(0, len(base), _BASE_BLOCK):
        block = _block_scores(base[start : start + _BASE_BLOCK], queries, metric)
        best = np.concatenate([best, _largest(block, k)], axis=1)
        threshold = _largest(best, k).min(axis=1, initial=np.inf)
        # Rounding of the product: far below any difference that matters, far above float64's.
        margin = 1e-9 * (1.0 + np.abs(block).max(axis=1, initial=0.0))
        for q in range(len(queries)):
            found[q].append(start + np.flatnonzero(block[q] >= threshold[q] - margin[q]))
    return [np.concatenate(parts) if parts else np.empty(0, np.int64) for parts in found]


def _block_scores(base: np.ndarray, queries: np.ndarray, metric: str) -> np.ndarray:
    base = base.astype(np.float64)  # a block at a time: the base may be a memory map
    queries = queries.astype(np.float64)
    products = queries @ base.T  # (nq, block)
    if metric != "l2":
        return products
    return 2.0 * products - (base * base).sum(axis=1) - (queries * queries).sum(axis=1)[:, None]


def _largest(scores: np.ndarray, k: int) -> np.ndarray:
    """Return the min(k, columns) largest entries of each row, in no order."""
    columns = scores.shape[1]
    return scores if columns <= k else np.partition(scores, columns - k, axis=1)[:, columns - k :]


def _row_scores(base: np.ndarray, query: np.ndarray, rows: np.ndarray, metric: str) -> np.ndarray:
    vectors = base[rows].astype(np.float64)
    query = query.astype(np.float64)
    if metric == "l2":
        return -((vectors - query) ** 2).sum(axis=1)
    return (vectors * query).sum(axis=1)
