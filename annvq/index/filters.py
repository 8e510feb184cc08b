"""Filters: which rows a search may return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.errors import AnnvqError, FilterError
from annvq.index.attribute_types import widened
from annvq.index.attributes import intact
from annvq.index.ids import IdColumn, Kind

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import acero


@dataclass(frozen=True, eq=False)
class Filter:
    """A filter that fits the index, ready to be applied to its segments.

    Parameters
    ----------
    allowed
        Ids; booleans (n,) for the rows in the order of their insertion; or an expression over the
        attributes.
    schema
        Of the attributes of all segments, for an expression.

    """

    allowed: IdColumn | np.ndarray | pc.Expression
    schema: pa.Schema | None = None

    @classmethod
    def parse(cls, given: Any, kind: Kind, schema: pa.Schema | None, rows: int | None = None) -> Filter:
        """Return what a user gave as a filter, checked against the index.

        Parameters
        ----------
        given
            A `pyarrow.compute` expression over the attributes; booleans, one for every row of the
            index in the order of insertion; or ids (`annvq.index.id_input.parse_ids`), of which
            those that the index does not hold do no harm. An empty list allows nothing.
        kind
            Kind of the index's ids.
        schema
            Of the attributes; None where the index has none.
        rows
            Length that a mask must have.

        Raises
        ------
        FilterError
            With what was given, and the attributes there are.

        """
        if isinstance(given, Filter):
            return given
        if _is_expression(given):
            if schema is None:
                raise FilterError("the index has no attributes, so it cannot be filtered by an expression")
            _by_expression(given, schema.empty_table(), schema)
            return cls(given, schema)
        mask = _as_mask(given)
        if mask is None:
            return cls(_as_ids(given, kind))
        if rows is not None and len(mask) != rows:
            raise FilterError(f"mask of length {len(mask)}, but the index holds {rows} vectors")
        return cls(mask)

    def mask(self, ids: IdColumn, attributes: pa.Table | None, numbers: np.ndarray) -> np.ndarray:
        """Return which rows of one segment are allowed, (n,) bool.

        Parameters
        ----------
        ids, attributes
            Of the segment's n rows, in the same order.
        numbers
            (n,) int64, every row's place in a mask; -1 for rows that are removed.

        Raises
        ------
        FilterError
            The segment does not have what the filter needs.

        """
        if isinstance(self.allowed, IdColumn):
            return _by_ids(self.allowed, ids)
        if isinstance(self.allowed, np.ndarray):
            return _by_number(self.allowed, numbers)
        assert self.schema is not None
        if attributes is None or not attributes.num_columns:  # null in every row
            return np.repeat(_by_expression(self.allowed, _row_of_nulls(), self.schema), len(ids))
        return _by_expression(self.allowed, attributes, self.schema)


def resolve(given: Any, ids: IdColumn, attributes: pa.Table | None = None) -> np.ndarray:
    """Return which rows of a single segment a filter allows, (n,) bool; masks are in the order of rows.

    Parameters and errors are those of `Filter.parse` and `Filter.mask`.
    """
    schema = None if attributes is None else attributes.schema
    return Filter.parse(given, ids.kind, schema, len(ids)).mask(ids, attributes, np.arange(len(ids)))


def _is_expression(given: Any) -> bool:
    if type(given).__module__.partition(".")[0] != "pyarrow":
        return False
    import pyarrow.compute as pc

    return isinstance(given, pc.Expression)


def _as_mask(given: Any) -> np.ndarray | None:
    """Return booleans as an array, or None where ``given`` is something else."""
    if type(given).__module__.partition(".")[0] == "pyarrow":
        import pyarrow as pa

        if not isinstance(given, pa.Array | pa.ChunkedArray) or not pa.types.is_boolean(given.type):
            return None
        return given.fill_null(False).to_numpy(zero_copy_only=False)
    if isinstance(given, list | tuple):
        if not given or not all(isinstance(item, bool | np.bool_) for item in given):
            return None
        return np.array(given, dtype=bool)
    array = np.asarray(given) if hasattr(given, "__array__") else None
    if array is None or array.dtype != np.bool_:
        return None
    if array.ndim != 1:
        raise FilterError(f"mask of shape {array.shape}, expected (n,)")
    return array


def _as_ids(given: Any, kind: Kind) -> IdColumn:
    try:
        ids = IdColumn.of(given)
    except AnnvqError as error:
        raise FilterError(f"filter: {error}; or a boolean mask, or a pyarrow.compute expression") from error
    if len(ids) and ids.kind != kind:
        raise FilterError(f"filter by {ids.kind} ids, but those of the index are {kind}")
    return ids


def _by_ids(allowed: IdColumn, ids: IdColumn) -> np.ndarray:
    allow = np.zeros(len(ids), bool)
    rows = ids.find(allowed)
    allow[rows[rows >= 0]] = True
    return allow


def _by_number(allowed: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    if len(numbers) and numbers.max() >= len(allowed):
        raise FilterError(f"mask of length {len(allowed)}, but the index holds {numbers.max() + 1} vectors")
    return np.append(allowed, False)[numbers]  # -1 is the place that was appended


def _by_expression(expression: pc.Expression, attributes: pa.Table, schema: pa.Schema) -> np.ndarray:
    """Return where the expression is true, (n,) bool; null counts as false, and so does a column that is missing."""
    import pyarrow as pa
    from pyarrow import acero

    rows = _all_columns(intact(attributes), schema)
    values = acero.Declaration("project", acero.ProjectNodeOptions([expression], ["allow"]), [rows])
    try:
        # One thread, for the rows must stay in order.
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
