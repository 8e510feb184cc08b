"""What users give as ids: integers or strings in lists, NumPy arrays, Arrow columns and the like."""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.errors import DtypeError, ShapeError

if TYPE_CHECKING:
    import pyarrow as pa

_LARGEST = np.iinfo(np.int64).max
_KINDS = "integers of at most 64 bits, or of str"
_EXPECTED = f"expected {_KINDS}"


def parse_ids(ids: Any, name: str = "ids") -> np.ndarray | pa.LargeStringArray:
    """Return ids as an array (n,) int64, or as an Arrow array of strings.

    Parameters
    ----------
    ids
        List, tuple, set, dict keys or range of int or of str, NumPy array of any integer or string dtype or of
        such objects, Arrow array or column, or an object with ``__array__``.
    name
        What the ids are called in messages.

    Raises
    ------
    DtypeError
        Booleans, floats, bytes, nulls, a mixture, an integer that does not fit int64, or text that is
        not valid Unicode.
    ShapeError
        Not one axis.

    """
    if type(ids).__module__.partition(".")[0] == "pyarrow":
        return _from_arrow(ids, name)
    if isinstance(ids, Set | range):
        ids = list(ids)
    array = ids if isinstance(ids, np.ndarray) or not hasattr(ids, "__array__") else np.asarray(ids)
    if isinstance(array, np.ndarray) and array.ndim != 1:
        raise ShapeError(f"{name}: {array.ndim} axes {array.shape}, expected 1 (n,)")
    if isinstance(array, np.ndarray) and array.dtype.kind in "iu":
        return _from_integers(array, name)
    if isinstance(array, np.ndarray) and array.dtype.kind in "UOT":
        array = array.tolist()
    if not isinstance(array, list | tuple):
        given = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise DtypeError(f"{name}: {given}, expected a list or an array of {_KINDS}")
    return _from_list(array, name)


def _from_integers(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype.kind == "u" and array.dtype.itemsize == 8 and len(array) and array.max() > _LARGEST:
        raise DtypeError(f"{name}: {array.max()} is above 2^63 - 1, the largest id")
    return array.astype(np.int64)


def _from_list(ids: list[Any] | tuple[Any, ...], name: str) -> np.ndarray | pa.LargeStringArray:
    kinds = set(map(type, ids))  # NumPy would make strings of a mixture, and integers of booleans
    if all(issubclass(kind, str) for kind in kinds) and kinds:
        import pyarrow as pa

        try:
            return pa.array(ids, pa.large_string())
        except (UnicodeEncodeError, pa.ArrowException) as error:
            raise DtypeError(f"{name}: text that is not valid Unicode ({error})") from error
    if all(issubclass(kind, int | np.integer) and kind is not bool for kind in kinds):
        try:
            return np.array(ids, dtype=np.int64)
        except OverflowError as error:
            raise DtypeError(f"{name}: an integer outside -2^63 to 2^63 - 1") from error
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    none = ", and None marks places without a hit, it is no id" if type(None) in kinds else ""
    raise DtypeError(f"{name}: {names}; {_EXPECTED}, and not both{none}")


def _from_arrow(column: Any, name: str) -> np.ndarray | pa.LargeStringArray:
    import pyarrow as pa

    if not isinstance(column, pa.Array | pa.ChunkedArray):
        raise DtypeError(f"{name}: {type(column).__name__}, {_EXPECTED}")
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.null_count:
        raise DtypeError(f"{name}: {column.null_count} nulls; {_EXPECTED}")
    if pa.types.is_integer(column.type):
        return _from_integers(column.to_numpy(zero_copy_only=False), name)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or _is_view(column.type)):
        raise DtypeError(f"{name}: Arrow type {column.type}, {_EXPECTED}")
    column = column.cast(pa.large_string())
    if not isinstance(column, pa.ChunkedArray):
        return column
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], pa.large_string())


def _is_view(kind: pa.DataType) -> bool:
    return str(kind) == "string_view"
