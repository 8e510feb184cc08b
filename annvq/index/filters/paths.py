"""Paths of filters: a column, a field of its structs, or a field of the JSON in its text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from annvq.errors import FilterError
from annvq.index.filters.values import kind_of, shown

if TYPE_CHECKING:
    import pyarrow as pa

MOST_PARTS = 100  # of a path, between dots
_MOST_SHOWN = 30  # columns in a message


@dataclass(frozen=True)
class Path:
    """Where values are found: in a column, in the fields of its structs, and by keys in the JSON of its text."""

    column: str
    fields: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()


def resolve(path: str, schema: pa.Schema) -> tuple[Path, pa.DataType]:
    """Return what a filter's path stands for, and the type of the column or field, text if it looks into JSON.

    A column, or a field of a struct, whose own name has dots goes before fields of a shorter one.

    Raises
    ------
    FilterError
        There is no such column, with those that there are; or what the path leads to has no fields.

    """
    parts = path.split(".")
    if len(parts) > MOST_PARTS:
        raise FilterError(f"{shown(path)}: a path of {len(parts):,} parts, expected at most {MOST_PARTS}")
    types = dict(zip(schema.names, schema.types, strict=True))
    column, rest = _longest(parts, types)
    if column is None:
        columns = [f"{name}: {kind}" for name, kind in types.items()]
        more = f" and {len(columns) - _MOST_SHOWN} more" if len(columns) > _MOST_SHOWN else ""
        raise FilterError(f"no column {shown(path)}; attributes: {', '.join(columns[:_MOST_SHOWN])}{more}")
    kind, fields = types[column], []
    while rest and kind_of(kind) == "struct":
        inner = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
        name, rest = _longest(rest, inner)
        if name is None:
            raise FilterError(f"{shown(path)}: column {column!r} is {kind}, which has no field {shown(rest[0])}")
        kind = inner[name]
        fields.append(name)
    if rest and kind_of(kind) not in ("text", "null"):
        raise FilterError(f"{shown(path)}: column {column!r} is {kind}, which has no field {shown(rest[0])}")
    return Path(column, tuple(fields), tuple(rest)), kind


def _longest(parts: list[str], names: dict[str, pa.DataType]) -> tuple[str | None, list[str]]:
    """Return the longest of the names that a path begins with, and what is left of the path."""
    for end in range(len(parts), 0, -1):
        name = ".".join(parts[:end])
        if name in names:
            return name, parts[end:]
    return None, parts
