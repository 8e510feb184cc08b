"""From vectors to segments: encoding batches, gathering rows, sorting them into lists, packing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.arrays import frozen, offsets_of
from annvq.codebooks.accelerator import in_place_of_cpu
from annvq.index.rows.extension import ExtensionRows
from annvq.index.rows.ids import IdColumn
from annvq.index.rows.segment import Segment
from annvq.index.trained import Trained
from annvq.kernels import threads as pool

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_A_TASK = 2048  # few enough for what is made of them on the way to be reused memory


def make_segment(
    trained: Trained,
    labels: np.ndarray,
    batches: list[dict[str, Any]],
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
    batches
        Unpacked rows by section, as `Trained.encode` returns them, and those of the extension if there is one; the rows
        of all batches, one after the other, are the n rows.
    ids, positions, attributes
        Those of the same n rows in the same order.
    threads
        Number of threads, by default all CPUs of the process.

    """
    order = np.argsort(labels, kind="stable")
    offsets = offsets_of(np.bincount(labels, minlength=trained.nlist))
    names = batches[0] if batches else {}
    arrays = {name: _in_order([batch[name] for batch in batches], order) for name in names}
    arrays = trained.pack(arrays, offsets, pool.resolve(threads))
    return Segment(
        frozen(offsets),
        {name: frozen(array) for name, array in arrays.items()},
        ids.reorder(order),
        frozen(positions[order]),
        attributes.take(order) if attributes is not None else None,
    )


def _in_order(parts: list[Any], order: np.ndarray) -> Any:
    """Return the rows ``order``, a permutation, of what several batches have; every row is copied once."""
    if not isinstance(parts[0], np.ndarray):
        return parts[0].joined(parts)[order]
    if len(parts) == 1:
        return parts[0][order]
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    rows = np.empty((len(order), *parts[0].shape[1:]), parts[0].dtype)
    start = 0
    for part in parts:
        rows[places[start : start + len(part)]] = part
        start += len(part)
    return rows


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
        accelerator, extension = in_place_of_cpu(), self.trained.extension
        if accelerator is not None or extension is not None:
            if accelerator is not None:
                labels, arrays = accelerator.encode(self.trained, vectors)
            else:
                labels, arrays = self.trained.encode(vectors, self.threads)
            self._labels.append(labels)
            self._arrays.append(arrays if extension is None else {**arrays, extension.name: beside})
            return
        parts = pool.slices(len(vectors), -(-len(vectors) // _ROWS_A_TASK))
        for labels, arrays in pool.run(lambda part: self.trained.encode(vectors[part], 1), parts, self.threads):
            self._labels.append(labels)
            self._arrays.append(arrays)

    def take(self, ids: IdColumn, attributes: pa.Table | None) -> Segment:
        """Make a segment of all gathered rows, with the given ids and attributes."""
        labels = np.concatenate(self._labels) if self._labels else np.empty(0, np.int64)
        batches, self._labels, self._arrays = self._arrays, [], []
        positions = np.arange(len(labels), dtype=np.uint32)
        return make_segment(self.trained, labels, batches, ids, positions, attributes, self.threads)
