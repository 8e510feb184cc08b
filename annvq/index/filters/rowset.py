"""Sets of a segment's rows: few row numbers, or a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_FEW = 32  # a set of less than one row in so many is kept as row numbers


def is_few(count: int, n: int) -> bool:
    """Return whether so many rows of ``n`` are kept as numbers rather than as a mask."""
    return count * _FEW < n


@dataclass(frozen=True, eq=False)
class RowSet:
    """A set of rows of ``n``: sorted numbers ``few`` (m,) int64 or, if that is None, a ``mask`` (n,) bool."""

    n: int
    few: np.ndarray | None
    mask: np.ndarray | None = None

    @classmethod
    def none(cls, n: int) -> RowSet:
        """Return no rows."""
        return cls(n, _NO_ROWS)

    @classmethod
    def every(cls, n: int) -> RowSet:
        """Return all rows."""
        return cls(n, None, np.ones(n, bool))

    @classmethod
    def of(cls, rows: np.ndarray, n: int, *, repeat: bool = True) -> RowSet:
        """Return the set of row numbers in any order, which may ``repeat``."""
        if is_few(len(rows), n):
            ascending = np.sort(rows).astype(np.int64, copy=False)
            if repeat and len(ascending):
                ascending = ascending[np.append(True, ascending[1:] != ascending[:-1])]
            return cls(n, ascending)
        mask = np.zeros(n, bool)
        mask[rows.astype(np.int64, copy=False)] = True  # NumPy takes other integers some at a time
        return cls(n, None, mask)

    def as_mask(self) -> np.ndarray:
        """Return booleans (n,), true for rows of the set."""
        if self.mask is not None:
            return self.mask
        mask = np.zeros(self.n, bool)
        mask[self.few] = True
        return mask

    def __invert__(self) -> RowSet:
        return RowSet(self.n, None, ~self.as_mask())

    def __and__(self, other: RowSet) -> RowSet:
        if self.few is None:
            return other & self if other.few is not None else RowSet(self.n, None, self.as_mask() & other.as_mask())
        if other.few is None:
            return RowSet(self.n, self.few[other.as_mask()[self.few]])
        return RowSet(self.n, np.intersect1d(self.few, other.few, assume_unique=True))

    @classmethod
    def union(cls, sets: Sequence[RowSet], n: int) -> RowSet:
        """Return the rows that are in any of the sets."""
        if len(sets) == 1:
            return sets[0]
        few = [one.few for one in sets if one.few is not None]
        if len(few) == len(sets):
            return cls.of(np.concatenate([_NO_ROWS, *few]), n)
        mask = np.zeros(n, bool)
        for one in sets:
            if one.few is None:
                mask |= one.as_mask()
            else:
                mask[one.few] = True
        return cls(n, None, mask)


_NO_ROWS = np.empty(0, np.int64)
