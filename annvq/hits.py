"""What searches return."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Hits(NamedTuple):
    """The best k of every query.

    ``ids (nq, k)``: int64, or object (str), as given at build; missing places -1 or None.
    ``scores (nq, k) float32``: larger is closer for every metric (inner product, cosine, or minus
    squared L2); missing places -inf. Order: score descending, then id ascending.
    """

    ids: np.ndarray
    scores: np.ndarray

    def to_lists(self) -> list[list[tuple[Any, float]]]:
        """Return a list of (id, score) for every query, without the missing places."""
        return [
            [(label, float(score)) for label, score in zip(ids, scores, strict=True) if score != -np.inf]
            for ids, scores in zip(self.ids.tolist(), self.scores, strict=True)
        ]


class RangeHits(NamedTuple):
    """All rows within a radius, ragged: those of query q are ``offsets[q]:offsets[q + 1]``.

    ``offsets (nq + 1,) int64``, ``ids (total,)``, ``scores (total,) float32``; sorted as `Hits`.
    """

    offsets: np.ndarray
    ids: np.ndarray
    scores: np.ndarray
