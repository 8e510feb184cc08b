"""The rows of an index as Arrow record batches: ids, vectors, attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from annvq.errors import StateError
from annvq.index.rows.attributes import intact, widened
from annvq.index.rows.segment import Segment
from annvq.index.rows.snapshot import Snapshot
from annvq.index.trained import Trained

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_BYTES = 1 << 24  # of vectors decoded at a time
_ID_BYTES = 256  # of a row without vectors, about


class VectorColumn(NamedTuple):
    """How the vectors of rows become a column: its field, and what decodes rows (int64) of a segment.

    ``row_bytes`` are the bytes of a typical row's vectors in float32.
    """

    field: pa.Field
    decode: Callable[[Segment, np.ndarray], pa.Array]
    row_bytes: int


def single_vectors(trained: Trained) -> VectorColumn:
    """Return the column "vector" of an index of single vectors."""
    import pyarrow as pa

    def decode(segment: Segment, rows: np.ndarray) -> pa.Array:
        decoded = np.ascontiguousarray(trained.given_back(trained.decode(segment, rows)))
        return pa.FixedSizeListArray.from_arrays(decoded.reshape(-1), width)

    kind, width = (pa.uint8(), trained.dim // 8) if trained.metric == "hamming" else (pa.float32(), trained.dim)
    return VectorColumn(pa.field("vector", pa.list_(kind, width)), decode, 4 * trained.dim)


def record_batches(snapshot: Snapshot, vectors: VectorColumn | None, names: Sequence[str]) -> pa.RecordBatchReader:
    """Return the rows of a snapshot in the order of insertion: columns id, ``vectors`` (if given), some attributes.

    Raises
    ------
    StateError
        An attribute has the name of one of the other columns.

    """
    import pyarrow as pa

    of_strings = bool(snapshot.segments) and snapshot.segments[0].ids.kind == "str"
    fields = [pa.field("id", pa.string() if of_strings else pa.int64())]
    if vectors is not None:
        fields.append(vectors.field)
    attributes = pa.schema([] if snapshot.schema is None else [snapshot.schema.field(name) for name in names])
    if taken := {field.name for field in fields} & set(attributes.names):
        raise StateError(f"attribute {min(taken)!r} has the name of another column of the rows")
    schema = pa.schema([*fields, *attributes])
    rows = max(1, _BATCH_BYTES // (_ID_BYTES if vectors is None else vectors.row_bytes))

    def batches() -> Iterator[pa.RecordBatch]:
        for segment in snapshot.segments:
            order = segment.insertion_order()
            order = order[segment.allow[order] == 1] if len(segment.allow) else order
            held = None if segment.attributes is None else intact(segment.attributes)
            held = widened(held, attributes, segment.n) if attributes.names else None
            for start in range(0, len(order), rows):
                taken = order[start : start + rows]
                columns: list[Any] = [_ids(segment, taken)]
                columns += [] if vectors is None else [vectors.decode(segment, taken)]
                columns += [] if held is None else held.take(taken).columns
                yield from pa.Table.from_arrays(columns, schema=schema).combine_chunks().to_batches()

    return pa.RecordBatchReader.from_batches(schema, batches())


def _ids(segment: Segment, rows: np.ndarray) -> pa.Array:
    import pyarrow as pa

    ids = segment.ids.take(rows)
    return pa.array(ids.tolist(), pa.string()) if ids.dtype == object else pa.array(ids)


def id_column(snapshot: Snapshot, rows: np.ndarray) -> pa.Array:
    """Return the ids of index-wide rows (m,) int64."""
    import pyarrow as pa

    ids = snapshot.take_ids(rows)
    return pa.array(ids.tolist(), pa.string()) if ids.dtype == object else pa.array(ids)


def vector_column(snapshot: Snapshot, rows: np.ndarray, vectors: VectorColumn) -> pa.Array:
    """Return the vectors of index-wide rows (m,) int64, in their order."""
    import pyarrow as pa

    parts, places, done = [pa.array([], vectors.field.type)], np.zeros(len(rows), np.int64), 0
    for segment in snapshot.segments:
        inside = np.flatnonzero((rows >= segment.base) & (rows < segment.base + segment.n))
        if len(inside):
            parts.append(vectors.decode(segment, rows[inside] - segment.base))
            places[inside] = np.arange(done, done + len(inside))
            done += len(inside)
    return pa.concat_arrays(parts).take(pa.array(places))


def named(columns: dict[str, Any], attributes: pa.Table | None) -> pa.Table:
    """Return columns and attributes as one table (StateError if an attribute has the name of another column)."""
    import pyarrow as pa

    held = {} if attributes is None else dict(zip(attributes.schema.names, attributes.columns, strict=True))
    if taken := set(columns) & set(held):
        raise StateError(f"attribute {min(taken)!r} has the name of another column of the rows")
    return pa.table(columns | held)
