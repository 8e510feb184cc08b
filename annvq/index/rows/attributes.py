"""Attributes of an index's rows: Arrow columns, to which filters refer.

Columns may be added late: segments have what their rows were given, and a column that a segment lacks is null there.
A column's type may only widen, without loss (`annvq.index.rows.attribute_types.joined`).
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.errors import AnnvqError, CorruptIndexError, DtypeError, FilterError, ShapeError
from annvq.index.rows import attribute_types as types
from annvq.index.rows.arrowfile import in_memory

if TYPE_CHECKING:
    import pyarrow as pa


def as_attributes(x: Any, n: int | None) -> pa.Table | None:
    """Return attributes as an Arrow table of n rows, of plain types, or None if there is no column.

    Parameters
    ----------
    x
        Arrow table or record batch, dict of columns, list of dicts (one per row; a key that a row lacks is null
        there), pandas, polars or other data frame that exports Arrow. Dictionaries and runs are decoded, views
        become plain strings and bytes.
    n
        The number of rows that there must be, or None if it is not known yet.

    Raises
    ------
    ShapeError
        The number of rows is another.
    DtypeError
        Values of two types in a column, of which one does not hold the other (column, row and types are named), or a
        type that attributes cannot have.
    FilterError
        No table can be made of ``x``, or two columns have the same name.

    """
    import pyarrow as pa

    try:
        table = _as_table(x)
    except AnnvqError:
        raise
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise FilterError(f"attributes: {type(x).__name__} that makes no Arrow table ({error})") from error
    names = table.schema.names
    if len(set(names)) != len(names):
        raise FilterError(f"attributes: column names are not unique: {', '.join(names)}")
    rows = len(x) if isinstance(x, list | tuple) or _is_pandas(x) else len(table)  # Arrow makes 0 rows of no columns
    if n is not None and rows != n:
        raise ShapeError(f"attributes: {rows} rows for {n} vectors")
    return pa.table({name: types.plain(table.column(name), name) for name in names}) if names else None


def new_attributes(given: Any, n: int, held: pa.Schema | None) -> pa.Table | None:
    """Return the attributes of n rows that come to an index which has the columns ``held``.

    Values have the columns' types: those held, or where a value does not fit, the least that holds both. Columns that
    are not given are left out, and so null; new ones are taken on.

    Raises
    ------
    ShapeError, DtypeError, FilterError
        As `as_attributes`; also for a value that is of another type than the index's column.

    """
    table = None if given is None else as_attributes(given, n)
    if table is None or held is None:
        return table
    import pyarrow as pa

    names = table.schema.names
    known = set(names).intersection(held.names)
    columns = {
        name: types.fitted(table.column(name), held.field(name).type, name) for name in held.names if name in known
    }
    new = {name: table.column(name) for name in names if name not in known}
    return pa.table(columns | new)


def joined_schema(schemas: Iterable[pa.Schema]) -> pa.Schema | None:
    """Return the columns of an index from those of its segments, None without any (DtypeError: types in conflict)."""
    distinct: list[pa.Schema] = []
    for schema in schemas:
        if schema not in distinct:
            distinct.append(schema)
    if len(distinct) < 2:
        return distinct[0] if distinct else None
    import pyarrow as pa

    columns: dict[str, pa.DataType] = {}
    for field in (field for schema in distinct for field in schema):
        held = columns.get(field.name, field.type)
        both = held if held == field.type else types.joined(types.plain_type(held), types.plain_type(field.type))
        if both is None:
            raise DtypeError(f"attributes: column {field.name!r} is {held} and {field.type}")
        columns[field.name] = both
    return pa.schema(list(columns.items()))


def widened(table: pa.Table | None, schema: pa.Schema, n: int) -> pa.Table:
    """Return n rows of attributes with all columns of the index; what they lack is null."""
    import pyarrow as pa

    if table is not None and table.schema == schema:
        return table
    held = set() if table is None else set(table.schema.names)
    columns = [
        types.widened(table.column(field.name), field.type, field.name)
        if table is not None and field.name in held
        else pa.chunked_array([pa.nulls(n, field.type)])
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def replaced(held: pa.Table, given: pa.Table) -> pa.Table:
    """Return attributes of rows in which the columns of ``given``, of as many rows, take the place of those held."""
    import pyarrow as pa

    columns = dict(zip(held.schema.names, held.columns, strict=True))
    return pa.table(columns | dict(zip(given.schema.names, given.columns, strict=True)))


def intact(attributes: pa.Table) -> pa.Table:
    """Return the same rows, in memory, after every offset and index was looked at, which is done once a table.

    Opening does not read the attributes of an index, and Arrow follows offsets without looking
    (CorruptIndexError where they lead astray).
    """
    import pyarrow as pa

    key = id(attributes)
    known = _INTACT.get(key)
    if known is not None and known[0]() is attributes:
        return attributes if known[1] is None else known[1]
    table = in_memory(attributes)
    copied = None if table is attributes else table  # a reference to itself would keep it for ever
    if copied is None:
        try:
            table.validate(full=True)
        except pa.ArrowException as error:
            raise CorruptIndexError(f"attributes are damaged: {error}") from error
    _INTACT[key] = weakref.ref(attributes, lambda _: _INTACT.pop(key, None)), copied
    return table


_INTACT: dict[int, tuple[weakref.ref, pa.Table | None]] = {}  # tables have no hash


# From what users hold to tables


def _as_table(x: Any) -> pa.Table:
    import pyarrow as pa

    if isinstance(x, pa.Table):
        return x
    if isinstance(x, list | tuple):
        return _from_rows(x)
    if isinstance(x, dict):
        for name in x:
            if not isinstance(name, str):  # Arrow makes the text 'None' of None
                raise FilterError(f"attributes: a column named {name!r}, expected str")
        return pa.table({name: _column_of(values, name) for name, values in x.items()})
    if _is_pandas(x) and hasattr(x, "columns"):
        return _from_pandas(x)
    _check_exported(x)
    return pa.table(x)


def _from_rows(rows: Sequence[Any]) -> pa.Table:
    import pyarrow as pa

    names: dict[str, None] = {}
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise FilterError(f"attributes: row {number} is {type(row).__name__}, expected a dict")
        names.update(dict.fromkeys(row))
    wrong = next((name for name in names if not isinstance(name, str)), None)
    if wrong is not None:
        row = next(number for number, row in enumerate(rows) if wrong in row)
        raise FilterError(f"attributes: row {row} has the key {wrong!r}, expected str")
    return pa.table({name: types.array_of([row.get(name) for row in rows], name) for name in names})


def _column_of(values: Any, name: str) -> Any:
    """Return a column of a dict; Python's values are looked at one by one, for Arrow would mix types."""
    import pyarrow as pa

    if isinstance(values, str | bytes | dict):
        raise FilterError(f"attributes: column {name!r} is {type(values).__name__}, expected a list or an array")
    if isinstance(values, list | tuple):
        return types.array_of(values, name)
    if isinstance(values, np.ndarray) and values.dtype == object:
        return types.array_of(list(values), name)
    if _is_pandas(values) and values.dtype == object:
        return types.array_of(_without_missing(values), name)
    _check_exported(values)
    if not _is_pandas(values) and hasattr(values, "__arrow_c_stream__") and not isinstance(values, pa.ChunkedArray):
        return pa.chunked_array(values)
    return values


