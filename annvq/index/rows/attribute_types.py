"""Types of attributes: which types hold which, and columns that are made of values or cast without loss."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.errors import DtypeError

if TYPE_CHECKING:
    import pyarrow as pa


# Values of Python


def array_of(values: Sequence[Any], name: str) -> pa.Array | pa.ChunkedArray:
    """Return Python values, of one type besides None, as an Arrow column.

    Whole numbers may stand among fractions, where a float64 holds them.

    Raises
    ------
    DtypeError
        A column has two types, or a value that Arrow does not take; the first such row is named.

    """
    import pyarrow as pa

    kind = _type_of_all(values, name)
    try:
        return pa.array(values, kind)
    except _REFUSED as error:
        row = _first_refused(len(values), lambda row: pa.array(values[row : row + 1], kind))
        raise DtypeError(
            f"attributes: column {name!r}, row {row}: {_shown(values[row])} is no {kind} ({error})"
        ) from error


_REFUSED = (TypeError, ValueError, OverflowError, NotImplementedError)  # also pyarrow's own


def _type_of_all(values: Sequence[Any], name: str) -> pa.DataType:
    import pyarrow as pa

    kinds = set(map(type, values)) - {type(None)}
    if kinds <= {int, float}:
        return pa.float64() if float in kinds else pa.int64() if kinds else pa.null()
    if len(kinds) == 1 and kinds <= {bool, str, bytes}:
        return type_of(next(value for value in values if value is not None))
    held = pa.null()
    for row, value in enumerate(values):
        if value is None:
            continue
        try:
            kind = type_of(value)
        except _REFUSED as error:
            raise DtypeError(f"attributes: column {name!r}, row {row}: {_shown(value)} ({error})") from error
        both = joined(held, kind, mixed=True)
        if both is None:
            raise DtypeError(f"attributes: column {name!r}, row {row}: {kind}, but rows before are {held}")
        held = both
    return held


def type_of(value: Any) -> pa.DataType:
    """Return the Arrow type of one value of Python's or NumPy's (pyarrow's errors; DtypeError inside of lists)."""
    import pyarrow as pa

    if value is None:
        return pa.null()
    if isinstance(value, bool | np.bool_):
        return pa.bool_()
    if isinstance(value, int | np.integer) and not isinstance(value, np.timedelta64):
        return pa.int64()
    if isinstance(value, float | np.floating):
        return pa.float64()
    if isinstance(value, str):
        return pa.string()
    if isinstance(value, bytes | bytearray):
        return pa.binary()
    if isinstance(value, dict):
        wrong = next((key for key in value if not isinstance(key, str)), None)
        if wrong is not None:
            raise TypeError(f"key {wrong!r}, expected str")
        return pa.struct([(key, type_of(item)) for key, item in value.items()])
    if isinstance(value, list | tuple | set | frozenset) or (isinstance(value, np.ndarray) and value.ndim == 1):
        return pa.list_(reduce(_joined_items, map(type_of, value), pa.null()))
    kind = pa.infer_type([value])
    if getattr(value, "nanosecond", 0) or getattr(value, "nanoseconds", 0):  # pandas': Arrow infers microseconds
        return pa.timestamp("ns", kind.tz) if pa.types.is_timestamp(kind) else pa.duration("ns")
    return kind


def _joined_items(held: pa.DataType, given: pa.DataType) -> pa.DataType:
    both = joined(held, given, mixed=True)
    if both is None:
        raise TypeError(f"a list of {held} and {given}")
    return both


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# Which type holds which


def plain_type(kind: pa.DataType, name: str = "") -> pa.DataType:
    """Return the type without dictionaries, runs and views (DtypeError: a type that attributes cannot have)."""
    import pyarrow as pa

    is_kind = pa.types
    if is_kind.is_dictionary(kind) or is_kind.is_run_end_encoded(kind):
        return plain_type(kind.value_type, name)
    views = {"string_view": pa.string(), "binary_view": pa.binary()}
    if str(kind) in views:
        return views[str(kind)]
    if is_kind.is_list(kind):
        return pa.list_(plain_type(kind.value_type, name))
    if is_kind.is_large_list(kind):
        return pa.large_list(plain_type(kind.value_type, name))
    if is_kind.is_fixed_size_list(kind):
        return pa.list_(plain_type(kind.value_type, name), kind.list_size)
    if is_kind.is_map(kind):
        return pa.map_(plain_type(kind.key_type, name), plain_type(kind.item_type, name))
    if is_kind.is_struct(kind):
        fields = [kind.field(i) for i in range(kind.num_fields)]
        if len({field.name for field in fields}) < len(fields):
            raise DtypeError(f"attributes: column {name!r} is {kind}: names of fields are not unique")
        return pa.struct([(field.name, plain_type(field.type, name)) for field in fields])
    if isinstance(kind, pa.BaseExtensionType) or is_kind.is_nested(kind):  # unions and views of lists
        raise DtypeError(f"attributes: column {name!r} is {kind}, which attributes cannot be: cast it to a plain type")
    return kind


def joined(held: pa.DataType, given: pa.DataType, *, keep: bool = False, mixed: bool = False) -> pa.DataType | None:
    """Return the type that holds the values of two plain types, or None if they conflict.

    Parameters
    ----------
    held, given
        Integers go with integers, also into floats; text with text, decimals with decimals, times with times of
        other units; lists and structs by what they hold. Null goes with everything.
    keep
        Whether the type held stays, where it may hold a value of the type given though not every one.
    mixed
        Whether floats go into integers, too: both become float64; and times take the finer of two units.

    """
    import pyarrow as pa

    if held == given or pa.types.is_null(given):
        return held
    if pa.types.is_null(held):
        return given
    for is_family, join in _families():
        if is_family(held) and is_family(given):
            return join(held, given, keep, mixed)
    return None


def _families() -> tuple[tuple[Callable[..., bool], Callable[..., Any]], ...]:
    from pyarrow import types

    return (
        (types.is_integer, _joined_integers),
        (lambda kind: types.is_integer(kind) or types.is_floating(kind), _joined_floats),
        (types.is_decimal, _joined_decimals),
        (lambda kind: types.is_string(kind) or types.is_large_string(kind), _larger),
        (lambda kind: types.is_binary(kind) or types.is_large_binary(kind), _larger),
        (types.is_date, _held),
        (types.is_time, _finer),
        (types.is_duration, _finer),
        (types.is_timestamp, _joined_timestamps),
        (types.is_struct, _joined_structs),
        (_is_list, _joined_lists),
    )


def _is_list(kind: pa.DataType) -> bool:
    from pyarrow import types

    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _held(held: pa.DataType, given: pa.DataType, keep: bool, mixed: bool) -> pa.DataType:
    return held


def _joined_integers(held: pa.DataType, given: pa.DataType, keep: bool, mixed: bool) -> pa.DataType | None:
    import pyarrow as pa

    if keep:
        return held
    both = (held, given)
    signed = [kind for kind in both if pa.types.is_signed_integer(kind)]
    if len(signed) != 1:  # of one kind
        return max(both, key=operator.attrgetter("bit_width"))
    unsigned = given if signed[0] is held else held
    bits = max(signed[0].bit_width, 2 * unsigned.bit_width)
    return None if bits > 64 else {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[bits]


def _joined_floats(held: pa.DataType, given: pa.DataType, keep: bool, mixed: bool) -> pa.DataType | None:
    import pyarrow as pa

    if pa.types.is_integer(held):
        return pa.float64() if mixed else None
    if pa.types.is_integer(given) or held.bit_width >= given.bit_width:
        return held
    return given if mixed else None


def _joined_decimals(held: pa.DataType, given: pa.DataType, keep: bool, mixed: bool) -> pa.DataType | None:
    import pyarrow as pa

    if keep:
        return held
    scale = max(held.scale, given.scale)
    precision = scale + max(held.precision - held.scale, given.precision - given.scale)
    if precision > 76:
        return None
    is_wide = precision > 38 or 256 in (held.bit_width, given.bit_width)
    return pa.decimal256(precision, scale) if is_wide else pa.decimal128(precision, scale)


def _larger(held: pa.DataType, given: pa.DataType, keep: bool, mixed: bool) -> pa.DataType:
    """Return the type of 64-bit offsets, of two that hold the same."""
    return held if keep or str(held).startswith("large_") else given


def _joined_timestamps(held: pa.DataType, given: pa.DataType, keep: bool, mixed: bool) -> pa.DataType | None:
    import pyarrow as pa

    if (held.tz is None) != (given.tz is None):
        return None
    return pa.timestamp(_finer(held, given, keep, mixed).unit, held.tz)


def _finer(held: pa.DataType, given: pa.DataType, keep: bool, mixed: bool) -> pa.DataType:
    units = ("s", "ms", "us", "ns")
    return given if mixed and not keep and units.index(given.unit) > units.index(held.unit) else held


def _joined_structs(held: pa.DataType, given: pa.DataType, keep: bool, mixed: bool) -> pa.DataType | None:
    import pyarrow as pa

    fields: dict[str, pa.DataType] = {field.name: field.type for field in held}
    for field in given:
        both = joined(fields.get(field.name, pa.null()), field.type, keep=keep, mixed=mixed)
        if both is None:
            return None
        fields[field.name] = both
    return pa.struct(list(fields.items()))


def _joined_lists(held: pa.DataType, given: pa.DataType, keep: bool, mixed: bool) -> pa.DataType | None:
    import pyarrow as pa

    is_large = pa.types.is_large_list
    values = joined(held.value_type, given.value_type, keep=keep, mixed=mixed)
    if values is None:
        return None
    sizes = {kind.list_size if pa.types.is_fixed_size_list(kind) else None for kind in (held, given)}
    if len(sizes) == 1 and None not in sizes:
        return pa.list_(values, sizes.pop())
    if is_large(held) or (is_large(given) and not keep):
        return pa.large_list(values)
    return pa.list_(values)


# Columns


def plain(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Return a column without dictionaries, runs and views (DtypeError: a type that attributes cannot have)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = plain_type(column.type, name)
    if pa.types.is_run_end_encoded(column.type):
        chunks = [pc.run_end_decode(chunk) for chunk in column.chunks]
        return plain(pa.chunked_array(chunks, column.type.value_type), name)
    try:
        return cast(column, kind)
    except _REFUSED as error:
        raise DtypeError(f"attributes: column {name!r} of {column.type} cannot be made {kind}: {error}") from error


def cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Return a column as a type that is joined with its own; pyarrow's errors where a value does not fit."""
    import pyarrow as pa

    if column.type == kind:
        return column
    try:
        return column.cast(kind)
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError):  # views and fields of structs, in older Arrows
        made = pa.array(column.to_pylist(), kind)
        return made if isinstance(made, pa.ChunkedArray) else pa.chunked_array([made])


def widened(column: pa.ChunkedArray, kind: pa.DataType, name: str) -> pa.ChunkedArray:
    """Return a stored column as the type that joins those of all segments (DtypeError)."""
    if column.type == kind:
        return column
    try:
        return cast(plain(column, name), kind)
    except _REFUSED as error:
        raise DtypeError(f"attributes: column {name!r} of {column.type} does not fit {kind}: {error}") from error


def fitted(column: pa.ChunkedArray, held: pa.DataType, name: str) -> pa.ChunkedArray:
    """Return a column of plain type as the type that the index holds, or as the least that holds both.

    Raises
    ------
    DtypeError
        The types conflict or a value does not fit; the first such row is named.

    """
    import pyarrow as pa

    if column.type == held:
        return column
    if column.null_count == len(column):
        return pa.chunked_array([pa.nulls(len(column))])
    stored, held = held, plain_type(held, name)
    if _is_narrower(held, column.type):
        return _narrowed(column, held, name)
    targets = [joined(held, column.type, keep=keep) for keep in (True, False)]
    for target in targets:
        try:
            if target is not None:
                return cast(column, target)
        except _REFUSED:
            continue
    widest = targets[-1] or targets[0]
    if widest is None:
        row = _first_of_other_type(column, held)
    else:
        row = _first_refused(len(column), lambda row: cast(column.slice(row, 1), widest))
    raise _conflict(column, row, stored, name)


def _is_narrower(held: pa.DataType, given: pa.DataType) -> bool:
    from pyarrow import types

    return types.is_floating(held) and types.is_floating(given) and held.bit_width < given.bit_width


def _narrowed(column: pa.ChunkedArray, held: pa.DataType, name: str) -> pa.ChunkedArray:
    """Return floats in fewer bits, which must hold them exactly."""
    import pyarrow.compute as pc

    narrow = column.cast(held, safe=False)
    exact = pc.fill_null(pc.or_(pc.equal(narrow.cast(column.type), column), pc.is_nan(column)), True)
    wrong = np.flatnonzero(~exact.to_numpy())
    if len(wrong):
        raise _conflict(column, int(wrong[0]), held, name)
    return narrow


def _conflict(column: pa.ChunkedArray, row: int, held: pa.DataType, name: str) -> DtypeError:
    try:
        value = _shown(column[row].as_py())
    except ValueError:  # nanoseconds
        value = "a value"
    return DtypeError(f"attributes: column {name!r}, row {row}: {value} of type {column.type}, the index holds {held}")


def _first_of_other_type(column: pa.ChunkedArray, held: pa.DataType) -> int:
    """Return the first row whose value by itself conflicts with the type held."""
    values = ((row, item) for row, item in enumerate(column) if item.is_valid)
    first, _ = next(values, (0, None))
    if not _is_list(column.type) and not str(column.type).startswith("struct"):
        return first
    rows = (row for row, item in enumerate(column) if item.is_valid and joined(held, type_of(item.as_py())) is None)
    return next(rows, first)


def _first_refused(count: int, make: Callable[[int], Any]) -> int:
    """Return the first row that cannot be converted, or 0 if rows are refused only together."""
    for row in range(count):
        try:
            make(row)
        except _REFUSED:
            return row
    return 0
