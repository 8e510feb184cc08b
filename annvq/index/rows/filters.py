"""Filters: which rows a search may return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.errors import AnnvqError, FilterError
from annvq.index.rows.attribute_types import widened
from annvq.index.rows.attributes import intact
from annvq.index.rows.ids import IdColumn
from annvq.index.rows.segment import Segment
from annvq.index.rows.snapshot import Snapshot

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import acero


@dataclass(frozen=True, eq=False)
class Filter:
    """A filter that fits the kind of an index, ready to be applied to its segments.

    Parameters
    ----------
    allowed
        Ids; booleans (n,) for the rows in the order of their insertion; or an expression over the
        attributes.

    """

    allowed: IdColumn | np.ndarray | pc.Expression

    @classmethod
    def parse(cls, given: Any, snapshot: Snapshot) -> Filter:
        """Return what a user gave as a filter, checked against the index.

        Parameters
        ----------
        given
            A `pyarrow.compute` expression over the attributes; booleans, one for every row of the
            index in the order of insertion, null is false; or ids (`annvq.index.rows.id_input.parse_ids`), of
            which those that the index does not hold do no harm. An empty list allows nothing.
        snapshot
            The index's rows.

        Raises
        ------
        FilterError
            With what was given and what is accepted; also for integers that may as well be a mask.

        """
        if _is_expression(given):
            return cls(given)
        mask = _as_mask(given)
        if mask is not None:
            return cls(mask)
        ids = _as_ids(given)
        _check_no_mask(ids, snapshot.live_count)
        return cls(ids)

    def narrowed(self, snapshot: Snapshot) -> Snapshot:
        """Return the snapshot with the rows that pass.

        Raises
        ------
        FilterError
            The mask has another length; the ids are of another kind than the index's; or the segments do not have
            what the expression needs, with the attributes that there are.

        """
        if isinstance(self.allowed, np.ndarray):
            return _narrowed_by_mask(self.allowed, snapshot)
        segments = []
        for segment in snapshot.segments:
            if isinstance(self.allowed, IdColumn):
                allow = _by_ids(self.allowed, segment.ids)
            else:
                allow = _by_attributes(self.allowed, segment, snapshot.schema)
            segments.append(segment.narrowed(allow))
        return snapshot.narrowed(segments)


def _is_expression(given: Any) -> bool:
    if type(given).__module__.partition(".")[0] != "pyarrow":
        return False
    import pyarrow.compute as pc

    return isinstance(given, pc.Expression)


def _as_mask(given: Any) -> np.ndarray | None:
    """Return booleans as an array (n,), or None if ``given`` is something else."""
    package = type(given).__module__.partition(".")[0]
    if package == "pyarrow":
        import pyarrow as pa

        if not isinstance(given, pa.Array | pa.ChunkedArray) or not pa.types.is_boolean(given.type):
            return None
        return given.fill_null(False).to_numpy(zero_copy_only=False)
    if package == "pandas" and str(getattr(given, "dtype", "")) in _NULLABLE:
        return given.to_numpy(dtype=bool, na_value=False)
    if package == "polars" and str(getattr(given, "dtype", "")) == "Boolean":
        return given.fill_null(False).to_numpy()
    if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
        raise FilterError("filter: an array with masked values, expected a value in every place")
    array = given if isinstance(given, list | tuple) or not hasattr(given, "__array__") else np.asarray(given)
    if isinstance(array, np.ndarray) and array.dtype == np.object_ and array.ndim == 1:
        array = array.tolist()  # pandas and Arrow make such of booleans
    if isinstance(array, list | tuple):
        if not array or not all(isinstance(item, bool | np.bool_) for item in array):
            return None
        return np.array(array, dtype=bool)
    if not isinstance(array, np.ndarray) or array.dtype != np.bool_:
        return None
    if array.ndim != 1:
        raise FilterError(f"mask of shape {array.shape}, expected (n,)")
    return array


_NULLABLE = ("boolean", "bool[pyarrow]")  # dtypes of pandas that have missing values


def _as_ids(given: Any) -> IdColumn:
    try:
        return IdColumn.of(given)
    except AnnvqError as error:
        raise FilterError(f"filter: {error}; or a boolean mask, or a pyarrow.compute expression") from error


def _check_no_mask(ids: IdColumn, rows: int) -> None:
    """Refuse integers 0 and 1 with repeats, as many as there are rows, for they may be ids or a mask."""
    if ids.kind == "str" or len(ids) != rows or rows < 2:
        return
    values = ids.values
    if values.min() >= 0 and values.max() <= 1 and (rows > 2 or values[0] == values[1]):
        raise FilterError(
            f"filter: {rows} integers, all 0 or 1, for {rows} vectors: a mask has to be boolean (x.astype(bool)), "
            "ids are to be given once (numpy.unique(x))"
        )


def _narrowed_by_mask(mask: np.ndarray, snapshot: Snapshot) -> Snapshot:
    if len(mask) != snapshot.live_count:
        raise FilterError(f"mask of length {len(mask)}, but the index holds {snapshot.live_count} vectors")
    start, segments = 0, []
    for segment in snapshot.segments:
        segments.append(segment.narrowed_by_mask(mask[start : start + segment.live_count]))
        start += segment.live_count
    return snapshot.narrowed(segments)


def _by_ids(allowed: IdColumn, ids: IdColumn) -> np.ndarray:
    if len(allowed) and allowed.kind != ids.kind:
        raise FilterError(f"filter by {allowed.kind} ids, but those of the index are {ids.kind}")
    allow = np.zeros(len(ids), bool)
    rows = ids.find(allowed)
    allow[rows[rows >= 0]] = True
    return allow


def _by_attributes(expression: pc.Expression, segment: Segment, schema: pa.Schema | None) -> np.ndarray:
    if schema is None:
        raise FilterError("the index has no attributes, so it cannot be filtered by an expression")
    if segment.attributes is None or not segment.attributes.num_columns:  # null in every row
        return np.repeat(_by_expression(expression, _row_of_nulls(), schema), segment.n)
    return _by_expression(expression, segment.attributes, schema)


def _by_expression(expression: pc.Expression, attributes: pa.Table, schema: pa.Schema) -> np.ndarray:
    """Return where the expression is true, (n,) bool; null counts as false, and so does a column that is missing."""
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
