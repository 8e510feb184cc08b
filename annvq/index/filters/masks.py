"""Filters by mask: a boolean for every row, in the order of insertion."""

from __future__ import annotations

from typing import Any

import numpy as np

from annvq.errors import FilterError
from annvq.index.rows.snapshot import Snapshot


def as_mask(given: Any) -> np.ndarray | None:
    """Return booleans as an array (n,), or None if ``given`` is something else."""
    package = type(given).__module__.partition(".")[0]
    if package == "pyarrow":
        import pyarrow as pa

        if not isinstance(given, pa.Array | pa.ChunkedArray) or not pa.types.is_boolean(given.type):
            return None
        return given.fill_null(False).to_numpy(zero_copy_only=False)
    if package == "pandas" and str(getattr(given, "dtype", "")) in _NULLABLE:
        return given.to_numpy(dtype=bool, na_value=False)
    if package == "polars" and str(getattr(given, "dtype", "")) == "Boolean":
        return given.fill_null(False).to_numpy()
    if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
        raise FilterError("filter: an array with masked values, expected a value in every place")
    array = given if isinstance(given, list | tuple) or not hasattr(given, "__array__") else np.asarray(given)
    if isinstance(array, np.ndarray) and array.dtype == np.object_ and array.ndim == 1:
        array = array.tolist()  # pandas and Arrow make such of booleans
    if isinstance(array, list | tuple):
        if not array or not all(isinstance(item, bool | np.bool_) for item in array):
            return None
        return np.array(array, dtype=bool)
    if not isinstance(array, np.ndarray) or array.dtype != np.bool_:
        return None
    if array.ndim != 1:
        raise FilterError(f"mask of shape {array.shape}, expected (n,)")
    return array


_NULLABLE = ("boolean", "bool[pyarrow]")  # dtypes of pandas that have missing values


def narrowed_by_mask(mask: np.ndarray, snapshot: Snapshot) -> Snapshot:
    """Return the snapshot with the rows for which the mask (live rows,) is true (FilterError: another length)."""
    if len(mask) != snapshot.live_count:
        raise FilterError(f"mask of length {len(mask)}, but the index holds {snapshot.live_count} vectors")
    start, segments = 0, []
    for segment in snapshot.segments:
        segments.append(segment.narrowed_by_mask(mask[start : start + segment.live_count]))
        start += segment.live_count
    return snapshot.narrowed(segments)
