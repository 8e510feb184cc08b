"""Rows of a segment in the order of their values, so that a comparison is a binary search."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.arrays import offsets_of
from annvq.errors import FilterError
from annvq.index.filters.rowset import RowSet, is_few

if TYPE_CHECKING:
    import pyarrow as pa

_LONGEST = 1 << 30  # bytes of texts whose offsets fit in 32 bits, by far
_SEARCHED = 64  # more texts than these are looked up together, by hashing


@dataclass(frozen=True, eq=False)
class OrderedRows:
    """Row numbers (m,) uint32 in the order of values; ``repeat`` says whether a row may stand several times."""

    rows: np.ndarray
    repeat: bool

    @cached_property
    def _places(self) -> np.ndarray:
        """(last row + 1,) uint32: where each row stands; the largest integer for those that stand nowhere."""
        places = np.full(int(self.rows.max(initial=0)) + 1, _NOWHERE, np.uint32)
        places[self.rows] = np.arange(len(self.rows), dtype=np.uint32)
        return places

    def rows_between(self, begin: int, end: int, n: int) -> RowSet:
        """Return the set of rows, of ``n``, that stand at ``begin:end``."""
        if self.repeat or is_few(end - begin, n):
            return RowSet.of(self.rows[begin:end], n, repeat=self.repeat)
        mask = np.zeros(n, bool)
        places = self._places  # from row to row, which is faster than from value to value
        for start in range(0, len(places), _CACHED):
            some = slice(start, min(len(places), start + _CACHED))
            np.less(places[some] - np.uint32(begin), np.uint32(end - begin), out=mask[some])
        return RowSet(n, None, mask)


_CACHED = 1 << 16  # rows that are compared at a time
_NOWHERE = np.uint32(2**32 - 1)


@dataclass(frozen=True, eq=False)
class Numbers(OrderedRows):
    """Rows ordered by numbers.

    ``values`` (m,) are ascending integers, floats without NaN, or Python's integers (dtype object). A value that is
    compared is first multiplied by ``scale``.
    """

    values: np.ndarray
    scale: Fraction | int = 1

    @classmethod
    def of(cls, values: np.ndarray, rows: np.ndarray, repeat: bool, scale: Fraction | int = 1) -> Numbers:
        """Order values (m,) of rows (m,), ascending; NaN compares with nothing."""
        if values.dtype == bool:
            values = values.view(np.uint8)
        if values.dtype.kind == "f":
            held = ~np.isnan(values)
            values, rows = values[held].astype(np.float64), rows[held]
        order = np.argsort(values, kind="stable")
        return cls(rows[order], repeat, values[order], scale)

    def distinct(self, passing: np.ndarray) -> list[Any]:
        """Return the different numbers, unscaled, of the rows for which ``passing`` (n,) bool is true."""
        return np.unique(self.values[passing[self.rows]]).tolist()

    def compared(self, operator: str, value: Any, n: int) -> RowSet:
        """Return the rows, of ``n``, whose value is equal to, less than, ... a number."""
        if value != value:
            return RowSet.none(n)
        if self.scale != 1:
            value = Fraction(value) * self.scale if _is_finite(value) else value
        begin, end = _span(operator, len(self.rows), lambda after: self._place(value, after))
        return self.rows_between(begin, end, n)

    def among(self, values: Sequence[Any], n: int) -> RowSet:
        """Return the rows whose value is one of some numbers."""
        wanted = self._as_stored(values)
        begins = np.searchsorted(self.values, wanted, "left")
        return RowSet.of(self.rows[spans(begins, np.searchsorted(self.values, wanted, "right"))], n)

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
        kept: list[Any] = []
        least, most = self._whole_limits()
        if self.scale == 1:  # a million fractions would take seconds
            kept = [value for value in values if type(value) is int and least <= value <= most]
            values = [value for value in values if type(value) is not int or not least <= value <= most]
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
            elif exact.denominator == 1 and least <= exact.numerator <= most:
                kept.append(exact.numerator)
        return np.unique(np.array(kept, dtype))

    def _whole_limits(self) -> tuple[float, float]:
        """Return the limits between which all whole numbers can be values of this kind."""
        dtype = self.values.dtype
        if dtype.kind == "f":
            return -(2**53), 2**53
        return (-math.inf, math.inf) if dtype.kind == "O" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))


@dataclass(frozen=True, eq=False)
class Strings(OrderedRows):
    """Rows grouped by their texts, or bytes.

    ``values`` (u,) are different, ascending by code points; the rows of value i are ``rows[starts[i]:starts[i + 1]]``.
    """

    values: pa.Array
    starts: np.ndarray

    @classmethod
    def of(cls, column: pa.ChunkedArray, rows: np.ndarray, repeat: bool) -> Strings:
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
        return cls(rows[np.argsort(ranked, kind="stable")], repeat, found.take(pa.array(order)), starts)

    def distinct(self, passing: np.ndarray) -> list[Any]:
        """Return the different texts of the rows for which ``passing`` (n,) bool is true."""
        before = offsets_of(passing[self.rows])  # rows that pass, before each place
        return self.values.take(np.flatnonzero(before[self.starts[1:]] > before[self.starts[:-1]])).to_pylist()

    def compared(self, operator: str, value: Any, n: int) -> RowSet:
        """Return the rows, of ``n``, whose text is equal to, less than, ... another, begins or ends with it, ..."""
        if operator in _MATCHES:
            return self._matching(operator, value, n)
        if operator == "starts_with":
            places = self._place(value, False), self._place(value, True, len(value))
        else:
            places = _span(operator, len(self.values), lambda after: self._place(value, after))
        return self.rows_between(int(self.starts[places[0]]), int(self.starts[places[1]]), n)

    def among(self, values: Sequence[Any], n: int) -> RowSet:
        """Return the rows whose text is one of some texts."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if len(values) <= _SEARCHED:
            return RowSet.union([self.compared("eq", value, n) for value in set(values)], n)
        return self._of_values(pc.is_in(self.values, value_set=pa.array(values, self.values.type)), n)

    def _place(self, value: Any, after: bool, length: int | None = None) -> int:
        """Return how many texts are less than one, or also equal to it (``after``), by their first ``length`` signs."""
        bisect = bisect_right if after else bisect_left
        return bisect(range(len(self.values)), value, key=lambda i: self.values[i].as_py()[:length])

    def _matching(self, operator: str, value: str, n: int) -> RowSet:
        import pyarrow as pa
        import pyarrow.compute as pc

        try:
            found = getattr(pc, _MATCHES[operator])(self.values, value)
        except pa.ArrowException as error:
            raise FilterError(f"filter: a pattern of {len(value):,} characters: {error}") from error
        return self._of_values(found, n)

    def _of_values(self, chosen: pa.Array, n: int) -> RowSet:
        places = np.flatnonzero(chosen.to_numpy(zero_copy_only=False))
        return RowSet.of(self.rows[spans(self.starts[places], self.starts[places + 1])], n)


_MATCHES = {"contains": "match_substring", "ends_with": "ends_with", "like": "match_like"}


def _is_finite(value: Any) -> bool:
    return isinstance(value, int) or math.isfinite(value)


def _span(operator: str, count: int, place: Callable[[bool], int]) -> tuple[int, int]:
    """Return where the values begin and end that compare so; ``place(after)`` is where equal ones begin, or end."""
    if operator == "eq":
        return place(False), place(True)
    if operator in ("lt", "le"):
        return 0, place(operator == "le")
    return place(operator == "gt"), count


def spans(begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return the places of several spans, one after the other, int64."""
    lengths = ends - begins
    starts = offsets_of(lengths)
    return np.repeat(begins - starts[:-1], lengths) + np.arange(starts[-1])
