"""Filters by expressions of `pyarrow.compute` over the attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.errors import FilterError
from annvq.index.rows.attribute_types import widened
from annvq.index.rows.attributes import intact
from annvq.index.rows.segment import Segment

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import acero


def is_expression(given: Any) -> bool:
    """Return whether a filter is an expression, without importing pyarrow for one that is not."""
    if type(given).__module__.partition(".")[0] != "pyarrow":
        return False
    import pyarrow.compute as pc

    return isinstance(given, pc.Expression)


def rows_of_expression(expression: pc.Expression, segment: Segment, schema: pa.Schema | None) -> np.ndarray:
    """Return where the expression is true, (n,) bool; null counts as false, and so does a column that is missing.

    Raises
    ------
    FilterError
        The expression does not fit the columns of the index, which the message names, or is neither true nor false.

    """
    if schema is None:
        raise FilterError("the index has no attributes, so it cannot be filtered by an expression")
    if segment.attributes is None or not segment.attributes.num_columns:  # null in every row
        return np.repeat(_evaluated(expression, _row_of_nulls(), schema), segment.n)
    return _evaluated(expression, segment.attributes, schema)


def _evaluated(expression: pc.Expression, attributes: pa.Table, schema: pa.Schema) -> np.ndarray:
    import pyarrow as pa
    from pyarrow import acero

    rows = _all_columns(intact(attributes), schema)
    values = acero.Declaration("project", acero.ProjectNodeOptions([expression], ["allow"]), [rows])
    try:
        # One thread, because the rows must stay in order.
        allow = values.to_table(use_threads=False).column("allow")
    except pa.ArrowException as error:
        columns = ", ".join(f"{field.name}: {field.type}" for field in schema)
        raise FilterError(f"filter {expression}: {error}; attributes: {columns}") from error
    if not pa.types.is_boolean(allow.type):
        raise FilterError(f"filter {expression}: its value is {allow.type}, expected true or false")
    return allow.fill_null(False).to_numpy()


def _all_columns(attributes: pa.Table, schema: pa.Schema) -> acero.Declaration:
    """Return rows with all columns of the index; those that are missing are one null, whatever the number of rows."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import acero

    if attributes.schema == schema:
        return acero.Declaration("table_source", acero.TableSourceNodeOptions(attributes))
    held = set(attributes.schema.names)
    columns = {
        name: widened(attributes.column(name), schema.field(name).type, name) for name in schema.names if name in held
    }
    if not columns:
        columns = {"": attributes.column(0)}
    rows = acero.Declaration("table_source", acero.TableSourceNodeOptions(pa.table(columns)))
    values = [
        pc.field(field.name) if field.name in held else pc.scalar(pa.scalar(None, field.type)) for field in schema
    ]
    return acero.Declaration("project", acero.ProjectNodeOptions(values, schema.names), [rows])


def _row_of_nulls() -> pa.Table:
    import pyarrow as pa

    return pa.table({"": pa.nulls(1)})
