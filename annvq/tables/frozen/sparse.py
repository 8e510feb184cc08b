"""Rows of which only a few values are left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from annvq.arrays import offsets_of
from annvq.errors import CorruptIndexError
from annvq.kernels.embeddings.embedding import sparse_rows
from annvq.kernels.registers.tiles import readonly
from annvq.tables.frozen.form import Form, below, contiguous, setting, stored
from annvq.tables.frozen.partition import Partition

BLOCK = 128  # rows with values between two starts
_FLOAT, _START = 4, 8


def dtypes(d: int) -> tuple[type, type]:
    """Return the dtypes of columns and of lengths."""
    return (np.uint8 if d <= 256 else np.uint16), (np.uint8 if d <= 255 else np.uint32)


def sparse_bytes(n: int, d: int, rows: Any, values: Any) -> Any:
    """Return the bytes of a table of n rows of which ``rows`` have ``values`` values in all (numbers or arrays)."""
    columns, lengths = (np.dtype(dtype).itemsize for dtype in dtypes(d))
    return Partition.nbytes(n, 2) + values * (_FLOAT + columns) + rows * lengths + _START * -(-rows // BLOCK)


@dataclass(frozen=True, eq=False)
class Sparse(Form):
    """Values and their columns, row after row; rows without any are not among them.

    Parameters
    ----------
    partition
        Group 0: rows that have values.
    lengths
        (rows,) uint8, for d > 255 uint32: values of each of these rows.
    starts
        (ceil(rows / 128),) int64: where the values of every 128th of them begin.
    columns
        (values,) uint8, for d > 256 uint16.
    values
        (values,) float32.

    """

    partition: Partition
    lengths: np.ndarray
    starts: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    kind: ClassVar[str] = "sparse"

    @classmethod
    def of(cls, weight: np.ndarray, mask: np.ndarray) -> Sparse:
        """Build from a table (n, d) float32 and which of its values are left, (n, d) bool."""
        n, d = weight.shape
        column_type, length_type = dtypes(d)
        lengths = mask.sum(axis=1)
        rows = np.flatnonzero(lengths)
        places = np.nonzero(mask)[1].astype(column_type)
        left = lengths[rows].astype(length_type)
        partition = Partition.of((lengths == 0).astype(np.int64), 2)
        parts = (left, _starts(left), places, weight[mask].astype(np.float32))
        return cls(n, d, partition, *(contiguous(part) for part in parts))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        parts = {name: getattr(self, name) for name in ("lengths", "starts", "columns", "values")}
        return {**self.partition.arrays(), **{name: array for name, array in parts.items() if array.size}}

    def settings(self) -> dict[str, Any]:
        """Return what is not an array."""
        return {"rows": len(self.lengths)}

    @classmethod
    def from_arrays(cls, n: int, d: int, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> Sparse:
        """Build from stored parts; CorruptIndexError if they do not fit."""
        partition = Partition.from_arrays(n, 2, arrays)
        rows = setting(settings, "rows", 0, n)
        column_type, length_type = dtypes(d)
        groups, _ = partition.find(contiguous(np.arange(n)))
        if int((groups == 0).sum()) != rows:
            raise CorruptIndexError(f"{rows} rows with values do not fit the partition")
        if not rows:
            none = (np.empty(0, dtype) for dtype in (length_type, np.int64, column_type, np.float32))
            return cls(n, d, partition, *map(contiguous, none))
        lengths = stored(arrays, "lengths", length_type, (rows,))
        count = int(lengths.sum(dtype=np.int64))
        starts = stored(arrays, "starts", np.int64, (-(-rows // BLOCK),))
        if not np.array_equal(starts, _starts(lengths)):
            raise CorruptIndexError("lengths of rows and their starts do not fit each other")
        columns = below("columns", stored(arrays, "columns", column_type, (count,)), d)
        return cls(n, d, partition, lengths, starts, columns, stored(arrays, "values", np.float32, (count,)))

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Return rows (m, d) float32."""
        groups, places = self.partition.find(ids)
        found = np.zeros((len(ids), self.d), np.float32)
        places[groups == 1] = -1
        sparse_rows(self.values, self.columns, self.lengths, self.starts, BLOCK, readonly(places), found)
        return found


def _starts(lengths: np.ndarray) -> np.ndarray:
    ends = offsets_of(lengths)
    return ends[: len(lengths) : BLOCK].astype(np.int64)
