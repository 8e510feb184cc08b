"""Values that filters compare with, and which of them fit a column: numbers go with numbers, text with text.

Nothing is cast: integers and floats are compared exactly, and times are counted in nanoseconds.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.errors import FilterError

if TYPE_CHECKING:
    import pyarrow as pa

_DAY = 86_400 * 10**9  # nanoseconds
_EPOCH = datetime.datetime(1970, 1, 1)
_MOST_DIGITS = 5000  # of a Decimal: 1e999999999 would fill the memory
_MICROSECOND = datetime.timedelta(microseconds=1)


def shown(value: Any) -> str:
    """Return a value as messages print it, however long it is."""
    if isinstance(value, str | bytes) and len(value) > 60:
        value = value[:60]
        return f"{value!r}..."
    if isinstance(value, int) and value.bit_length() > 256:
        return "an integer of more than 256 bits"
    if isinstance(value, str | bytes | int | float | Decimal | datetime.date | datetime.time | None):
        return repr(value)
    return type(value).__name__


def plain_value(value: Any) -> Any:
    """Return NumPy's and Arrow's scalars as values of Python, None for pandas' missing ones, all else as it is."""
    if isinstance(value, np.generic) and not isinstance(value, np.datetime64 | np.timedelta64):
        return value.item()
    to_python = getattr(value, "as_py", None)  # Arrow's
    if to_python is not None:
        return to_python()
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    return value


# Kinds of columns


def kind_of(column: pa.DataType) -> str:
    """Return what a column's values are compared with, such as "number", "text", "list" or "struct"."""
    from pyarrow import types

    kinds: tuple[tuple[str, Callable[[pa.DataType], bool]], ...] = (
        ("null", types.is_null),
        ("bool", types.is_boolean),
        ("number", lambda kind: types.is_integer(kind) or types.is_floating(kind)),
        ("text", lambda kind: types.is_string(kind) or types.is_large_string(kind)),
        ("bytes", lambda kind: "binary" in str(kind)),
        ("decimal", types.is_decimal),
        ("date", types.is_date),
        ("timestamp", types.is_timestamp),
        ("time", types.is_time),
        ("duration", types.is_duration),
        ("list", lambda kind: types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)),
        ("struct", types.is_struct),
    )  # fmt: skip
    return next((name for name, is_kind in kinds if is_kind(column)), "other")


def fitting(values: Sequence[Any], column: pa.DataType) -> list[Any]:
    """Return values as the index of a column of this type compares them.

    Numbers stay what they are; dates become days since 1970, times, timestamps and durations nanoseconds.

    Raises
    ------
    FilterError
        A value is of another kind; the message says what is accepted.

    """
    kind = kind_of(column)
    if kind == "null":
        return []
    accept, expected = _ACCEPTED.get(kind, (_nothing, "$exists, or a field of it"))
    if kind == "timestamp" and column.tz is not None:
        accept, expected = _aware_timestamp, f"a datetime with a time zone, or such a text: {_WITH_ZONE}"
    found = []
    for value in values:
        try:
            made = accept(value)
        except (ValueError, OverflowError, InvalidOperation):
            made = None
        if made is None:
            given = f"{shown(value)} of type {type(value).__name__}"
            raise FilterError(f"{given}, but the column is {column}: expected {expected}")
        found.append(made)
    return found


def kind_in_json(value: Any) -> str:
    """Return the kind of a value that is compared with what JSON holds (FilterError: JSON holds no such values)."""
    if isinstance(value, bool):
        return "bool"
    if _number(value) is not None:
        return "number"
    if isinstance(value, str):
        return "text"
    raise FilterError(
        f"{shown(value)} of type {type(value).__name__}, but the column is JSON: expected a number, a text or a boolean"
    )


_WITH_ZONE = "'2024-01-31T12:00:00+00:00'"


def _nothing(value: Any) -> None:
    return None


