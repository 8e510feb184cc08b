"""Scores of pairs of vectors in float64, exact enough to tell neighbours apart wherever the origin is.

A score is a number and a finer one that breaks ties: what float64 cannot hold beside a large offset. Every pair is
scored by itself, by element-wise operations and sums in a fixed order, so equal rows have equal scores, wherever they
stand and on every machine.
"""

from __future__ import annotations

import numpy as np

_PAIR_BLOCK = 1 << 22  # numbers held at a time
_SPLITTER = 134_217_729.0  # 2^27 + 1: halves a float64's digits (Dekker 1971)


def score_pairs(
    base: np.ndarray, queries: np.ndarray, rows: np.ndarray, owners: np.ndarray, metric: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores (p,) float64 of rows of ``base`` for queries, and what orders equal ones, (p,) float64.

    Parameters
    ----------
    base, queries
        (n, d) and (nq, d) of any real dtype; for "cosine" float64 of unit length.
    rows, owners
        (p,) rows of ``base``, and the query of each.
    metric
        "ip", "cosine" or "l2".

    """
    score = _SCORES[metric]
    scores, finer = np.empty(len(rows)), np.empty(len(rows))
    step = max(1, _PAIR_BLOCK // max(1, base.shape[1]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        # in C order: sums along an axis of other strides have another order
        vectors, asked = (
            np.ascontiguousarray(given[places], np.float64)
            for given, places in ((base, rows[part]), (queries, owners[part]))
        )
        with np.errstate(all="ignore"):  # scores that overflow are infinite, or NaN
            scores[part], finer[part] = score(vectors, asked)
    return scores, finer


def _l2(vectors: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    distances = np.square(vectors - queries).sum(axis=1)
    return -distances, np.zeros(len(vectors))


def _cosine(vectors: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Score by the distance of unit vectors, or of one from the other's opposite, whichever is the shorter."""
    apart = np.square(vectors - queries).sum(axis=1)
    opposite = np.square(vectors + queries).sum(axis=1)
    is_near = apart <= opposite
    return np.where(is_near, 1 - apart / 2, opposite / 2 - 1), np.where(is_near, -apart, opposite)


def _inner(vectors: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return inner products, and what rounding took from them.

    They have twice the digits of float64 (Ogita, Rump and Oishi 2005, "Accurate sum and dot product"): the error of
    every product and sum is itself a float64, and these errors are added up.
    """
    values = vectors * queries
    errors = _product_errors(vectors, queries, values)
    while values.shape[1] > 1:
        half = values.shape[1] // 2
        rest = slice(2 * half, None)
        one, other = values[:, :half], values[:, half : 2 * half]
        sums = one + other
        back = sums - one
        lost = (one - (sums - back)) + (other - back)
        lost += errors[:, :half] + errors[:, half : 2 * half]
        values = np.concatenate([sums, values[:, rest]], axis=1)
        errors = np.concatenate([lost, errors[:, rest]], axis=1)
    if values.shape[1] == 0:
        return np.zeros(len(vectors)), np.zeros(len(vectors))
    total, error = values[:, 0], errors[:, 0]
    scores = total + error
    return scores, (total - scores) + error


def _product_errors(a: np.ndarray, b: np.ndarray, products: np.ndarray) -> np.ndarray:
    """Return a * b - products, which is exact unless something overflows or underflows."""
    high_a, high_b = _upper_half(a), _upper_half(b)
    low_a, low_b = a - high_a, b - high_b
    errors = low_a * low_b - (((products - high_a * high_b) - low_a * high_b) - high_a * low_b)
    return np.where(np.isfinite(errors), errors, 0.0)


def _upper_half(a: np.ndarray) -> np.ndarray:
    large = _SPLITTER * a
    return large - (large - a)


_SCORES = {"ip": _inner, "cosine": _cosine, "l2": _l2}
