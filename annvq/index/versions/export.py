"""The rows of an index as Arrow record batches: ids, vectors, attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
        decoded = np.ascontiguousarray(trained.decode(segment, rows), dtype=np.float32)
        return pa.FixedSizeListArray.from_arrays(decoded.reshape(-1), trained.dim)

    return VectorColumn(pa.field("vector", pa.list_(pa.float32(), trained.dim)), decode, 4 * trained.dim)


def record_batches(snapshot: Snapshot, vectors: VectorColumn | None) -> pa.RecordBatchReader:
    """Return the rows of a snapshot in the order of insertion: columns id, ``vectors`` (if given) and attributes.

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
    attributes = snapshot.schema or pa.schema([])
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
