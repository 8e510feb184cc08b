"""Some rows of attributes, read where they lie: a few texts must not bring a whole column into memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.arrays import frozen, offsets_of
from annvq.errors import CorruptIndexError
from annvq.index.rows.attributes import intact
from annvq.kernels import strings

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_BYTES = (1 << 31) - 1  # of a chunk whose offsets are 32 bits wide


def taken(table: pa.Table, rows: np.ndarray, names: Sequence[str]) -> pa.Table:
    """Return rows (m,) int64 of some columns of a segment's attributes, in that order.

    Numbers, times and texts are read in place. Columns of other types, which have offsets inside, are taken from
    memory (`annvq.index.rows.attributes.intact`). A damaged offset or text raises CorruptIndexError.
    """
    import pyarrow as pa

    columns: dict[str, Any] = {}
    for name in names:
        column = table.column(name)
        if _is_text(column.type):
            columns[name] = _texts(column, rows, name)
        elif _is_fixed(column.type):
            columns[name] = column.take(pa.array(rows))
        else:
            columns[name] = intact(table).column(name).take(pa.array(rows))
    return pa.table(columns)


def _is_text(kind: pa.DataType) -> bool:
    from pyarrow import types

    return any(
        is_kind(kind) for is_kind in (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    )


def _is_fixed(kind: pa.DataType) -> bool:
    from pyarrow import types

    return types.is_null(kind) or (
        types.is_primitive(kind) or types.is_decimal(kind) or types.is_fixed_size_binary(kind)
    )


def _texts(column: pa.ChunkedArray, rows: np.ndarray, name: str) -> pa.ChunkedArray:
    import pyarrow as pa

    ends = np.cumsum([len(chunk) for chunk in column.chunks])
    of_chunk = np.searchsorted(ends, rows, side="right")
    parts: list[pa.Array] = []
    order: list[np.ndarray] = []
    for number, chunk in enumerate(column.chunks):
        inside = np.flatnonzero(of_chunk == number)
        if len(inside):
            parts += _texts_of(chunk, rows[inside] - (ends[number] - len(chunk)), name)
            order.append(inside)
    made = pa.chunked_array(parts, column.type)
    if len(order) < 2:
        return made
    back = np.empty(len(rows), np.int64)
    back[np.concatenate(order)] = np.arange(len(rows))
    return made.take(pa.array(back))


def _texts_of(chunk: pa.Array, rows: np.ndarray, name: str) -> list[pa.Array]:
    """Return texts of one chunk, in several arrays if they are too long for one."""
    import pyarrow as pa

    validity, offsets, data = chunk.buffers()
    is_wide = "large" in str(chunk.type)
    width = 8 if is_wide else 4
    every = np.frombuffer(offsets, f"i{width}", offsets.size // width)
    begins = every[rows + chunk.offset].astype(np.int64)
    ends = every[rows + chunk.offset + 1].astype(np.int64)
    held = np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    if len(rows) and (begins.min() < 0 or (ends < begins).any() or ends.max() > len(held)):
        raise CorruptIndexError(f"attribute {name!r}: offsets that lead astray")
    if (ends - begins).sum() > len(held) and (ends - begins)[np.unique(rows, return_index=True)[1]].sum() > len(held):
        raise CorruptIndexError(f"attribute {name!r}: texts that overlap")  # they would take any amount of memory
    places = offsets_of(ends - begins)
    if places[-1] > _MOST_BYTES and not is_wide:
        half = len(rows) // 2
        return [*_texts_of(chunk, rows[:half], name), *_texts_of(chunk, rows[half:], name)]
    text = np.empty(places[-1], np.uint8)
    strings.gather(frozen(begins), frozen(held), frozen(np.arange(len(rows))), frozen(places), text)
    is_valid = None
    if validity is not None:
        bits = np.frombuffer(validity, np.uint8)
        at = rows + chunk.offset
        is_valid = pa.py_buffer(np.packbits((bits[at // 8] >> (at % 8).astype(np.uint8)) & 1, bitorder="little"))
    starts = places if is_wide else places.astype(np.int32)
    made = pa.Array.from_buffers(chunk.type, len(rows), [is_valid, pa.py_buffer(starts), pa.py_buffer(text)])
    try:
        made.validate(full=True)
    except pa.ArrowException as error:
        raise CorruptIndexError(f"attribute {name!r} is damaged: {error}") from error
    return [made]
