"""The rows of a build, which go into segments batch by batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.errors import ShapeError
from annvq.index.rows.extension import ExtensionRows
from annvq.index.rows.ids import IdColumn, as_ids
from annvq.index.rows.segment import Segment
from annvq.index.trained import Trained
from annvq.index.versions import commit
from annvq.index.versions.writer import SegmentWriter
from annvq.progress import ENCODING, WRITING, Progress
from annvq.storage import Store

if TYPE_CHECKING:
    import pyarrow as pa


class SegmentStream:
    """Encodes batches of rows, gives them their ids and attributes, and makes segments of them when told to.

    Parameters
    ----------
    trained, threads, report
        The trained parts that encode, with how many threads, and what is told of the progress.
    count
        The number of all rows, or None if it is not known.
    ids, attributes
        Those of all rows; ids are 0 to n - 1 if they are None.
    store
        The store in which segments are staged as they are made, or None.
    rows
        What rows are called in errors: "vectors", "documents".

    """

    def __init__(
        self,
        trained: Trained,
        count: int | None,
        ids: Any,
        attributes: pa.Table | None,
        store: Store | None,
        *,
        rows: str,
        threads: int,
        report: Progress,
    ) -> None:
        self.done = 0
        self._trained, self._store, self._report, self._rows = trained, store, report, rows
        self._ids, self._attributes = None if ids is None else as_ids(ids, count), attributes
        self._writer = SegmentWriter(trained, threads)
        self._segments: list[Segment] = []
        report.begin(ENCODING, count)

    @property
    def waiting(self) -> int:
        """The number of rows that are in no segment yet."""
        return self._writer.waiting

    def add(self, vectors: np.ndarray, beside: ExtensionRows | None = None) -> None:
        """Encode a batch as `SegmentWriter.add` does (ShapeError if there are fewer ids or attributes than rows)."""
        self._writer.add(vectors, beside)
        self.done += len(vectors)
        self._report.at(self.done)
        for name, given in self._given():
            if self.done > len(given):
                raise ShapeError(f"{len(given)} {name} for more than {self.done - 1} {self._rows}")

    def cut(self) -> None:
        """Make a segment of the waiting rows."""
        count = self.waiting
        start = self.done - count
        ids = as_ids(None, count, start) if self._ids is None else self._ids.reorder(np.arange(start, self.done))
        table = None if self._attributes is None else self._attributes.slice(start, count)
        segment = self._writer.take(ids, table)
        self._segments.append(segment if self._store is None else commit.stage(self._store, self._trained, segment))

    def finished(self) -> list[Segment]:
        """Return all segments (ShapeError if ids or attributes are left over, DuplicateIdError)."""
        for name, given in self._given():
            if len(given) != self.done:
                raise ShapeError(f"{len(given)} {name} for {self.done} {self._rows}")
        self._report.begin(WRITING)
        if self.waiting:
            self.cut()
        if len(self._segments) > 1 and self._segments[0].ids.kind == "str":  # within one segment, ids were checked
            IdColumn.concat([segment.ids for segment in self._segments]).check_unique()
        return self._segments

    def _given(self) -> list[tuple[str, Any]]:
        given = (("ids", self._ids), ("attributes", self._attributes))
        return [(name, held) for name, held in given if held is not None]
