"""What the conditions on one path read: a segment's values there, in order, by their kinds.

Segments never change, so that this is made once, when a filter first needs it, and lives as long as the segment's
attributes do; of each segment, the last `_MOST_KEPT` paths are kept.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.index.filters.jsontexts import parsed_texts
from annvq.index.filters.orders import Numbers, Strings
from annvq.index.filters.paths import Path
from annvq.index.filters.rowset import RowSet
from annvq.index.filters.values import kind_of
from annvq.index.rows.attribute_types import plain
from annvq.index.rows.attributes import intact

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_KEPT = 32  # paths per segment, each of about 12 to 20 bytes per row
_INT64 = np.iinfo(np.int64)
_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}

Ordered = Numbers | Strings


@dataclass(frozen=True, eq=False)
class Column:
    """The values of n rows: ``values`` by kind ("number", "text", ...), and ``items`` of lists by kind.

    ``present`` are the rows that have a value of any kind, ``empty`` those of them whose value is an empty
    list, None if there are none.
    """

    present: RowSet
    values: dict[str, list[Ordered]] = field(default_factory=dict)
    items: dict[str, list[Ordered]] = field(default_factory=dict)
    empty: RowSet | None = None


def column_of(attributes: pa.Table | None, n: int, path: Path) -> Column:
    """Return what there is at a path in a segment's attributes of ``n`` rows (CorruptIndexError)."""
    if attributes is None or path.column not in attributes.schema.names:
        return Column(RowSet.none(n))
    key = id(attributes)
    kept = _KEPT.get(key)
    if kept is None or kept[0]() is not attributes:
        kept = weakref.ref(attributes, lambda _: _KEPT.pop(key, None)), {}
        _KEPT[key] = kept
    columns = kept[1]
    column = columns.get(path)
    if column is None:
        column = _read(plain(intact(attributes).column(path.column), path.column), path)
        for oldest in list(columns)[: max(0, len(columns) + 1 - _MOST_KEPT)]:
            columns.pop(oldest, None)
        columns[path] = column
    return column


_KEPT: dict[int, tuple[weakref.ref, dict[Path, Column]]] = {}  # tables have no hash


def _read(column: pa.ChunkedArray, path: Path) -> Column:
    import pyarrow as pa
    import pyarrow.compute as pc

    n = len(column)
    for name in path.fields:
        if kind_of(column.type) != "struct" or column.type.get_field_index(name) < 0:
            return Column(RowSet.none(n))
        column = pc.struct_field(column, name)  # null where the struct is
    rows = np.flatnonzero(column.is_valid().to_numpy()).astype(np.uint32)
    held = column.drop_null()
    kind = kind_of(column.type)
    if path.keys:
        return _read_json(held, rows, path.keys, n) if kind == "text" else Column(RowSet.none(n))
    present = RowSet.of(rows, n)
    if kind == "list":
        lists = pa.chunked_array([chunk.flatten() for chunk in held.chunks], column.type.value_type)
        lengths = pc.list_value_length(held).to_numpy()
        owners, valid = np.repeat(rows, lengths), lists.is_valid().to_numpy()
        items = _ordered(lists.drop_null(), owners[valid], repeat=True)
        return Column(present, items=items, empty=RowSet.of(rows[lengths == 0], n))
    return Column(present, values=_ordered(held, rows, repeat=False))


def _ordered(column: pa.ChunkedArray, rows: np.ndarray, *, repeat: bool) -> dict[str, list[Ordered]]:
    """Return a column without null in order, by its kind; nothing for structs, lists and maps."""
    import pyarrow as pa

    kind = kind_of(column.type)
    if kind == "bytes":
        column = column.cast(pa.large_binary())
    if kind in ("text", "bytes"):
        return {kind: [Strings.of(column, rows, repeat)]}
    if kind in ("null", "struct", "list", "other"):
        return {}
    return {kind: [Numbers.of(_numbers(column, kind), rows, repeat, _scale(column.type, kind))]}


def _numbers(column: pa.ChunkedArray, kind: str) -> np.ndarray:
    import pyarrow as pa

    if kind in ("number", "bool"):
        return column.to_numpy()
    if kind != "decimal":
        return column.cast(pa.int64() if column.type.bit_width == 64 else pa.int32()).to_numpy()
    if column.type.precision > 18:
        made = np.empty(len(column), object)
        made[:] = [int(Fraction(value.as_py()) * 10**column.type.scale) for value in column]
        return made
    words = column.type.bit_width // 64 or 1
    dtype = np.int64 if column.type.bit_width >= 64 else np.int32
    parts = [
        np.frombuffer(chunk.buffers()[1], dtype).reshape(-1, words)[chunk.offset : chunk.offset + len(chunk), 0]
        for chunk in column.chunks
    ]
    return np.concatenate([np.empty(0, dtype), *parts])


