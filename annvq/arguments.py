"""Validation of the numbers, words, arrays of integers and paths that users pass."""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from annvq.errors import DataFormatError, DtypeError, ParameterError, ShapeError


def as_count(name: str, value: Any, *, least: int = 1, most: int | None = None) -> int:
    """Return a whole number from ``least`` to ``most``; messages call it ``name``."""
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_whole or value < least or (most is not None and value > most):
        accepted = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ParameterError(f"{name} must be a whole number {accepted}, not {_plain(value)!r}")
    return int(value)


def as_number(name: str, value: Any, *, above: float = -math.inf, most: float = math.inf) -> float:
    """Return a finite number above ``above`` and not above ``most``; messages call it ``name``."""
    try:
        number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:  # of an int
        number = math.inf
    if not (math.isfinite(number) and above < number <= most):
        kind = "a finite number" if most == math.inf else "a number"
        bounds = [f" above {above:g}"] * (above > -math.inf) + [f" not above {most:g}"] * (most < math.inf)
        raise ParameterError(f"{name} must be {kind}{' and'.join(bounds)}, not {_plain(value)!r}")
    return number


def as_weight(name: str, value: Any) -> float:
    """Return a finite number of at least 0; messages call it ``name``."""
    if isinstance(value, Real) and not isinstance(value, bool) and value == 0:
        return 0.0
    try:
        return as_number(name, value, above=0)
    except ParameterError:
        raise ParameterError(f"{name} must be a finite number of at least 0, not {_plain(value)!r}") from None


def as_choice(name: str, value: Any, accepted: Sequence[str]) -> str:
    """Return one of the accepted words; messages call it ``name``."""
    if not isinstance(value, str) or value not in accepted:
        raise ParameterError(f"{name} must be one of {', '.join(accepted)}, not {value!r}")
    return str(value)


def as_flag(name: str, value: Any) -> bool:
    """Return True or False; messages call it ``name``."""
    if not isinstance(value, bool | np.bool_):
        raise ParameterError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def as_function(name: str, value: Any) -> Any:
    """Return a callback, or None if there is none; messages call it ``name``."""
    if value is not None and not callable(value):
        raise ParameterError(f"{name} must be a function or None, not {_plain(value)!r}")
    return value


def as_threads(threads: Any) -> int | None:
    """Return a number of threads of at least 1, or None, which stands for all CPUs."""
    return None if threads is None else as_count("threads", threads)


def as_array(name: str, values: Any, expected: str) -> np.ndarray:
    """Return an array of any dtype.

    Raises
    ------
    ShapeError
        The list is ragged, or NumPy can make no array of the values.
    DtypeError
        A masked array masks something; NumPy would take the values under the mask.

    """
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise DtypeError(f"{name}: masked values, expected {expected}")
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ShapeError(
            f"{name}: no array can be made of this {type(values).__name__}, expected {expected}"
        ) from error


def as_integers(name: str, values: Any, expected: str = "integers") -> np.ndarray:
    """Return an array of integers of any size; DtypeError for anything else, ShapeError for ragged lists."""
    given = as_array(name, values, expected)
    if not given.size and isinstance(values, list | tuple):
        given = given.astype(np.int64)  # an empty list has no dtype
    if given.dtype.kind not in "iu":
        raise DtypeError(f"{name}: dtype {given.dtype}, expected {expected}")
    return given


def as_path(path: Any) -> Path:
    """Return a path that a local file can have, with ``~`` expanded; whatever looks like a URL is refused.

    Every path that a user gives passes through here; otherwise "s3://b/x" and "~/x" would become local folders of
    these names.
    """
    given = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(given, str):
        raise ParameterError(f"a path must be a str or an os.PathLike of str, not {path!r}")
    if not given:  # Path would take it for the current folder, which an unset variable of a shell does not mean
        raise ParameterError("a path must not be empty: the current folder is '.'")
    try:
        is_possible = b"\0" not in os.fsencode(given)
    except UnicodeEncodeError:
        is_possible = False
    if not is_possible:
        raise ParameterError(f"path {given!r}: expected valid Unicode without NUL")
    if _URL.match(given):
        raise ParameterError(
            f"path {given!r} looks like a URL: annvq reads and writes local files only; "
            "a local path that looks so must be absolute"
        )
    expanded = os.path.expanduser(given)  # if there is no such user, it stays as it is, as in a shell
    if expanded.split(os.sep)[0] == "~":
        raise ParameterError(f"path {given!r}: the home folder is not known")
    return Path(expanded)


_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # one slash, since Path drops the second; a drive has one letter


def as_file(path: Any) -> Path:
    """Return the path of a file to read; if it exists, it must be a regular file (DataFormatError).

    A named pipe would block, and only a regular file can be mapped or read twice.
    """
    given = as_path(path)
    try:
        mode = os.stat(given).st_mode
    except OSError:  # opening the file gives a better message
        return given
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
        raise DataFormatError(f"{given} is {kinds.get(stat.S_IFMT(mode), 'a device')}, expected a file")
    return given


def _plain(value: Any) -> Any:
    """Return a NumPy scalar as a Python number, so that messages say 5, not np.int64(5)."""
    return value.item() if isinstance(value, np.generic) else value
