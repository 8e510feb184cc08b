"""One version of an index: what a search sees from beginning to end."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.arrays import frozen, offsets_of
from annvq.errors import UnknownIdError
from annvq.index.rows.attributes import joined_schema
from annvq.index.rows.ids import IdColumn, rank_across
from annvq.index.rows.segment import Segment
from annvq.kernels.scan.topk import take

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Snapshot:
    """An immutable tuple of segments, numbered one after the other."""

    segments: tuple[Segment, ...] = ()

    @classmethod
    def of(cls, segments: list[Segment] | tuple[Segment, ...]) -> Snapshot:
        """Number the rows of ``segments`` from 0."""
        bases = offsets_of([segment.n for segment in segments])
        return cls(tuple(segment.at(int(base)) for segment, base in zip(segments, bases, strict=False)))

    def narrowed(self, segments: list[Segment]) -> Snapshot:
        """Return the same rows, fewer of which may be returned from ``segments``."""
        made = Snapshot(tuple(segments))
        made.__dict__["keys"] = self.keys  # the keys of many segments take long to compute
        return made

    @property
    def rows(self) -> int:
        """Rows, removed ones included."""
        return sum(segment.n for segment in self.segments)

    @cached_property
    def live_count(self) -> int:
        """Rows that are not removed."""
        return sum(segment.live_count for segment in self.segments)

    @cached_property
    def keys(self) -> np.ndarray:
        """(rows,) int64 that sort as the ids do: the ids themselves, or the ranks of string ids."""
        columns = [segment.ids for segment in self.segments]
        if not columns:
            keys = np.empty(0, np.int64)
        elif len(columns) == 1:
            keys = columns[0].order_keys()
        elif columns[0].kind == "str":
            keys = np.concatenate(rank_across(columns))
        else:
            keys = np.concatenate([column.order_keys() for column in columns])
        return frozen(keys)

    @cached_property
    def schema(self) -> pa.Schema | None:
        """The attribute columns of all segments, each of which may lack some; None if there are none."""
        return joined_schema(segment.attributes.schema for segment in self.segments if segment.attributes is not None)

    @cached_property
    def searchable_per_list(self) -> np.ndarray:
        """(nlist,) int64: how many rows of every list a search may return."""
        nlist = len(self.segments[0].offsets) - 1 if self.segments else 1
        return sum((segment.allowed_per_list() for segment in self.segments), np.zeros(nlist, np.int64))

    @cached_property
    def searchable_count(self) -> int:
        """Rows that a search may return."""
        return int(self.searchable_per_list.sum())

    def searchable_rows(self) -> np.ndarray:
        """Return the index-wide numbers of the rows that a search may return, int64."""
        parts = [np.flatnonzero(s.allow) if len(s.allow) else np.arange(s.n) for s in self.segments]
        return np.concatenate([np.empty(0, np.int64), *(p + s.base for p, s in zip(parts, self.segments, strict=True))])

    def ids_in_order(self) -> IdColumn | None:
        """Return the ids of the live rows in the order of insertion, or None if there are no segments."""
        columns = [segment.ids.reorder(segment.insertion_order()) for segment in self.segments]
        return IdColumn.concat(columns) if columns else None

    def find(self, ids: IdColumn) -> np.ndarray:
        """Return the index-wide row of every id, (len(ids),) int64; -1 if there is no live row (DtypeError)."""
        rows = np.full(len(ids), -1, np.int64)
        for segment in self.segments:
            found = segment.ids.find(ids)
            if len(segment.live):
                found = np.where((found >= 0) & (segment.live[found] == 1), found, -1)
            rows = np.where(found >= 0, found + segment.base, rows)
        return rows

    def rows_of(self, ids: Any) -> np.ndarray:
        """Return the index-wide row of every given id, int64 (UnknownIdError if there is no live row)."""
        column = IdColumn.of(ids)
        rows = self.find(column)
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise UnknownIdError(f"the index does not hold id {column.shown(missing[0])}{more}")
        return rows

    def take_ids(self, rows: np.ndarray) -> np.ndarray:
        """Return the ids of index-wide rows of any shape; -1 or None where a row is -1."""
        flat = rows.reshape(-1)
        if not self.segments or self.segments[0].ids.kind == "int":
            if not self.segments:
                return np.full(rows.shape, -1, np.int64)
            return take(self.keys, np.atleast_2d(rows)).reshape(rows.shape)
        ids = np.full(flat.shape, None, dtype=object)
        for segment in self.segments:
            inside = np.flatnonzero((flat >= segment.base) & (flat < segment.base + segment.n))
            ids[inside] = segment.ids.take(flat[inside] - segment.base)
        return ids.reshape(rows.shape)
