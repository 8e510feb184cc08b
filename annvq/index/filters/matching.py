"""The rows of a segment for which a condition holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any

from annvq.errors import FilterError
from annvq.index.filters.columns import Column, Ordered, column_of
from annvq.index.filters.conditions import And, ColumnComparison, Comparison, Condition, Not, Or, comparisons
from annvq.index.filters.expressions import rows_of_expression
from annvq.index.filters.paths import Path, resolve
from annvq.index.filters.rowset import RowSet
from annvq.index.filters.values import fitting, kind_in_json, kind_of, shown
from annvq.index.rows.segment import Segment

if TYPE_CHECKING:
    import pyarrow as pa

_OF_TEXT = ("starts_with", "ends_with", "like")


@dataclass(frozen=True)
class Lookup:
    """What a comparison looks for in a segment's column: values by kind, as the column's orders compare them."""

    path: Path
    operator: str
    values: dict[str, list[Any]]

    def rows(self, column: Column) -> RowSet:
        """Return the rows for which the comparison holds."""
        n = column.present.n
        if self.operator == "exists":
            return column.present
        if self.operator == "empty":
            return RowSet.none(n) if column.empty is None else column.empty
        found = []
        for kind, values in self.values.items():
            if self.operator in ("contains", "contains_any"):
                found += [_looked_up(order, "in", values, n) for order in column.items.get(kind, ())]
                if self.operator == "contains_any" or kind != "text":
                    continue
            found += [_looked_up(order, self.operator, values, n) for order in column.values.get(kind, ())]
        return RowSet.union(found, n)


def _looked_up(order: Ordered, operator: str, values: list[Any], n: int) -> RowSet:
    if operator == "in" and len(values) > 1:
        return order.among(values, n)
    return order.compared("eq" if operator == "in" else operator, values[0], n)


@dataclass(frozen=True)
class Matcher:
    """A condition that fits the columns of an index."""

    condition: Condition
    lookups: dict[int, Lookup | pa.Expression]

    @classmethod
    def of(cls, condition: Condition, schema: pa.Schema | None) -> Matcher:
        """Check a condition against the columns of an index (FilterError: columns, types, values, with the place)."""
        lookups: dict[int, Any] = {}
        for comparison in comparisons(condition):
            if schema is None:
                raise FilterError("the index has no attributes, so it can be filtered only by ids or a mask")
            try:
                if isinstance(comparison, Comparison):
                    lookups[id(comparison)] = _lookup(comparison, schema)
                else:
                    lookups[id(comparison)] = _expression(comparison, schema)
            except FilterError as error:
                if comparison.place is not None:
                    raise comparison.place.error(f"filter: {error}") from None
                raise FilterError(f"filter: {error}") from None
        return cls(condition, lookups)

    def rows(self, segment: Segment, schema: pa.Schema | None) -> RowSet:
        """Return the rows of a segment for which the condition holds, removed ones included."""
        return self._rows(self.condition, segment, schema)

    def _rows(self, condition: Condition, segment: Segment, schema: pa.Schema | None) -> RowSet:
        if isinstance(condition, Not):
            return ~self._rows(condition.condition, segment, schema)
        if isinstance(condition, And):
            if not condition.conditions:
                return RowSet.every(segment.n)
            return reduce(and_, (self._rows(part, segment, schema) for part in condition.conditions))
        if isinstance(condition, Or):
            return RowSet.union([self._rows(part, segment, schema) for part in condition.conditions], segment.n)
        lookup = self.lookups[id(condition)]
        if isinstance(lookup, Lookup):
            return lookup.rows(column_of(segment.attributes, segment.n, lookup.path))
        return RowSet(segment.n, None, rows_of_expression(lookup, segment, schema))


def _lookup(comparison: Comparison, schema: pa.Schema) -> Lookup:
    path, column = resolve(comparison.path, schema)
    operator, value = comparison.operator, comparison.value
    if operator == "exists":
        return Lookup(path, operator, {})
    if operator == "empty" and (path.keys or kind_of(column) in ("list", "null")):
        return Lookup(path, operator, {})
    values = value if operator in ("in", "contains_any") else [[] if operator == "empty" else value]
    try:
        if path.keys:
            return _in_json(path, operator, values)
        kind = kind_of(column)
        if operator in ("contains", "contains_any") and kind == "list":
            kind, column = kind_of(column.value_type), column.value_type
            if kind in ("list", "struct", "other"):
                raise FilterError(f"the column is a list of {column}, in which no values can be looked for")
        elif kind == "null":
            return Lookup(path, operator, {})
        elif operator == "contains_any" or (operator in (*_OF_TEXT, "contains") and kind != "text"):
            expected = {"contains": "a text or a list", "contains_any": "a list"}.get(operator, "a text")
            raise FilterError(f"the column is {column}, expected {expected} for this operator")
        return Lookup(path, operator, {kind: fitting(values, column)} if values else {})
    except FilterError as error:
        raise FilterError(f"{shown(comparison.path)}: {error}") from None


def _in_json(path: Path, operator: str, values: list[Any]) -> Lookup:
    by_kind: dict[str, list[Any]] = {}
    for value in values:
        by_kind.setdefault(kind_in_json(value), []).append(value)
    if operator in _OF_TEXT and set(by_kind) != {"text"}:
        raise FilterError(f"{shown(values[0])} of type {type(values[0]).__name__}, expected a text for this operator")
    return Lookup(path, operator, by_kind)


def _expression(comparison: ColumnComparison, schema: pa.Schema) -> pa.Expression:
    import pyarrow.compute as pc

    fields = []
    for given in (comparison.left, comparison.right):
        path, _ = resolve(given, schema)
        if path.keys:
            raise FilterError(f"{shown(given)} is in JSON, which is compared with values only")
        fields.append(pc.field((path.column, *path.fields)))
    left, right = fields
    make: dict[str, Callable[[], Any]] = {
        "eq": lambda: left == right, "lt": lambda: left < right, "le": lambda: left <= right,
        "gt": lambda: left > right, "ge": lambda: left >= right,
    }  # fmt: skip
    return make[comparison.operator]()
