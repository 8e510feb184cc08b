"""Filters as data, in the dialect that vector stores share: ``{"lang": "de", "page": {"$gte": 3}}``.

    {path: value}                       the same as {path: {"$eq": value}}
    {path: {operator: value, ...}}      all operators must hold
    {a: ..., b: ...}                    all must hold, as in {"$and": [{a: ...}, {b: ...}]}
    {"$and": [filter, ...]}, {"$or": [filter, ...]}, {"$not": filter}

None stands for a missing value: ``{"lang": None}`` holds for rows without a language. An empty list is equal to empty
lists alone. The path "$text" is the text of a row of a collection (`annvq.Collection`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from annvq.errors import FilterError
from annvq.index.filters.conditions import MOST_DEPTH, And, Comparison, Condition, Not, Operator, Or
from annvq.index.filters.values import plain_value, shown

TEXT = "$text"


def read(given: Mapping[Any, Any]) -> Condition:
    """Return the condition that a filter as data stands for (FilterError)."""
    return _filter(given, MOST_DEPTH)


def _filter(given: Any, depth: int) -> Condition:
    if not isinstance(given, Mapping):
        raise FilterError(f"filter: {shown(given)}, expected a dict of paths and '$and', '$or' or '$not'")
    if depth == 0:
        raise FilterError(f"filter: nested more than {MOST_DEPTH} levels deep")
    parts: list[Condition] = []
    for key, value in given.items():
        if not isinstance(key, str):
            raise FilterError(f"filter: key {shown(key)}, expected the name of a column")
        if key in ("$and", "$or"):
            if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
                raise FilterError(f"filter: {key} of {shown(value)}, expected a list of filters")
            inner = tuple(_filter(item, depth - 1) for item in value)
            if not inner:
                raise FilterError(f"filter: {key} of an empty list, expected at least one filter")
            parts.append(And(inner) if key == "$and" else Or(inner))
        elif key == "$not":
            parts.append(Not(_filter(value, depth - 1)))
        elif key.startswith("$") and key != TEXT:
            raise FilterError(f"filter: {shown(key)} where a column is expected, or '$and', '$or' or '$not'")
        else:
            parts.append(_field(key, value, depth - 1))
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _field(path: str, given: Any, depth: int) -> Condition:
    if not isinstance(given, Mapping):
        return _equal(path, given)
    if depth <= 0:
        raise FilterError(f"filter: nested more than {MOST_DEPTH} levels deep")
    if not given:
        raise FilterError(f"filter: {path!r}: an empty dict, expected operators such as '$gte'")
    parts: list[Condition] = []
    for name, value in given.items():
        if name == "$not":
            if not isinstance(value, Mapping):
                raise FilterError(f"filter: {path!r}: $not of {shown(value)}, expected a dict of operators")
            parts.append(Not(_field(path, value, depth - 1)))
        elif isinstance(name, str) and name in _OPERATORS:
            parts.append(_OPERATORS[name](path, value))
        elif isinstance(name, str) and not name.startswith("$"):
            inner = shown(f"{path}.{name}")
            raise FilterError(f"filter: {path!r}: a dict with the key {shown(name)}; a field's path is {inner}")
        else:
            known = ", ".join([*_OPERATORS, "$not"])
            raise FilterError(f"filter: {path!r}: unknown operator {shown(name)}; there are {known}")
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _equal(path: str, value: Any) -> Condition:
    value = plain_value(value)
    if isinstance(value, list | tuple) and not value:
        return Comparison(path, "empty")
    return Not(Comparison(path, "exists")) if value is None else Comparison(path, "eq", value)


def _compared(operator: Operator) -> Callable[[str, Any], Condition]:
    return lambda path, value: Comparison(path, operator, plain_value(value))


def _one_of(path: str, given: Any) -> Condition:
    values = _values(path, "$in", given)
    known = [value for value in values if value is not None]
    one_of = Comparison(path, "in", known)
    return one_of if len(known) == len(values) else Or((Not(Comparison(path, "exists")), one_of))


def _contains_all(path: str, given: Any) -> Condition:
    values = _values(path, "$contains_all", given)
    parts = [Comparison(path, "contains_any", [value]) for value in values]
    return And((Comparison(path, "exists"), *parts))


def _exists(path: str, given: Any) -> Condition:
    given = plain_value(given)
    if not isinstance(given, bool):
        raise FilterError(f"filter: {path!r}: $exists of {shown(given)}, expected True or False")
    exists = Comparison(path, "exists")
    return exists if given else Not(exists)


def _values(path: str, operator: str, given: Any) -> list[Any]:
    for method in ("to_pylist", "tolist"):  # Arrow's, and NumPy's and pandas'
        if hasattr(given, method):
            given = getattr(given, method)()
            break
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise FilterError(f"filter: {path!r}: {operator} of {shown(given)}, expected a list of values")
    values = list(given)
    return values if set(map(type, values)) <= _PLAIN else [plain_value(value) for value in values]


_PLAIN = {bool, int, float, str}
_OPERATORS: dict[str, Callable[[str, Any], Condition]] = {
    "$eq": _equal,
    "$ne": lambda path, value: Not(_equal(path, value)),
    "$gt": _compared("gt"),
    "$gte": _compared("ge"),
    "$lt": _compared("lt"),
    "$lte": _compared("le"),
    "$in": _one_of,
    "$nin": lambda path, given: Not(_one_of(path, given)),
    "$exists": _exists,
    "$contains": _compared("contains"),
    "$not_contains": lambda path, value: Not(Comparison(path, "contains", plain_value(value))),
    "$contains_any": lambda path, given: Comparison(
        path, "contains_any", _values(path, "$contains_any", given)
    ),
    "$contains_all": _contains_all,
    **{
        f"${name}": _compared(cast("Operator", name)) for name in ("starts_with", "ends_with", "like")
    },
}  # fmt: skip
