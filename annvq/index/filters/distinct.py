"""The different values that rows have at a path."""

from __future__ import annotations

from typing import Any

import numpy as np

from annvq.index.filters.columns import column_of
from annvq.index.filters.paths import resolve
from annvq.index.rows.snapshot import Snapshot


def distinct_values(snapshot: Snapshot, path: str) -> list[Any]:
    """Return the different numbers, texts and booleans at a path of text or JSON, in no particular order.

    Of lists these are the items. 1, 1.0 and True are different. Only rows that the snapshot lets pass are looked at.

    Raises
    ------
    FilterError
        There is no such column.

    """
    schema = snapshot.schema
    if schema is None:
        return []
    found, _ = resolve(path, schema)
    values: dict[tuple[type, Any], None] = {}
    for segment in snapshot.segments:
        passing = np.zeros(segment.n, bool)
        passing[segment.allowed()] = True
        column = column_of(segment.attributes, segment.n, found)
        for held in (column.values, column.items):
            for kind, orders in held.items():
                for order in orders:
                    kept = order.distinct(passing)
                    values |= {(type(value), value): None for value in (map(bool, kept) if kind == "bool" else kept)}
    return [value for _, value in values]