def _boolean(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _number(value: Any) -> Any:
    if isinstance(value, Decimal):
        if not value.is_finite():
            return None if value.is_snan() else float(value)
        return value if abs(value.adjusted()) < _MOST_DIGITS else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    value.encode()  # UnicodeEncodeError is a ValueError
    return value


def _bytes(value: Any) -> bytes | None:
    return bytes(value) if isinstance(value, bytes | bytearray) else None


def _decimal(value: Any) -> Any:
    if isinstance(value, str):
        return _number(Decimal(value))
    if isinstance(value, float):  # 9.99 is not what it seems
        return value if value != value or value in (np.inf, -np.inf) or Decimal(value) == Decimal(repr(value)) else None
    return _number(value)


def _date(value: Any) -> int | None:
    if isinstance(value, str):
        value = datetime.date.fromisoformat(value)
    if isinstance(value, np.datetime64):
        days = value.astype("datetime64[D]")
        return int(days.astype(np.int64)) if days == value else None
    if not isinstance(value, datetime.date) or isinstance(value, datetime.datetime):
        return None
    return value.toordinal() - _EPOCH.toordinal()


def _timestamp(value: Any) -> int | None:
    """Return the nanoseconds of a date's midnight, or of a date and time without a zone."""
    value = _datetime(value)
    if isinstance(value, np.datetime64):
        return _nanoseconds_of(value)
    if isinstance(value, datetime.datetime):
        return None if value.tzinfo is not None else _since_epoch(value, _EPOCH)
    days = _date(value)
    return None if days is None else days * _DAY


def _aware_timestamp(value: Any) -> int | None:
    value = _datetime(value)
    if not isinstance(value, datetime.datetime) or value.tzinfo is None:
        return None
    return _since_epoch(value, _EPOCH.replace(tzinfo=datetime.timezone.utc))


def _datetime(value: Any) -> Any:
    """Return an ISO text as a datetime; Python 3.10 does not know Z."""
    if not isinstance(value, str):
        return value
    return datetime.datetime.fromisoformat(f"{value[:-1]}+00:00" if value.endswith("Z") else value)


def _since_epoch(value: datetime.datetime, epoch: datetime.datetime) -> int:
    more = getattr(value, "nanosecond", 0)  # pandas'
    if hasattr(value, "to_pydatetime"):
        value = value.to_pydatetime(warn=False)  # type: ignore[attr-defined]
    return (value - epoch) // _MICROSECOND * 1000 + more


def _time(value: Any) -> int | None:
    if isinstance(value, str):
        value = datetime.time.fromisoformat(value)
    if not isinstance(value, datetime.time) or value.tzinfo is not None:
        return None
    seconds = (value.hour * 60 + value.minute) * 60 + value.second
    return (seconds * 10**6 + value.microsecond) * 1000


def _duration(value: Any) -> int | None:
    if isinstance(value, np.timedelta64):
        return _nanoseconds_of(value)
    if not isinstance(value, datetime.timedelta):
        return None
    more = getattr(value, "nanoseconds", 0)  # pandas'
    if hasattr(value, "to_pytimedelta"):
        value = value.to_pytimedelta()  # type: ignore[attr-defined]
    return value // _MICROSECOND * 1000 + more


_UNITS = {"W": 7 * _DAY, "D": _DAY, "h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}


def _nanoseconds_of(value: np.datetime64 | np.timedelta64) -> int | None:
    unit, step = np.datetime_data(value.dtype)
    if np.isnat(value) or unit not in _UNITS:
        return None
    return int(value.astype(np.int64)) * step * _UNITS[unit]


_ACCEPTED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "bool": (_boolean, "True or False"),
    "number": (_number, "a number"),
    "text": (_text, "a text in Unicode"),
    "bytes": (_bytes, "bytes"),
    "decimal": (_decimal, "a Decimal, an integer or a text such as '9.99'"),
    "date": (_date, "a date, or a text such as '2024-01-31'"),
    "timestamp": (_timestamp, "a date or datetime without a time zone, or a text such as '2024-01-31T12:00:00'"),
    "time": (_time, "a time, or a text such as '12:30:00'"),
    "duration": (_duration, "a timedelta"),
    "list": (_nothing, "$contains, $contains_any, $contains_all or $exists"),
}
