"""Filters: which rows a search may return, and the attributes that expressions speak of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.errors import AnnvqError, FilterError, ShapeError
from annvq.index.ids import IdColumn, Kind

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc


@dataclass(frozen=True, eq=False)
class IdFilter:
    """Rows whose ids are among ``allowed``; ids that the index does not hold do no harm."""

    allowed: IdColumn

    def mask(self, ids: IdColumn, attributes: pa.Table | None, insertion_numbers: np.ndarray) -> np.ndarray:
        """Return (n,) bool for the rows of one segment, see `resolve`."""
        allow = np.zeros(len(ids), bool)
        rows = ids.find(self.allowed)
        allow[rows[rows >= 0]] = True
        return allow


@dataclass(frozen=True, eq=False)
class MaskFilter:
    """Rows by the number of their insertion: row i of the index's history where ``allowed[i]``."""

    allowed: np.ndarray

    def mask(self, ids: IdColumn, attributes: pa.Table | None, insertion_numbers: np.ndarray) -> np.ndarray:
        """Return (n,) bool for the rows of one segment, see `resolve`."""
        if len(insertion_numbers) and insertion_numbers.max() >= len(self.allowed):
            raise FilterError(
                f"mask of length {len(self.allowed)}, but {insertion_numbers.max() + 1} vectors were inserted"
            )
        return self.allowed[insertion_numbers]


@dataclass(frozen=True, eq=False)
class ExpressionFilter:
    """Rows for whose attributes the expression is true; null counts as false."""

    expression: pc.Expression

    def mask(self, ids: IdColumn, attributes: pa.Table | None, insertion_numbers: np.ndarray) -> np.ndarray:
        """Return (n,) bool for the rows of one segment, see `resolve`."""
        if attributes is None:
            raise FilterError("the index has no attributes, so it cannot be filtered by an expression")
        return _evaluate(self.expression, attributes)


Filter = IdFilter | MaskFilter | ExpressionFilter


def parse(given: Any, kind: Kind, schema: pa.Schema | None, inserted: int | None = None) -> Filter:
    """Return what a user gave as a filter, checked against the index.

    Parameters
    ----------
    given
        A `pyarrow.compute` expression over the attributes; booleans, one for every vector ever
        inserted and not compacted away, in that order; or ids (`annvq.index.id_input.parse_ids`).
        An empty list allows nothing.
    kind
        Kind of the index's ids.
    schema
        Of the attributes; None where the index has none.
    inserted
        Length that a mask must have.

    Raises
    ------
    FilterError
        With what was given, and the attributes there are.

    """
    if isinstance(given, IdFilter | MaskFilter | ExpressionFilter):
        return given
    if _is_expression(given):
        expression = ExpressionFilter(given)
        _evaluate(given, _no_rows(schema))
        return expression
    mask = _as_mask(given)
    if mask is not None:
        if inserted is not None and len(mask) != inserted:
            raise FilterError(f"mask of length {len(mask)}, but {inserted} vectors were inserted")
        return MaskFilter(mask)
    return IdFilter(_as_ids(given, kind))


def resolve(
    given: Any, ids: IdColumn, attributes: pa.Table | None, insertion_numbers: np.ndarray | None = None
) -> np.ndarray:
    """Return which rows of one segment a filter allows, (n,) bool.

    Parameters
    ----------
    given
        As in `parse`.
    ids, attributes
        Of the segment's n rows, in the same order.
    insertion_numbers
        (n,) int64, index-wide; by default 0 .. n - 1.

    Raises
    ------
    FilterError
        As `parse`.

    """
    schema = None if attributes is None else attributes.schema
    numbers = np.arange(len(ids)) if insertion_numbers is None else insertion_numbers
    return parse(given, ids.kind, schema).mask(ids, attributes, numbers)


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


def _as_table(x: Any) -> pa.Table:
    import pyarrow as pa

    if isinstance(x, pa.Table):
        return x
    if isinstance(x, list) and all(isinstance(row, dict) for row in x):
        return pa.Table.from_pylist(x)
    if type(x).__module__.partition(".")[0] == "pandas":
        return pa.Table.from_pandas(x, preserve_index=False)
    return pa.table(x)


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


def _no_rows(schema: pa.Schema | None) -> pa.Table:
    if schema is None:
        raise FilterError("the index has no attributes, so it cannot be filtered by an expression")
    return schema.empty_table()


def _evaluate(expression: pc.Expression, attributes: pa.Table) -> np.ndarray:
    """Return the expression's value for every row, (n,) bool."""
    import pyarrow as pa
    from pyarrow import acero

    rows = acero.Declaration("table_source", acero.TableSourceNodeOptions(attributes))
    values = acero.Declaration("project", acero.ProjectNodeOptions([expression], ["allow"]), [rows])
    try:
        # One thread, for the rows must stay in order.
        allow = values.to_table(use_threads=False).column("allow")
        if not pa.types.is_boolean(allow.type):
            raise FilterError(f"filter {expression}: its value is {allow.type}, expected true or false")
    except pa.ArrowException as error:
        columns = ", ".join(f"{field.name}: {field.type}" for field in attributes.schema)
        raise FilterError(f"filter {expression}: {error}; attributes: {columns}") from error
    return allow.fill_null(False).to_numpy()
