"""Single values of a recipe: which are accepted, and how they are written in TOML."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterable

from annvq.errors import RecipeError


def check_count(name: str, value: object, *, also: str = "") -> None:
    """Raise RecipeError unless ``value`` is an int of at least 1 (a bool is not an int here)."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        accepted = "a whole number of at least 1" + (f" or {also}" if also else "")
        raise RecipeError(f"{name} = {value!r}: expected {accepted}")


def check_share(name: str, value: object, *, open_interval: bool) -> None:
    """Raise RecipeError unless ``value`` is a number from 0 to 1, without the ends if ``open_interval``."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if 0 < value < 1 or (not open_interval and value in (0, 1)):
            return
    accepted = "0 < value < 1" if open_interval else "0 to 1"
    raise RecipeError(f"{name} = {value!r}: expected a number, {accepted}")


def check_one_of(name: str, value: object, accepted: Collection[object]) -> None:
    """Raise RecipeError, naming the nearest accepted text, unless ``value`` is one of ``accepted``."""
    # True == 1, but a bool does not pass for a number
    if isinstance(value, bool) or not isinstance(value, str | int) or value not in accepted:
        choices = ", ".join(repr(choice) for choice in accepted)
        raise RecipeError(f"{name} = {value!r}: expected one of {choices}{did_you_mean(value, accepted)}")


def check_keys(known: Collection[str], given: Iterable[object], where: str) -> None:
    """Raise RecipeError, naming the nearest known key, for the first of ``given`` that is not known."""
    for key in given:
        if key not in known:
            hint = did_you_mean(key, known)
            raise RecipeError(f"{where}: unknown key {key!r}{hint}; known: {', '.join(known)}")


def did_you_mean(given: object, accepted: Collection[object]) -> str:
    """Return "; did you mean ...?" with the nearest of ``accepted``, or nothing if none is near."""
    names = {name.lower(): name for name in accepted if isinstance(name, str)}
    near = difflib.get_close_matches(str(given).lower(), names, n=1)
    return f"; did you mean {names[near[0]]!r}?" if near else ""


def toml_value(value: str | bool | int | float) -> str:
    """Return a plain value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are valid in TOML, except for DEL, which TOML requires escaped, and lone surrogates
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)


def settled(value: int | str | None) -> int:
    """Return a value of a resolved recipe as the number that it is, and not "auto", "d/2", a share or None."""
    assert isinstance(value, int), f"{value!r} in a recipe that should be resolved"
    return value
