"""One version of an index: what a search sees from beginning to end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.arguments import as_choice
from annvq.arrays import frozen, offsets_of
from annvq.errors import ParameterError, UnknownIdError
from annvq.index.rows.attributes import joined_schema, widened
from annvq.index.rows.ids import IdColumn, rank_across
from annvq.index.rows.segment import Segment
from annvq.index.rows.taking import taken
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

    def rows_in_order(self) -> np.ndarray:
        """Return the rows that a search may return in the order of insertion, index-wide numbers int64."""
        parts = [np.empty(0, np.int64)]
        for segment in self.segments:
            order = segment.insertion_order()
            parts.append(segment.base + (order[segment.allow[order] == 1] if len(segment.allow) else order))
        return np.concatenate(parts)

    def are_allowed(self, rows: np.ndarray) -> np.ndarray:
        """Return which of some live index-wide rows (m,) int64 a search may return, (m,) bool."""
        allowed = np.ones(len(rows), bool)
        for segment in self.segments:
            inside = np.flatnonzero((rows >= segment.base) & (rows < segment.base + segment.n))
            if len(segment.allow):
                allowed[inside] = segment.allow[rows[inside] - segment.base] == 1
        return allowed

    def columns(self, names: Any = None) -> tuple[str, ...]:
        """Return the names of attribute columns, all by default (ParameterError if the index has no such column)."""
        held = () if self.schema is None else tuple(self.schema.names)
        if names is None:
            return held
        given = tuple(names) if isinstance(names, Iterable) and not isinstance(names, str) else None
        if given is None or not all(isinstance(name, str) for name in given):
            raise ParameterError(f"columns: {names!r}, expected a list of names")
        wanted = tuple(dict.fromkeys(given))
        known = set(held)
        missing = next((name for name in wanted if name not in known), None)
        if missing is not None:
            all_names = ", ".join(held) or "none"
            raise ParameterError(f"columns: the index has no {missing!r}, it has: {all_names}")
        return wanted

    def attributes(self, rows: np.ndarray, names: tuple[str, ...]) -> pa.Table:
        """Return some columns of index-wide rows (m,) int64, in their order; all null where a row is -1."""
        import pyarrow as pa

        if self.schema is None or not names:
            return pa.table({"rows": pa.nulls(len(rows))}).select([])  # without columns, the number of rows is kept
        schema = pa.schema([self.schema.field(name) for name in names])
        parts, places = [schema.empty_table()], np.full(len(rows), -1, np.int64)
        done = 0
        for segment in self.segments:
            inside = np.flatnonzero((rows >= segment.base) & (rows < segment.base + segment.n))
            if len(inside):
                held = None
                if segment.attributes is not None:
                    of_segment = set(segment.attributes.schema.names)
                    known = [name for name in names if name in of_segment]
                    held = taken(segment.attributes, rows[inside] - segment.base, known) if known else None
                parts.append(widened(held, schema, len(inside)))
                places[inside] = np.arange(done, done + len(inside))
                done += len(inside)
        return pa.concat_tables(parts).take(pa.array(places, mask=places < 0))

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

    def rows_of(self, ids: Any, missing: str = "error") -> np.ndarray:
        """Return the index-wide row of every given id, int64.

        Parameters
        ----------
        ids
            What `annvq.index.rows.id_input.parse_ids` accepts.
        missing
            What becomes of ids without a live row: "error" raises UnknownIdError, "ignore" passes over them.

        """
        as_choice("missing", missing, ("error", "ignore"))
        column = IdColumn.of(ids)
        rows = self.find(column)
        if missing == "ignore":
            return rows[rows >= 0]
        missing_ids = np.flatnonzero(rows < 0)
        if len(missing_ids):
            more = f" and {len(missing_ids) - 1} more" if len(missing_ids) > 1 else ""
            raise UnknownIdError(f"the index does not hold id {column.shown(missing_ids[0])}{more}")
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
