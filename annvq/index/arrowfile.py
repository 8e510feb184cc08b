"""Attributes as they lie in a section: an Arrow IPC file of buffers that are neither compressed nor shared.

What a file can make its reader allocate is bounded by the file: it is read as the stream that it is, message after
message, and not by its footer, which can name one message many times; and the buffers of a message, which can be
compressed or overlap, must fit its body side by side.
"""

from __future__ import annotations

import struct
import weakref
from typing import TYPE_CHECKING

import numpy as np

from annvq.errors import CorruptIndexError

if TYPE_CHECKING:
    import pyarrow as pa

_MAGIC, _STREAM = b"ARROW1", 8  # at both ends; the first is padded, then the stream begins
_HEADER, _DATA, _BUFFERS, _COMPRESSION = 2, 1, 2, 3  # fields of Message, DictionaryBatch, RecordBatch, RecordBatch
_UNWRITTEN = ("is_run_end_encoded", "is_string_view", "is_binary_view")  # whose rows cannot be put in list order


def to_section(table: pa.Table) -> np.ndarray:
    """Return a table's Arrow file (bytes,) uint8."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return np.frombuffer(sink.getvalue(), np.uint8)


def from_section(section: np.ndarray) -> pa.Table:
    """Return the table of an Arrow file (bytes,) uint8, not copied; CorruptIndexError where `to_section` made none.

    Its buffers have the right lengths; what is in them is not looked at.
    """
    table = _read(section)
    key = id(table)
    _SECTIONS[key] = weakref.ref(table, lambda _: _SECTIONS.pop(key, None)), section
    return table


def in_memory(table: pa.Table) -> pa.Table:
    """Return a copy of a table that lies in a section, else the table: Arrow may follow its offsets once checked.

    Not so those of a mapped file, for its bytes can change afterwards (CorruptIndexError where they have).
    """
    known = _SECTIONS.get(id(table))
    return table if known is None or known[0]() is not table else _read(known[1].copy())


_SECTIONS: dict[int, tuple[weakref.ref, np.ndarray]] = {}  # tables have no hash


def _read(section: np.ndarray) -> pa.Table:
    import pyarrow as pa

    if section.dtype != np.uint8 or section.ndim != 1:
        raise CorruptIndexError(f"section attributes is {section.dtype} {section.shape}, expected bytes")
    if not bytes(section[: len(_MAGIC)]) == bytes(section[-len(_MAGIC) :]) == _MAGIC:
        raise CorruptIndexError("section attributes is not an Arrow file")
    stream = pa.py_buffer(section[_STREAM:])
    try:
        _check_messages(stream)
        with pa.ipc.open_stream(stream) as reader:
            _check_types(reader.schema)
            table = reader.read_all()
        table.validate()
    except (pa.ArrowException, OSError, ValueError, TypeError, struct.error) as error:
        raise CorruptIndexError(f"section attributes is not an Arrow file: {error}") from error
    return table


def _check_messages(stream: pa.Buffer) -> None:
    """Raise CorruptIndexError for a message whose buffers are compressed or take more than its body."""
    import pyarrow as pa

    for message in pa.ipc.MessageReader.open_stream(stream):
        metadata = message.metadata
        header = _follow(metadata, _field(metadata, _follow(metadata, 0), _HEADER))
        if message.type == "dictionary":
            header = _follow(metadata, _field(metadata, header, _DATA))
        elif message.type != "record batch":
            continue
        if _field(metadata, header, _COMPRESSION):
            raise CorruptIndexError("section attributes holds compressed columns, which annvq does not write")
        total = sum(_buffer_lengths(metadata, header))
        if total > message.body.size:
            raise CorruptIndexError(f"section attributes holds {total} bytes of columns in {message.body.size}")


def _check_types(schema: pa.Schema) -> None:
    """Raise CorruptIndexError for columns of few bytes that can stand for rows of any length."""
    import pyarrow as pa

    types = list(schema.types)
    while types:
        here = types.pop()
        if any(getattr(pa.types, name)(here) for name in _UNWRITTEN):
            raise CorruptIndexError(f"section attributes holds a column of {here}, which annvq does not write")
        if pa.types.is_dictionary(here):
            types.append(here.value_type)
        types += [here.field(i).type for i in range(here.num_fields)]


# Flatbuffers: a table begins with the distance back to its vtable, which says where its fields are, 0 for none.


def _field(metadata: pa.Buffer, table: int, number: int) -> int:
    """Return where a field of the table at ``table`` is, 0 where it has none (struct.error beyond the end)."""
    vtable = table - struct.unpack_from("<i", metadata, table)[0]
    if 4 + 2 * number >= struct.unpack_from("<H", metadata, vtable)[0]:
        return 0
    at = struct.unpack_from("<H", metadata, vtable + 4 + 2 * number)[0]
    return table + at if at else 0


def _follow(metadata: pa.Buffer, at: int) -> int:
    """Return where what the distance at ``at`` leads to is: at 0, the root table."""
    return at + struct.unpack_from("<I", metadata, at)[0]


def _buffer_lengths(metadata: pa.Buffer, batch: int) -> list[int]:
    """Return the lengths of a record batch's buffers."""
    at = _field(metadata, batch, _BUFFERS)
    if not at:
        return []
    at = _follow(metadata, at)
    count = struct.unpack_from("<I", metadata, at)[0]
    return [length for _, length in struct.iter_unpack("<qq", memoryview(metadata)[at + 4 : at + 4 + 16 * count])]
