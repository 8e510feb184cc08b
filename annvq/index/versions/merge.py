"""New segments of the rows of others: lists are joined, and codes are repacked without decoding them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from annvq.index.rows.attributes import intact, joined_schema, widened
from annvq.index.rows.ids import IdColumn
from annvq.index.rows.segment import Segment
from annvq.index.trained import Trained
from annvq.index.versions.writer import make_segment

if TYPE_CHECKING:
    import pyarrow as pa


def merge(trained: Trained, segments: list[Segment]) -> Segment:
    """Return one segment with the live rows of ``segments`` in the order of insertion."""
    return gathered(trained, [(segment, segment.insertion_order()) for segment in segments])


def gathered(
    trained: Trained,
    parts: list[tuple[Segment, np.ndarray]],
    attributes: pa.Table | None = None,
    places: np.ndarray | None = None,
) -> Segment:
    """Return one segment with some rows (int64) of segments.

    ``attributes`` are those of all these rows; by default, they keep their own. ``places`` are the rows' places in the
    order of insertion; by default, it is the order given.
    """
    labels, batches, ids, tables = [], [], [], []
    for segment, rows in parts:
        labels.append(segment.labels()[rows])
        batches.append(trained.unpack(segment, rows))
        ids.append(segment.ids.reorder(rows))
        if attributes is None:
            tables.append(None if segment.attributes is None else intact(segment.attributes).take(rows))
    lists = np.concatenate(labels)
    positions = np.arange(len(lists), dtype=np.uint32) if places is None else places.astype(np.uint32)
    table = _concatenated(tables, ids) if attributes is None else attributes
    return make_segment(trained, lists, batches, IdColumn.concat(ids), positions, table)


def _concatenated(tables: list[pa.Table | None], ids: list[IdColumn]) -> pa.Table | None:
    schema = joined_schema(table.schema for table in tables if table is not None)
    if schema is None:
        return None
    import pyarrow as pa

    return pa.concat_tables([widened(table, schema, len(rows)) for table, rows in zip(tables, ids, strict=True)])
