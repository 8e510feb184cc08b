"""Ids of rows, bags and weights at the door of a frozen table."""

from __future__ import annotations

from typing import Any

import numpy as np

from annvq.errors import DtypeError, ParameterError, ShapeError
from annvq.kernels.registers.tiles import readonly

NO_WEIGHTS = readonly(np.empty(0, np.float32))


def row_ids(ids: Any, n: int) -> np.ndarray:
    """Return ids of any shape as int64, C-contiguous.

    Raises
    ------
    ShapeError, DtypeError, ParameterError
        Lists of unequal length; not whole numbers; an id outside 0 .. n - 1.

    """
    try:
        given = np.asarray(ids)
    except ValueError as error:  # lists of unequal length
        raise ShapeError(f"ids that are no array: {error}") from None
    if given.size == 0 and given.dtype.kind == "f":  # an empty list
        given = given.astype(np.int64)
    if given.dtype.kind not in "iu":
        raise DtypeError(f"ids of dtype {given.dtype}, expected whole numbers")
    if given.size:
        low, high = int(given.min()), int(given.max())
        if low < 0 or high >= n:
            raise ParameterError(f"id {low if low < 0 else high} of a table of {n} rows, expected 0 to {n - 1}")
    return np.asarray(given, np.int64, order="C")


def as_bags(ids: np.ndarray, offsets: Any, include_last_offset: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return ids (m,) and where bags begin and end, (b + 1,) int64, of what nn.EmbeddingBag takes.

    Raises
    ------
    ShapeError, DtypeError, ParameterError
        Ids do not have one axis with offsets or two without; offsets are invalid.

    """
    if ids.ndim == 2:
        if offsets is not None:
            raise ShapeError("ids of two axes are bags already: expected no offsets")
        return ids.ravel(), np.arange(len(ids) + 1, dtype=np.int64) * ids.shape[1]
    if ids.ndim != 1:
        raise ShapeError(f"ids of shape {ids.shape}, expected (m,) with offsets, or (bags, length)")
    if offsets is None:
        raise ShapeError("ids of one axis need offsets: where each bag begins")
    starts = np.asarray(offsets)
    if starts.ndim != 1 or (include_last_offset and not starts.size):
        raise ShapeError(f"offsets of shape {starts.shape}, expected (bags{' + 1' if include_last_offset else ''},)")
    if starts.size and starts.dtype.kind not in "iu":
        raise DtypeError(f"offsets of dtype {starts.dtype}, expected whole numbers")
    bounds = starts.astype(np.int64)
    if not include_last_offset:
        bounds = np.append(bounds, len(ids))
    if bounds[0] != 0 and len(bounds) > 1:
        raise ParameterError(f"offsets begin with {bounds[0]}, expected 0")
    if (np.diff(bounds) < 0).any() or bounds[-1] > len(ids):
        raise ParameterError(f"offsets must not fall and not exceed the number of ids, {len(ids)}")
    return ids, np.ascontiguousarray(bounds)


def as_weights(weights: Any, ids: np.ndarray, mode: str) -> np.ndarray:
    """Return weights (m,) float32 of ids (m,) or (bags, length), or none."""
    if weights is None:
        return NO_WEIGHTS
    if mode != "sum":
        raise ParameterError(f"weights go with mode 'sum', not {mode!r}")
    given = np.asarray(weights)
    if given.dtype.kind != "f":
        raise DtypeError(f"weights of dtype {given.dtype}, expected floating point")
    if given.shape != ids.shape:
        raise ShapeError(f"weights of shape {given.shape} for ids of shape {ids.shape}")
    return readonly(np.ascontiguousarray(given.ravel(), np.float32))
