"""Attributes of an index's rows: Arrow columns, which filters speak of."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from annvq.errors import CorruptIndexError, FilterError, ParameterError, ShapeError

if TYPE_CHECKING:
    import pyarrow as pa

    from annvq.index.segment import Segment


def as_attributes(x: Any, n: int | None) -> pa.Table:
    """Return attributes as an Arrow table of n rows.

    Parameters
    ----------
    x
        Arrow table or record batch, dict of columns, list of dicts (one a row), pandas or other data
        frame that exports Arrow.
    n
        How many rows there must be; None where that is not known yet.

    Raises
    ------
    ShapeError
        Another number of rows.
    FilterError
        Nothing that makes a table, or two columns of one name.

    """
    import pyarrow as pa

    try:
        table = _as_table(x)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise FilterError(f"attributes: {type(x).__name__} that makes no Arrow table ({error})") from error
    if len(set(table.schema.names)) != len(table.schema.names):
        raise FilterError(f"attributes: column names are not unique: {', '.join(table.schema.names)}")
    if n is not None and len(table) != n:
        raise ShapeError(f"attributes: {len(table)} rows for {n} vectors")
    return table


def new_attributes(given: Any, n: int, segments: Sequence[Segment]) -> pa.Table | None:
    """Return the attributes of n rows that come to an index of ``segments``, with its columns (ParameterError)."""
    table = None if given is None else as_attributes(given, n)
    if not segments:
        return table
    schema = None if segments[0].attributes is None else segments[0].attributes.schema
    if (schema is None) != (table is None):
        columns = "none" if table is None else f"columns {table.column_names}"
        held = "no attributes" if schema is None else f"attributes {schema.names}"
        raise ParameterError(f"the index has {held}, the new vectors come with {columns}")
    if table is None or schema is None:
        return None
    if set(table.column_names) != set(schema.names):
        raise ParameterError(f"the index has attributes {schema.names}, not {table.column_names}")
    try:
        return table.select(schema.names).cast(schema)
    except (ValueError, TypeError) as error:  # pyarrow's errors derive from these
        raise ParameterError(f"attributes do not fit the index's columns: {error}") from error


def intact(attributes: pa.Table) -> pa.Table:
    """Return a table after every offset and index in it was looked at, which is done once a table.

    Opening does not read the attributes of an index, and Arrow follows offsets without looking
    (CorruptIndexError where they lead astray).
    """
    import pyarrow as pa

    key = id(attributes)
    known = _INTACT.get(key)
    if known is None or known() is not attributes:
        try:
            attributes.validate(full=True)
        except pa.ArrowException as error:
            raise CorruptIndexError(f"section attributes is damaged: {error}") from error
        _INTACT[key] = weakref.ref(attributes, lambda _: _INTACT.pop(key, None))
    return attributes


_INTACT: dict[int, weakref.ref] = {}  # tables have no hash


def _as_table(x: Any) -> pa.Table:
    import pyarrow as pa

    if isinstance(x, pa.Table):
        return x
    if isinstance(x, list) and all(isinstance(row, dict) for row in x):
        return pa.Table.from_pylist(x)
    if type(x).__module__.partition(".")[0] == "pandas":
        return pa.Table.from_pandas(x, preserve_index=False)
    return pa.table(x)
