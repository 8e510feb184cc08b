"""Columns of an Arrow table that hold vectors or ids.

Vectors are fixed-size lists, lists whose lengths agree, or fixed-shape tensors of one axis; ids are
integers or strings, dictionary-encoded or not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from annvq.errors import DataFormatError, DtypeError, ParameterError, ShapeError

_DEFAULT_ID_COLUMN = "id"


def is_vector_type(kind: pa.DataType) -> bool:
    """Return whether a column of this type can hold vectors."""
    if isinstance(kind, pa.FixedShapeTensorType):
        return len(kind.shape) == 1 and _is_number(kind.value_type)
    is_list = pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return is_list and _is_number(kind.value_type)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


def is_id_type(kind: pa.DataType) -> bool:
    """Return whether a column of this type can hold ids."""
    if pa.types.is_dictionary(kind):  # pandas' categories
        return is_id_type(kind.value_type)
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return is_text or pa.types.is_integer(kind)


def vector_column_of(schema: pa.Schema, name: str | None = None) -> str:
    """Return the name of the vector column: ``name``, or the only one that can hold vectors.

    Raises
    ------
    ParameterError
        There is no such column, it cannot hold vectors, or there are several to choose from.

    """
    found = [field.name for field in schema if is_vector_type(field.type)]
    if name is None:
        if len(found) != 1:
            raise ParameterError(
                f"columns that can hold vectors: {', '.join(found) or 'none'}; columns: {', '.join(schema.names)}"
                f"{'; name one with vector_column' if found else ''}"
            )
        return found[0]
    if name not in schema.names:
        raise ParameterError(f"no column {name!r}; columns: {', '.join(schema.names)}")
    if name not in found:
        raise ParameterError(f"column {name!r} is {schema.field(name).type}, expected lists of numbers")
    return name


def holds_documents(schema: pa.Schema, name: str | None = None) -> bool:
    """Return whether ``name``, or the only column that can hold vectors, holds lists of vectors."""
    if name is not None:
        return name in schema.names and _is_document_type(schema.field(name).type)
    return any(_is_document_type(field.type) for field in schema) and not any(
        is_vector_type(field.type) for field in schema
    )


def _is_document_type(kind: pa.DataType) -> bool:
    return (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and is_vector_type(kind.value_type)


def document_column_of(schema: pa.Schema, name: str | None = None) -> str:
    """Return the name of the column of lists of vectors: ``name``, or the only one (ParameterError)."""
    found = [field.name for field in schema if _is_document_type(field.type)]
    if name is None:
        if len(found) != 1:
            raise ParameterError(
                f"columns that can hold documents of several vectors: {', '.join(found) or 'none'}; columns: "
                f"{', '.join(schema.names)}{'; name one with vector_column' if found else ''}"
            )
        return found[0]
    if name not in schema.names:
        raise ParameterError(f"no column {name!r}; columns: {', '.join(schema.names)}")
    if name not in found:
        raise ParameterError(f"column {name!r} is {schema.field(name).type}, expected lists of vectors")
    return name


def id_column_of(schema: pa.Schema, name: str | None = None) -> str | None:
    """Return the name of the id column: ``name``, or "id" if there is one, else None (ParameterError).

    Whether "id" can hold ids is checked only when ids are requested (`ids_of`), since queries need none.
    """
    if name is None:
        return _DEFAULT_ID_COLUMN if _DEFAULT_ID_COLUMN in schema.names else None
    if name not in schema.names:
        raise ParameterError(f"no column {name!r}; columns: {', '.join(schema.names)}")
    if not is_id_type(schema.field(name).type):
        raise ParameterError(f"column {name!r} is {schema.field(name).type}, expected integers or strings")
    return name


def vector_dim(kind: pa.DataType) -> int | None:
    """Return the dimension that a column's type declares; None for lists of any length."""
    if isinstance(kind, pa.FixedShapeTensorType):
        return kind.shape[0] if len(kind.shape) == 1 else None
    return kind.list_size if pa.types.is_fixed_size_list(kind) else None


def matrix_of(column: Any, name: str = "vectors", *, dim: int | None = None, first_row: int = 0) -> np.ndarray:
    """Return the vectors of a column, (n, d), in the column's number type; shared where possible.

    A table or record batch stands for its only vector column; ``dim`` is the dimension of earlier rows, and
    ``first_row`` the number of the first row in messages.

    Raises
    ------
    DtypeError
        The column does not hold lists of numbers, or holds a null, whose row is named.
    ShapeError
        Lists differ in length, or no row tells the dimension.

    """
    if isinstance(column, pa.Table | pa.RecordBatch):
        column = column.column(vector_column_of(column.schema))
    if not isinstance(column, pa.Array | pa.ChunkedArray):
        raise DtypeError(f"{name}: {type(column).__name__}, expected an Arrow column of lists of numbers")
    if not is_vector_type(column.type):
        raise DtypeError(f"{name}: Arrow type {column.type}, expected lists of numbers")
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    blocks, row = [], first_row
    dim = vector_dim(column.type) if dim is None else dim
    for chunk in chunks:
        if not len(chunk):
            continue
        blocks.append(_matrix_of_chunk(chunk, dim, row, name))
        dim = blocks[-1].shape[1]
        row += len(chunk)
    if not blocks and dim is None:
        raise ShapeError(f"{name}: no rows in a column of {column.type}, so the dimension is not known")
    if not blocks:
        empty = pa.array([], column.type.value_type).to_numpy(zero_copy_only=False)  # tells the dtype without pandas
        return np.empty((0, dim or 0), dtype=empty.dtype)
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def _matrix_of_chunk(chunk: pa.Array, dim: int | None, row: int, name: str) -> np.ndarray:
    lists = chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk
    if lists.null_count:
        raise DtypeError(f"{name}: row {row + _first_null(lists)} is null")
    if not pa.types.is_fixed_size_list(lists.type):
        lengths = lists.value_lengths().to_numpy(zero_copy_only=False)
        dim = int(lengths[0]) if dim is None else dim
        if (lengths != dim).any():
            wrong = int(np.argmax(lengths != dim))
            raise ShapeError(f"{name}: row {row + wrong} has length {lengths[wrong]}, rows before have {dim}")
    values = lists.flatten()  # unlike .values, this respects the offset of a slice
    width = len(values) // len(lists)
    if dim is not None and width != dim:
        raise ShapeError(f"{name}: row {row} has length {width}, rows before have {dim}")
    if values.null_count:
        raise DtypeError(f"{name}: row {row + _first_null(values) // max(1, width)} holds a null")
    return values.to_numpy(zero_copy_only=True).reshape(len(lists), width)


def _first_null(column: pa.Array) -> int:
    return int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))


def ids_of(column: pa.Array | pa.ChunkedArray, name: str) -> np.ndarray:
    """Return the ids of a column, (n,) int64 or object array of str.

    Raises
    ------
    DtypeError
        The column holds neither integers nor strings.
    DataFormatError
        The column holds a null, whose row is named, or an unsigned number above the largest int64.

    """
    if not is_id_type(column.type):
        raise DtypeError(
            f"column {name!r} is {column.type}, expected integers or strings as ids: cast or rename it, or give ids"
        )
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise DataFormatError(f"column {name!r}: the id in row {row} is null")
    if not pa.types.is_integer(column.type):
        column.validate(full=True)  # Parquet's text may be any bytes
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype=object)
    try:
        return pc.cast(column, pa.int64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid as error:
        raise DataFormatError(f"column {name!r}: an id above 2^63 - 1") from error
