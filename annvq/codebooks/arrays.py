"""Validation of what goes into a codebook: vectors, codes and numbers that users pass, and what was stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from annvq.arguments import as_count, as_integers, as_threads
from annvq.errors import CorruptIndexError, DtypeError, NonFiniteError, ParameterError, ShapeError
from annvq.kernels import threads as pool
from annvq.kernels.registers.tiles import readonly
from annvq.kernels.vectors.finite import first_non_finite
from annvq.vectors import as_matrix, check_lengths

# Twice what an index takes: residuals, and their products with each other, are float32.
LONGEST = 2.0**63
TRAINED_ON = "training vectors"  # in messages
_MOST_ITERATIONS = 100_000


def as_rows(vectors: Any, dim: int | None = None, name: str = "vectors") -> np.ndarray:
    """Return vectors as a finite, C-contiguous float32 array (n, d), which must not be written to.

    Parameters
    ----------
    vectors
        What `annvq.vectors.as_matrix` takes, or an array of integers or floats of any size.
    dim
        The dimension that the vectors must have; by default any.
    name
        What messages call them.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError
        As in `annvq.vectors.as_matrix`.

    """
    return as_matrix(_narrowed(vectors), dim=dim, name=name)


def as_short_rows(vectors: Any, dim: int | None = None, name: str = "vectors") -> np.ndarray:
    """Do what `as_rows` does, for vectors that are compared by distances.

    Raises
    ------
    NonFiniteError
        As in `as_rows`, or a row is so long that products of residuals overflow float32.

    """
    rows = as_rows(vectors, dim, name)
    check_lengths(rows, name, longest=LONGEST)
    return rows


def training_rows(vectors: Any, most: int | None, rng: np.random.Generator, least: int = 1) -> np.ndarray:
    """Return the rows to train on.

    Parameters
    ----------
    vectors
        (n, d), any real dtype.
    most
        If there are more vectors, this many are drawn without replacement and kept in order. None takes all of them.
    rng
        The generator that draws them.
    least
        How many vectors are needed.

    Returns
    -------
    rows
        (min(n, most), d) float32.

    Raises
    ------
    ParameterError
        There are fewer vectors, or the sample is smaller, than ``least``.
    ShapeError, DtypeError, NonFiniteError
        As in `as_rows`.

    """
    raw = raw_rows(vectors)
    return as_rows(raw[training_places(len(raw), most, rng, least)], name=TRAINED_ON)


def raw_rows(vectors: Any, name: str = "vectors") -> np.ndarray:
    """Return vectors (n, d) of any real dtype as an array; an array is not copied, so samples are drawn from files."""
    if not isinstance(vectors, np.ndarray) or isinstance(vectors, np.ma.MaskedArray):
        return as_matrix(vectors, name=name)
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise ShapeError(f"{name}: shape {vectors.shape}, expected (n, d) with d of at least 1")
    return np.asarray(vectors)


def training_places(n: int, most: int | None, rng: np.random.Generator, least: int = 1) -> Any:
    """Return which of n rows `training_rows` takes, as an index."""
    if n < least:
        raise ParameterError(f"training needs at least {least} vectors, {n} were given")
    if most is not None and as_count("sample", most) < least:
        raise ParameterError(f"training needs at least {least} vectors, the sample is to have {most}")
    if most is None or n <= most:
        return slice(None)
    return np.sort(rng.choice(n, most, replace=False))


def as_codes(codes: Any, columns: int, below: int) -> np.ndarray:
    """Return codes as a C-contiguous uint8 array (n, columns).

    Parameters
    ----------
    codes
        (n, columns) of any integers.
    columns
        The number of codes per vector.
    below
        Every code must be less than this, at most 256.

    Raises
    ------
    ShapeError, DtypeError, ParameterError
        The codes have another shape, are not integers, or are out of range; the first such code is named.

    """
    given = as_integers("codes", codes)
    if given.ndim != 2 or given.shape[1] != columns:
        raise ShapeError(f"codes have shape {given.shape}, expected (n, {columns})")
    if below < 256 or given.dtype != np.uint8:
        wrong = np.flatnonzero(((given < 0) | (given >= below)).any(axis=1))
        if len(wrong):
            raise ParameterError(f"codes: row {wrong[0]} is {given[wrong[0]].tolist()}, expected 0 to {below - 1}")
    return readonly(np.ascontiguousarray(given, np.uint8))


def finite(results: np.ndarray, name: str) -> np.ndarray:
    """Return what was computed, float32; NonFiniteError if finite numbers overflowed."""
    if results.size and first_non_finite(readonly(results.reshape(len(results), -1))) >= 0:
        raise NonFiniteError(f"{name} overflow float32: the codebook, or what was given, holds too large numbers")
    return results


def workers(threads: int | None) -> int:
    """Return the number of threads that work; None stands for all CPUs."""
    return pool.resolve(as_threads(threads))


def as_niter(niter: Any) -> int:
    """Return the number of iterations, at most 100,000: kernels count them, and far more would never end."""
    return as_count("niter", niter, least=0, most=_MOST_ITERATIONS)


def generator(seed: int) -> np.random.Generator:
    """Return the random generator of a seed, which is a whole number of at least 0."""
    return np.random.default_rng(as_count("seed", seed, least=0))


def frozen(array: np.ndarray, dtype: Any = np.float32) -> np.ndarray:
    """Return the array, C-contiguous and read-only."""
    return readonly(np.ascontiguousarray(array, dtype))


def part(name: str, array: Any, axes: int) -> np.ndarray:
    """Return an array that a codebook is made of, finite float32, C-contiguous and read-only.

    Raises
    ------
    DtypeError, ShapeError, NonFiniteError
        The array is not of floats or integers; it has another number of axes, or an empty one; or it holds NaN,
        infinity, or a number too large for float32.

    """
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise DtypeError(f"{name}: {kind}, expected a NumPy array of float32")
    if array.ndim != axes or not array.size:
        raise ShapeError(f"{name} has shape {array.shape}, expected {axes} axes of at least 1")
    with np.errstate(over="ignore"):
        made = frozen(array)
    if not np.isfinite(made).all():
        raise NonFiniteError(f"{name} holds NaN, infinity or what is too large for float32")
    return made


def stored_array(arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """Return a float32 array that was stored; None in ``shape`` stands for any length of at least 1.

    Raises
    ------
    CorruptIndexError
        It is missing, has another dtype or shape, or holds NaN or infinity.

    """
    array = _stored(arrays, name)
    fits = array.ndim == len(shape) and all(
        have == want or (want is None and have > 0) for have, want in zip(array.shape, shape)
    )
    if array.dtype != np.float32 or not fits:
        wanted = "(" + ", ".join("any" if want is None else str(want) for want in shape) + ")"
        raise CorruptIndexError(f"codebook array {name!r} is {array.dtype} {array.shape}, expected float32 {wanted}")
    if not np.isfinite(array).all():
        raise CorruptIndexError(f"codebook array {name!r} holds NaN or infinity")
    return frozen(array)


def stored_bytes(arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return a uint8 array that was stored; CorruptIndexError as for `stored_array`."""
    array = _stored(arrays, name)
    if array.dtype != np.uint8 or array.shape != shape:
        raise CorruptIndexError(f"codebook array {name!r} is {array.dtype} {array.shape}, expected uint8 {shape}")
    return frozen(array, np.uint8)


