"""The rows of an index as Arrow record batches: ids, vectors, attributes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.errors import StateError
from annvq.index.rows.attributes import intact, widened
from annvq.index.rows.segment import Segment
from annvq.index.rows.snapshot import Snapshot
from annvq.index.trained import Trained

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_BYTES = 1 << 24  # of vectors decoded at a time


def record_batches(trained: Trained, snapshot: Snapshot, *, vectors: bool) -> pa.RecordBatchReader:
    """Return the rows of a snapshot in the order of insertion: columns id, vector (if asked for) and attributes.

    Raises
    ------
    StateError
        An attribute has the name of one of the other columns.

    """
    import pyarrow as pa

    of_strings = bool(snapshot.segments) and snapshot.segments[0].ids.kind == "str"
    fields = [pa.field("id", pa.string() if of_strings else pa.int64())]
    if vectors:
        fields.append(pa.field("vector", pa.list_(pa.float32(), trained.dim)))
    attributes = snapshot.schema or pa.schema([])
    if taken := {field.name for field in fields} & set(attributes.names):
        raise StateError(f"attribute {min(taken)!r} has the name of another column of the rows")
    schema = pa.schema([*fields, *attributes])
    rows = max(1, _BATCH_BYTES // (4 * trained.dim))

    def batches() -> Iterator[pa.RecordBatch]:
        for segment in snapshot.segments:
            order = segment.insertion_order()
            order = order[segment.allow[order] == 1] if len(segment.allow) else order
            held = None if segment.attributes is None else intact(segment.attributes)
            held = widened(held, attributes, segment.n) if attributes.names else None
            for start in range(0, len(order), rows):
                taken = order[start : start + rows]
                columns: list[Any] = _columns(trained, segment, taken, vectors)
                columns += [] if held is None else held.take(taken).columns
                yield from pa.Table.from_arrays(columns, schema=schema).combine_chunks().to_batches()

    return pa.RecordBatchReader.from_batches(schema, batches())


def _columns(trained: Trained, segment: Segment, rows: np.ndarray, vectors: bool) -> list[pa.Array]:
    import pyarrow as pa

    ids = segment.ids.take(rows)
    columns = [pa.array(ids.tolist(), pa.string()) if ids.dtype == object else pa.array(ids)]
    if vectors:
        decoded = np.ascontiguousarray(trained.decode(segment, rows), dtype=np.float32)
        columns.append(pa.FixedSizeListArray.from_arrays(decoded.reshape(-1), trained.dim))
    return columns
