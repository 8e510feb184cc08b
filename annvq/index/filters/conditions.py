"""Conditions on attributes, as a tree: comparisons of a path with a value, joined by and, or, not.

Filters as data (`annvq.index.filters.dialect`) and as text (`annvq.index.filters.text`) are read into the same tree. A
path is the name of a column or, by dots, of a field in its structs or in the JSON that its text holds.

A row that lacks a value (null, or no such field) fails every comparison, so that the negation of one holds for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from annvq.errors import FilterError

MOST_DEPTH = 100  # conditions within conditions

Order = Literal["eq", "lt", "le", "gt", "ge"]
Operator = Literal[
    "eq",
    "lt",
    "le",
    "gt",
    "ge",
    "in",
    "contains",
    "contains_any",
    "starts_with",
    "ends_with",
    "like",
    "exists",
    "empty",
]


class Place(NamedTuple):
    """The characters of a filter's text that a condition was read from."""

    text: str
    start: int
    end: int

    def error(self, reason: str) -> FilterError:
        """Return an error that marks the place."""
        end = max(self.end, self.start)
        shown = f"{self.text[: self.start]}>>>{self.text[self.start : end]}<<<{self.text[end:]}"
        return FilterError(f"{reason}, at character {self.start + 1}: {shown}")


@dataclass(frozen=True)
class Comparison:
    """A path compared with a value; "in" and "contains_any" take a list of values, "exists" and "empty" none."""

    path: str
    operator: Operator
    value: Any = None
    place: Place | None = None


@dataclass(frozen=True)
class ColumnComparison:
    """Two columns, or fields of structs, compared with each other."""

    left: str
    operator: Order
    right: str
    place: Place | None = None


@dataclass(frozen=True)
class And:
    """Rows for which all conditions hold; without any, these are all rows."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class Or:
    """Rows for which any of the conditions holds."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class Not:
    """Rows for which a condition does not hold."""

    condition: Condition


Condition = Comparison | ColumnComparison | And | Or | Not


def comparisons(condition: Condition) -> Iterator[Comparison | ColumnComparison]:
    """Yield every comparison in a tree."""
    waiting: list[Condition] = [condition]
    while waiting:
        node = waiting.pop()
        if isinstance(node, And | Or):
            waiting += node.conditions
        elif isinstance(node, Not):
            waiting.append(node.condition)
        else:
            yield node


def renamed(condition: Condition, rename: Callable[[str], str]) -> Condition:
    """Return the same condition on other paths: those that ``rename`` makes of its own."""
    if isinstance(condition, And | Or):
        return type(condition)(tuple(renamed(part, rename) for part in condition.conditions))
    if isinstance(condition, Not):
        return Not(renamed(condition.condition, rename))
    if isinstance(condition, Comparison):
        return replace(condition, path=rename(condition.path))
    return replace(condition, left=rename(condition.left), right=rename(condition.right))