def stored_setting(config: Mapping[str, Any], name: str) -> Any:
    """Return a stored setting, or None if it is missing; CorruptIndexError if there are no settings."""
    if not isinstance(config, Mapping):
        raise CorruptIndexError(f"settings of a codebook are a {type(config).__name__}, expected names and values")
    return config.get(name)


def stored_int(config: Mapping[str, Any], name: str, least: int, most: int) -> int:
    """Return a whole number of a stored configuration; CorruptIndexError if it is outside its range."""
    value = stored_setting(config, name)
    if type(value) is not int or not least <= value <= most:
        raise CorruptIndexError(f"codebook setting {name!r} is {value!r}, expected {least} to {most}")
    return value


def _stored(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if not isinstance(arrays, Mapping) or name not in arrays:
        raise CorruptIndexError(f"a codebook without its array {name!r}")
    if not isinstance(arrays[name], np.ndarray):
        raise CorruptIndexError(f"codebook array {name!r} is a {type(arrays[name]).__name__}")
    return arrays[name]


def _narrowed(vectors: Any) -> Any:
    """Return arrays of integers too wide for `as_matrix` as float64, and everything else unchanged."""
    if not isinstance(vectors, np.ndarray) or isinstance(vectors, np.ma.MaskedArray):
        return vectors
    is_wide = vectors.dtype.kind in "iu" and vectors.dtype.itemsize > 1
    return vectors.astype(np.float64) if is_wide else vectors
