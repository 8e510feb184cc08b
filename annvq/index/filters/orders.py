"""Rows of a segment in the order of their values, so that a comparison is a binary search."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.arrays import offsets_of
from annvq.errors import FilterError

if TYPE_CHECKING:
    import pyarrow as pa

_LONGEST = 1 << 30  # bytes of texts whose offsets fit in 32 bits, by far
_SEARCHED = 64  # more texts than these are looked up together, by hashing


@dataclass(frozen=True, eq=False)
class Numbers:
    """Rows ordered by numbers; a row stands several times where it has several values, and not at all without one.

    ``values`` (m,) are ascending integers, floats without NaN, or Python's integers (dtype object), and ``rows`` (m,)
    uint32 the rows that have them. A value that is compared is first multiplied by ``scale``.
    """

    values: np.ndarray
    rows: np.ndarray
    scale: Fraction | int = 1

    @classmethod
    def of(cls, values: np.ndarray, rows: np.ndarray, scale: Fraction | int = 1) -> Numbers:
        """Order values (m,) of rows (m,), ascending; NaN compares with nothing."""
        if values.dtype == bool:
            values = values.view(np.uint8)
        if values.dtype.kind == "f":
            held = ~np.isnan(values)
            values, rows = values[held].astype(np.float64), rows[held]
        order = np.argsort(values, kind="stable")
        return cls(values[order], rows[order], scale)

    def compared(self, operator: str, value: Any) -> np.ndarray:
        """Return the rows whose value is equal to, less than, ... a number; a row may stand twice."""
        if value != value:
            return self.rows[:0]
        if self.scale != 1:
            value = Fraction(value) * self.scale if _is_finite(value) else value
        return _cut(self.rows, operator, lambda: self._place(value, False), lambda: self._place(value, True))

    def among(self, values: Sequence[Any]) -> np.ndarray:
        """Return the rows whose value is one of some numbers."""
        wanted = self._as_stored(values)
        begins = np.searchsorted(self.values, wanted, "left")
        return self.rows[spans(begins, np.searchsorted(self.values, wanted, "right"))]

    def _place(self, value: Any, after: bool) -> int:
        """Return how many values are less than a number, or also equal to it (``after``)."""
        if isinstance(value, float) and math.isinf(value):
            if self.values.dtype.kind != "f":
                return len(self.values) if value > 0 else 0
        elif self.values.dtype.kind == "f":
            return self._place_among_floats(value, after)
        else:
            value = math.floor(value) + 1 if after else math.ceil(value)
            after = False
            if self.values.dtype.kind != "O":
                limits = np.iinfo(self.values.dtype)
                if not limits.min <= value <= limits.max:
                    return len(self.values) if value > 0 else 0
                value = self.values.dtype.type(value)
        return int(np.searchsorted(self.values, value, "right" if after else "left"))

    def _place_among_floats(self, value: Any, after: bool) -> int:
        """Do what `_place` does for a number that may not be a float, such as 2^53 + 1."""
        try:
            near = float(value)
        except OverflowError:
            near = math.inf if value > 0 else -math.inf
        if near != value:  # no float lies between the two
            after = near < value
        return int(np.searchsorted(self.values, near, "right" if after else "left"))

    def _as_stored(self, values: Sequence[Any]) -> np.ndarray:
        """Return the numbers that are values of this kind exactly, ascending, each of them once."""
        dtype = self.values.dtype
        if dtype == np.int64 and self.scale == 1 and set(map(type, values)) <= {int}:
            try:
                return np.unique(np.array(values, np.int64))
            except OverflowError:
                pass
        kept = []
        for value in values:
            if not _is_finite(value):
                if dtype.kind == "f" and value == value:
                    kept.append(float(value))
                continue
            exact = Fraction(value) * self.scale
            if dtype.kind == "f":
                near = float(exact) if abs(exact) < Fraction(2) ** 1024 else math.inf
                if math.isfinite(near) and Fraction(near) == exact:
                    kept.append(near)
            elif exact.denominator == 1 and (dtype.kind == "O" or self._holds(exact.numerator)):
                kept.append(exact.numerator)
        return np.unique(np.array(kept, dtype))

    def _holds(self, value: int) -> bool:
        limits = np.iinfo(self.values.dtype)
        return bool(limits.min <= value <= limits.max)


@dataclass(frozen=True, eq=False)
class Strings:
    """Rows grouped by their texts, or bytes.

    ``values`` (u,) are different, ascending by code points; the rows of value i are ``rows[starts[i]:starts[i + 1]]``,
    uint32. A row stands several times where it has several values.
    """

    values: pa.Array
    starts: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, column: pa.ChunkedArray, rows: np.ndarray) -> Strings:
        """Group the rows (m,) of a column of m texts without null."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if column.nbytes > _LONGEST and pa.types.is_string(column.type):
            column = column.cast(pa.large_string())
        coded = pc.dictionary_encode(column).unify_dictionaries()
        found = coded.chunk(0).dictionary if coded.num_chunks else pa.array([], column.type)
        codes = np.concatenate([np.empty(0, np.int32), *(chunk.indices.to_numpy() for chunk in coded.chunks)])
        order = pc.sort_indices(found).to_numpy()
        ranks = np.empty(len(order), np.int64)
        ranks[order] = np.arange(len(order))
        ranked = ranks[codes]
        starts = offsets_of(np.bincount(ranked, minlength=len(order)))
        return cls(found.take(pa.array(order)), starts, rows[np.argsort(ranked, kind="stable")])

    def compared(self, operator: str, value: Any) -> np.ndarray:
        """Return the rows whose text is equal to, less than, ... another, or starts or ends with it or contains it."""
        if operator in _MATCHES:
            return self._matching(operator, value)
        if operator == "starts_with":
            begin = self.starts[self._place(value, after=False)]
            return self.rows[begin : self.starts[self._place(value, after=True, length=len(value))]]
        return _cut(
            self.rows,
            operator,
            lambda: self.starts[self._place(value, after=False)],
            lambda: self.starts[self._place(value, after=True)],
        )

    def among(self, values: Sequence[Any]) -> np.ndarray:
        """Return the rows whose text is one of some texts."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if len(values) <= _SEARCHED:
            return np.concatenate([self.rows[:0], *(self.compared("eq", value) for value in set(values))])
        return self._of_values(pc.is_in(self.values, value_set=pa.array(values, self.values.type)))

    def _place(self, value: Any, after: bool, length: int | None = None) -> int:
        """Return how many texts are less than one, or also equal to it (``after``), by their first ``length`` signs."""
        bisect = bisect_right if after else bisect_left
        return bisect(range(len(self.values)), value, key=lambda i: self.values[i].as_py()[:length])

    def _matching(self, operator: str, value: str) -> np.ndarray:
        import pyarrow as pa
        import pyarrow.compute as pc

        try:
            found = getattr(pc, _MATCHES[operator])(self.values, value)
        except pa.ArrowException as error:
            raise FilterError(f"filter: a pattern of {len(value):,} characters: {error}") from error
        return self._of_values(found)

    def _of_values(self, chosen: pa.Array) -> np.ndarray:
        places = np.flatnonzero(chosen.to_numpy(zero_copy_only=False))
        return self.rows[spans(self.starts[places], self.starts[places + 1])]


_MATCHES = {"contains": "match_substring", "ends_with": "ends_with", "like": "match_like"}


def _is_finite(value: Any) -> bool:
    return isinstance(value, int) or math.isfinite(value)


def _cut(rows: np.ndarray, operator: str, before: Any, after: Any) -> np.ndarray:
    """Return the rows of a comparison; ``before`` and ``after`` return where those that are equal begin and end."""
    if operator == "eq":
        return rows[before() : after()]
    if operator in ("lt", "le"):
        return rows[: before() if operator == "lt" else after()]
    return rows[after() if operator == "gt" else before() :]


def spans(begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return the places of several spans, one after the other, int64."""
    lengths = ends - begins
    starts = offsets_of(lengths)
    return np.repeat(begins - starts[:-1], lengths) + np.arange(starts[-1])