def _scale(column: pa.DataType, kind: str) -> Fraction | int:
    """Return how many units of the column a value is of one, as `annvq.index.filters.values.fitting` makes them."""
    if kind == "decimal":
        return 10**column.scale
    if kind == "date":
        return 1 if column.bit_width == 32 else 86_400_000
    if kind in ("timestamp", "time", "duration"):
        return Fraction(1, _NANOSECONDS[column.unit])
    return 1


# JSON


def _read_json(texts: pa.ChunkedArray, rows: np.ndarray, keys: tuple[str, ...], n: int) -> Column:
    """Look into JSON objects; where a text is none, or lacks the field or has null there, the value is missing."""
    values = _Collected()
    items = _Collected()
    present, empty = [], []
    for row, held in zip(rows.tolist(), parsed_texts(texts), strict=True):
        found = _field(held, keys)
        if found is None:
            continue
        present.append(row)
        if type(found) is list:
            if not found:
                empty.append(row)
            for item in found:
                items.add(row, item)
        else:
            values.add(row, found)
    return Column(
        RowSet.of(np.array(present, np.int64), n), values.ordered(repeat=False), items.ordered(repeat=True),
        RowSet.of(np.array(empty, np.int64), n),
    )  # fmt: skip


def _field(held: Any, keys: Sequence[str]) -> Any:
    while keys:
        if type(held) is not dict:
            return None
        key, keys = (keys[0], ()) if len(keys) == 1 else _longest(held, keys)
        held = held.get(key)
    return held


def _longest(found: dict[str, Any], keys: Sequence[str]) -> tuple[str, Sequence[str]]:
    """Return the longest key of an object that the keys begin with, joined by dots, and what is left of them."""
    for end in range(len(keys), 1, -1):
        key = ".".join(keys[:end])
        if key in found:
            return key, keys[end:]
    return keys[0], keys[1:]


class _Collected:
    """Values of rows, by kind; what can be compared with nothing, such as objects, is left out."""

    def __init__(self) -> None:
        self._found: dict[type, tuple[list[int], list[Any]]] = {
            kind: ([], []) for kind in (bool, int, float, str)
        }  # fmt: skip

    def add(self, row: int, value: Any) -> None:
        found = self._found.get(type(value))
        if found is not None:
            found[0].append(row)
            found[1].append(value)

    def ordered(self, *, repeat: bool) -> dict[str, list[Ordered]]:
        """Return the values in order."""
        made: dict[str, list[Ordered]] = {}
        for (kind, (rows, values)), name in zip(self._found.items(), ("bool", "number", "number", "text"), strict=True):
            if values:
                made.setdefault(name, []).extend(_in_order(kind, values, np.array(rows, np.uint32), repeat))
        return made


def _in_order(kind: type, values: list[Any], rows: np.ndarray, repeat: bool) -> list[Ordered]:
    if kind is str:
        return [_texts_in_order(values, rows, repeat)]
    if kind is not int:
        return [Numbers.of(np.array(values, kind), rows, repeat)]
    if _INT64.min <= min(values) and max(values) <= _INT64.max:
        return [Numbers.of(np.array(values, np.int64), rows, repeat)]
    wide = np.array([not _INT64.min <= value <= _INT64.max for value in values])
    numbers = np.array(values, object)
    narrow = Numbers.of(numbers[~wide].astype(np.int64), rows[~wide], repeat)
    return [narrow, Numbers.of(numbers[wide], rows[wide], repeat)]


def _texts_in_order(values: list[str], rows: np.ndarray, repeat: bool) -> Strings:
    import pyarrow as pa

    try:
        return Strings.of(pa.chunked_array([pa.array(values, pa.large_string())]), rows, repeat)
    except UnicodeEncodeError:  # half of a pair of code units is no text, and equal to none
        whole = [place for place, value in enumerate(values) if not any("\ud800" <= c <= "\udfff" for c in value)]
        texts = pa.array([values[place] for place in whole], pa.large_string())
        return Strings.of(pa.chunked_array([texts]), rows[whole], repeat)
