"""What goes into a codebook: vectors at the door, arrays and numbers that were stored."""

from __future__ import annotations

from typing import Any

import numpy as np

from annvq.errors import CorruptIndexError, DtypeError, NonFiniteError, ParameterError, ShapeError
from annvq.kernels.finite import first_non_finite
from annvq.kernels.tiles import readonly


def as_rows(vectors: Any, dim: int | None = None) -> np.ndarray:
    """Return vectors as a C-contiguous float32 array (n, d).

    Raises
    ------
    ShapeError
        Not two axes, no dimension, or another dimension than ``dim``.
    DtypeError
        Neither real numbers of floating point nor integers.

    """
    rows = np.asarray(vectors)
    if rows.dtype.kind not in "fiu":
        raise DtypeError(f"vectors must be float or integer numbers, not {rows.dtype}")
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ShapeError(f"vectors must have shape (n, d) with d >= 1, not {rows.shape}")
    if dim is not None and rows.shape[1] != dim:
        raise ShapeError(f"vectors have dimension {rows.shape[1]}, the codebook {dim}")
    return np.ascontiguousarray(rows, np.float32)


def training_rows(vectors: Any, most: int, rng: np.random.Generator, least: int = 1) -> np.ndarray:
    """Return the rows that are trained on.

    Parameters
    ----------
    vectors
        (n, d), any real dtype.
    most
        With more vectors than this, so many are drawn without replacement and kept in their order.
    rng
        Draws them.
    least
        How many are needed.

    Returns
    -------
    rows
        (min(n, most), d) float32.

    Raises
    ------
    ParameterError
        Fewer vectors, or a smaller sample, than ``least``.
    NonFiniteError
        NaN or infinity among the rows.

    """
    return check_finite(as_rows(np.asarray(vectors)[training_places(len(vectors), most, rng, least)]))


def training_places(n: int, most: int, rng: np.random.Generator, least: int = 1) -> Any:
    """Return which of n rows `training_rows` takes, as an index."""
    if n < least:
        raise ParameterError(f"training needs at least {least} vectors, {n} were given")
    if most < least:
        raise ParameterError(f"training needs at least {least} vectors, the sample is to have {most}")
    if n <= most:
        return slice(None)
    return np.sort(rng.choice(n, most, replace=False))


def check_finite(rows: np.ndarray) -> np.ndarray:
    """Return the rows (n, d) float32; NonFiniteError where there is NaN or infinity."""
    row = first_non_finite(readonly(rows))
    if row >= 0:
        raise NonFiniteError(f"training vector {row} holds NaN or infinity")
    return rows


def frozen(array: np.ndarray, dtype: Any = np.float32) -> np.ndarray:
    """Return the array, C-contiguous and read-only."""
    return readonly(np.ascontiguousarray(array, dtype))


def stored_array(arrays: dict[str, np.ndarray], name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """Return a float32 array that was stored; None in ``shape`` stands for any length of at least 1.

    Raises
    ------
    CorruptIndexError
        It is missing, has another dtype or shape, or holds NaN or infinity.

    """
    if name not in arrays:
        raise CorruptIndexError(f"a codebook without its array {name!r}")
    array = arrays[name]
    fits = array.ndim == len(shape) and all(
        have == want or (want is None and have > 0) for have, want in zip(array.shape, shape)
    )
    if array.dtype != np.float32 or not fits:
        wanted = "(" + ", ".join("any" if want is None else str(want) for want in shape) + ")"
        raise CorruptIndexError(f"codebook array {name!r} is {array.dtype} {array.shape}, expected float32 {wanted}")
    if not np.isfinite(array).all():
        raise CorruptIndexError(f"codebook array {name!r} holds NaN or infinity")
    return frozen(array)


def stored_int(config: dict[str, Any], name: str, least: int, most: int) -> int:
    """Return a whole number of a stored configuration; CorruptIndexError outside its range."""
    value = config.get(name)
    if type(value) is not int or not least <= value <= most:
        raise CorruptIndexError(f"codebook setting {name!r} is {value!r}, expected {least} to {most}")
    return value
