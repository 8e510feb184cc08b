"""Rows of different lengths, by groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from annvq.errors import CorruptIndexError
from annvq.tables.frozen.form import Form, contiguous, stored
from annvq.tables.frozen.partition import MOST_GROUPS, Partition


@dataclass(frozen=True, eq=False)
class Mixed(Form):
    """Groups of rows with their own dimension; shorter rows are projected to d, or filled with zeros.

    Parameters
    ----------
    partition
        Which group each row belongs to.
    weights
        (rows, dim) float32 of each group; groups of dimension 0 have zeros for rows.
    projections
        (dim, d) float32 of each group with 0 < dim < d, by its number; none if rows are padded with zeros.

    """

    partition: Partition
    weights: tuple[np.ndarray, ...]
    projections: dict[int, np.ndarray]
    kind: ClassVar[str] = "mixed"

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        weights = {f"weights.{g}": weight for g, weight in enumerate(self.weights) if weight.size}
        return {
            **self.partition.arrays(),
            **weights,
            **{f"projections.{g}": matrix for g, matrix in self.projections.items()},
        }

    def settings(self) -> dict[str, Any]:
        """Return what is not an array."""
        return {"dims": [weight.shape[1] for weight in self.weights], "projected": bool(self.projections)}

    @classmethod
    def from_arrays(cls, n: int, d: int, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> Mixed:
        """Build from stored parts; CorruptIndexError if they do not fit."""
        dims = settings.get("dims")
        if not (isinstance(dims, list) and 1 <= len(dims) <= MOST_GROUPS):
            raise CorruptIndexError(f"dimensions of groups {dims!r}")
        if not all(type(dim) is int and 0 <= dim <= d for dim in dims):
            raise CorruptIndexError(f"dimensions of groups {dims!r}, expected 0 to {d}")
        partition = Partition.from_arrays(n, len(dims), arrays)
        groups, _ = partition.find(contiguous(np.arange(n)))
        sizes = np.bincount(groups, minlength=len(dims))
        weights = tuple(
            stored(arrays, f"weights.{g}", np.float32, (int(size), dim))
            if size and dim
            else contiguous(np.zeros((int(size), dim), np.float32))
            for g, (size, dim) in enumerate(zip(sizes, dims))
        )
        projections = {}
        if settings.get("projected"):
            narrow = [g for g, dim in enumerate(dims) if 0 < dim < d]
            projections = {g: stored(arrays, f"projections.{g}", np.float32, (dims[g], d)) for g in narrow}
        return cls(n, d, partition, weights, projections)

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Return rows (m, d) float32."""
        groups, places = self.partition.find(ids)
        found = np.zeros((len(ids), self.d), np.float32)
        for g, weight in enumerate(self.weights):
            of_group = groups == g
            rows = weight[places[of_group]]
            if g in self.projections:
                found[of_group] = rows @ self.projections[g]
            else:
                found[of_group, : weight.shape[1]] = rows
        return found
