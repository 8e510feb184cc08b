"""From vectors to segments: encoding batches, gathering rows, sorting them into lists, packing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.arrays import frozen, offsets_of
from annvq.index.rows.extension import ExtensionRows
from annvq.index.rows.ids import IdColumn
from annvq.index.rows.segment import Segment
from annvq.index.trained import Trained
from annvq.kernels import threads as pool

if TYPE_CHECKING:
    import pyarrow as pa


def make_segment(
    trained: Trained,
    labels: np.ndarray,
    arrays: dict[str, Any],
    ids: IdColumn,
    positions: np.ndarray,
    attributes: pa.Table | None,
    threads: int | None = None,
) -> Segment:
    """Sort rows into lists and pack their codes.

    Parameters
    ----------
    trained
        The learned parts of the index.
    labels
        (n,) int64, every row's list.
    arrays
        Unpacked rows by section, as `Trained.encode` returns them, and those of the extension if there is one.
    ids, positions, attributes
        Those of the same n rows in the same order.
    threads
        Number of threads, by default all CPUs of the process.

    """
    order = np.argsort(labels, kind="stable")
    offsets = offsets_of(np.bincount(labels, minlength=trained.nlist))
    arrays = {name: array[order] for name, array in arrays.items()}
    arrays = trained.pack(arrays, offsets, pool.resolve(threads))
    return Segment(
        frozen(offsets),
        {name: frozen(array) for name, array in arrays.items()},
        ids.reorder(order),
        frozen(positions[order]),
        attributes.take(order) if attributes is not None else None,
    )


def joined(batches: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the unpacked rows of several batches as those of one."""
    names = batches[0] if batches else {}
    return {name: _concatenated([batch[name] for batch in batches]) for name in names}


def _concatenated(parts: list[Any]) -> Any:
    return np.concatenate(parts) if isinstance(parts[0], np.ndarray) else parts[0].joined(parts)


@dataclass
class SegmentWriter:
    """Gathers encoded batches until a segment is made of them."""

    trained: Trained
    threads: int
    _labels: list[np.ndarray] = field(default_factory=list)
    _arrays: list[dict[str, Any]] = field(default_factory=list)

    @property
    def waiting(self) -> int:
        """The number of rows that are gathered and not yet in a segment."""
        return sum(len(labels) for labels in self._labels)

    def add(self, vectors: np.ndarray, beside: ExtensionRows | None = None) -> None:
        """Encode a batch of vectors (n, d) float32; ``beside`` is what the extension keeps of the same rows."""
        labels, arrays = self.trained.encode(vectors, self.threads)
        if self.trained.extension is not None:
            arrays = {**arrays, self.trained.extension.name: beside}
        self._labels.append(labels)
        self._arrays.append(arrays)

    def take(self, ids: IdColumn, attributes: pa.Table | None) -> Segment:
        """Make a segment of all gathered rows, with the given ids and attributes."""
        labels = np.concatenate(self._labels) if self._labels else np.empty(0, np.int64)
        arrays = joined(self._arrays)
        self._labels, self._arrays = [], []
        positions = np.arange(len(labels), dtype=np.uint32)
        return make_segment(self.trained, labels, arrays, ids, positions, attributes, self.threads)
