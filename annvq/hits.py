"""What searches return."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Hits(NamedTuple):
    """The k best hits of every query, ordered by descending score and then by ascending id.

    ``ids`` (nq, k) are int64 or, for string ids, objects. ``scores`` (nq, k) are float32; larger is closer for every
    metric (inner product, cosine, or minus the squared Euclidean distance). Where fewer than k rows were found, the
    remaining places hold the id -1 (None for strings) and the score -inf.
    """

    ids: np.ndarray
    scores: np.ndarray

    def to_lists(self) -> list[list[tuple[Any, float]]]:
        """Return a list of (id, score) pairs per query, without the places that no hit fills."""
        return [
            [(label, float(score)) for label, score in zip(ids, scores, strict=True) if score != -np.inf]
            for ids, scores in zip(self.ids.tolist(), self.scores, strict=True)
        ]


class RangeHits(NamedTuple):
    """All rows within a radius: those of query q stand at ``offsets[q]:offsets[q + 1]``, in the order of `Hits`.

    ``offsets`` (nq + 1,) are int64, ``ids`` (total,) as in `Hits`, ``scores`` (total,) float32.
    """

    offsets: np.ndarray
    ids: np.ndarray
    scores: np.ndarray