def _check_exported(x: Any) -> None:
    """Refuse Python's objects in a polars frame or series, which exports their addresses (DtypeError)."""
    if type(x).__module__.partition(".")[0] != "polars":
        return
    columns = x if hasattr(x, "columns") else [x]
    wrong = next((column.name for column in columns if str(column.dtype) == "Object"), None)
    if wrong is not None:
        raise DtypeError(f"attributes: column {wrong!r} is of Python objects, which attributes cannot be")


def _is_pandas(x: Any) -> bool:
    return type(x).__module__.partition(".")[0] == "pandas"


def _from_pandas(frame: Any) -> pa.Table:
    import pyarrow as pa

    if not frame.columns.is_unique:
        raise FilterError(f"attributes: column names are not unique: {', '.join(map(str, frame.columns))}")
    objects = [name for name in frame.columns if frame[name].dtype == object]
    table = pa.Table.from_pandas(frame.drop(columns=objects), preserve_index=False)
    columns = dict(zip(table.schema.names, table.columns, strict=True))
    columns |= {str(name): types.array_of(_without_missing(frame[name]), str(name)) for name in objects}
    return pa.table({str(name): columns[str(name)] for name in frame.columns})


def _without_missing(series: Any) -> list[Any]:
    """Return the values of a pandas series of objects; NaN, NA and NaT mark missing ones there."""
    return [None if missing else value for value, missing in zip(series, series.isna(), strict=True)]
