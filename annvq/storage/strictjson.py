"""JSON from untrusted files: it has one meaning or is refused, and memory is bounded."""

from __future__ import annotations

import json
import math
from typing import Any

_MOST_VALUES = 1 << 18  # a parsed value takes up to some 200 bytes
_MOST_LEVELS = 32
_MOST_DIGITS = 20


def parse(text: bytes) -> Any:
    """Parse ASCII JSON; anything that could be read in two ways or grow without bound raises ValueError.

    Duplicate keys, NaN, infinities (1e999 too), integers of more than 20 digits, more than 32 levels and more
    than 2**18 values are refused. The caller bounds the length.
    """
    if sum(text.count(mark) for mark in (b",", b":", b"[", b"{")) > _MOST_VALUES:
        raise ValueError(f"more than {_MOST_VALUES} values")
    try:
        value = json.loads(
            text.decode("ascii"),
            object_pairs_hook=_unique,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_finite,
        )
    except RecursionError:
        raise ValueError(f"more than {_MOST_LEVELS} levels") from None
    _check_levels(value)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _integer(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"an integer of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number that is not finite")
    return value


def _check_levels(value: Any) -> None:
    level = [value]
    for _ in range(_MOST_LEVELS):
        inner = (item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list))
        level = [item for items in inner for item in items]
        if not level:
            return
    raise ValueError(f"more than {_MOST_LEVELS} levels")
