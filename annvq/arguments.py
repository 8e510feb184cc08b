"""Numbers and paths that users give, checked at the door (ParameterError)."""

from __future__ import annotations

import math
import os
import re
import stat
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from annvq.errors import DataFormatError, ParameterError


def as_count(name: str, value: Any, *, least: int = 1, most: int | None = None) -> int:
    """Return a whole number from ``least`` to ``most``; ``name`` is what messages call it."""
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_whole or value < least or (most is not None and value > most):
        accepted = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ParameterError(f"{name} must be a whole number {accepted}, not {_plain(value)!r}")
    return int(value)


def as_number(name: str, value: Any, *, above: float = -math.inf, most: float = math.inf) -> float:
    """Return a finite number above ``above`` and not above ``most``; ``name`` is what messages call it."""
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
    """Return a finite number of at least 0; ``name`` is what messages call it."""
    if isinstance(value, Real) and not isinstance(value, bool) and value == 0:
        return 0.0
    try:
        return as_number(name, value, above=0)
    except ParameterError:
        raise ParameterError(f"{name} must be a finite number of at least 0, not {_plain(value)!r}") from None


def as_path(path: Any) -> Path:
    """Return a path that a local file can have, with ``~`` as the home folder; what looks like a URL is refused.

    Every path that a user gives goes through this door: else "s3://b/x" and "~/x" would become local folders of
    these names.
    """
    given = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(given, str):
        raise ParameterError(f"a path must be a str or an os.PathLike of str, not {path!r}")
    try:
        is_possible = b"\0" not in os.fsencode(given)
    except UnicodeEncodeError:
        is_possible = False
    if not is_possible:
        raise ParameterError(f"path {given!r}: expected valid Unicode without NUL")
    if _URL.match(given):
        raise ParameterError(
            f"path {given!r} looks like a URL: annvq reads and writes local files only; give what is local absolute"
        )
    expanded = os.path.expanduser(given)  # where there is no such user it stays as it is, as in a shell
    if expanded.split(os.sep)[0] == "~":
        raise ParameterError(f"path {given!r}: the home folder is not known")
    return Path(expanded)


_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # one slash, since Path drops the second; a drive has one letter


def as_file(path: Any) -> Path:
    """Return the path of a file to read, which must be a regular one where there is any (DataFormatError).

    A named pipe would be waited for, and nothing else can be mapped or read twice.
    """
    given = as_path(path)
    try:
        mode = os.stat(given).st_mode
    except OSError:  # opening says it better
        return given
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
        raise DataFormatError(f"{given} is {kinds.get(stat.S_IFMT(mode), 'a device')}, expected a file")
    return given


def _plain(value: Any) -> Any:
    """Return a NumPy scalar as Python's own: messages say 5, not np.int64(5)."""
    return value.item() if isinstance(value, np.generic) else value
