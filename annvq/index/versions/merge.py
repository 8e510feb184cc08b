"""Merging segments: only live rows are kept, lists are joined, and codes are repacked without decoding them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from annvq.index.rows.attributes import intact, joined_schema, widened
from annvq.index.rows.ids import IdColumn
from annvq.index.rows.segment import Segment
from annvq.index.trained import Trained
from annvq.index.versions.writer import joined, make_segment

if TYPE_CHECKING:
    import pyarrow as pa


def merge(trained: Trained, segments: list[Segment]) -> Segment:
    """Return one segment with the live rows of ``segments`` in the order of insertion."""
    labels, batches, ids, tables = [], [], [], []
    for segment in segments:
        order = segment.insertion_order()
        labels.append(segment.labels()[order])
        batches.append(trained.unpack(segment, order))
        ids.append(segment.ids.reorder(order))
        tables.append(None if segment.attributes is None else intact(segment.attributes).take(order))
    lists = np.concatenate(labels)
    positions = np.arange(len(lists), dtype=np.uint32)
    return make_segment(trained, lists, joined(batches), IdColumn.concat(ids), positions, _concatenated(tables, ids))


def _concatenated(tables: list[pa.Table | None], ids: list[IdColumn]) -> pa.Table | None:
    schema = joined_schema(table.schema for table in tables if table is not None)
    if schema is None:
        return None
    import pyarrow as pa

    return pa.concat_tables([widened(table, schema, len(rows)) for table, rows in zip(tables, ids, strict=True)])
