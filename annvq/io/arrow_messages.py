"""Reading of Arrow IPC files that annvq wrote, such that they take no more memory than they have bytes.

Such a file is read as the stream that it is, message by message, and not by its footer, which can name one message
many times. The buffers of a message, which could be compressed or overlap, must fit into its body side by side.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

from annvq.errors import DataFormatError

if TYPE_CHECKING:
    import pyarrow as pa

STREAM = 8  # where the stream begins in a file
_MAGIC = b"ARROW1"  # at both ends
_HEADER, _DATA, _BUFFERS, _COMPRESSION = 2, 1, 2, 3  # fields of Message, DictionaryBatch, RecordBatch, RecordBatch


def messages(file: pa.Buffer) -> Iterator[pa.Message]:
    """Yield the messages of an Arrow IPC file, not copied.

    Raises
    ------
    DataFormatError
        It is not such a file, or a message's buffers are compressed or larger than its body.
    pyarrow.ArrowException, OSError
        A message cannot be read.

    """
    import pyarrow as pa

    if not file[: len(_MAGIC)].to_pybytes() == file[max(0, file.size - len(_MAGIC)) :].to_pybytes() == _MAGIC:
        raise DataFormatError("not an Arrow file")
    for message in pa.ipc.MessageReader.open_stream(file[STREAM:]):
        try:
            _check(message)
        except struct.error as error:
            raise DataFormatError(f"an Arrow message that cannot be read: {error}") from error
        yield message


def _check(message: pa.Message) -> None:
    metadata = message.metadata
    header = _follow(metadata, _field(metadata, _follow(metadata, 0), _HEADER))
    if message.type == "dictionary":
        header = _follow(metadata, _field(metadata, header, _DATA))
    elif message.type != "record batch":
        return
    if _field(metadata, header, _COMPRESSION):
        raise DataFormatError("compressed columns, which annvq does not write")
    total = sum(_buffer_lengths(metadata, header))
    if total > message.body.size:
        raise DataFormatError(f"{total} bytes of columns in {message.body.size}")


# Flatbuffers: a table begins with the distance back to its vtable, which says where its fields are, 0 for none.


def _field(metadata: pa.Buffer, table: int, number: int) -> int:
    """Return where a field of the table at ``table`` is, or 0 if it has none (struct.error beyond the end)."""
    vtable = table - struct.unpack_from("<i", metadata, table)[0]
    if 4 + 2 * number >= struct.unpack_from("<H", metadata, vtable)[0]:
        return 0
    at = struct.unpack_from("<H", metadata, vtable + 4 + 2 * number)[0]
    return table + at if at else 0


def _follow(metadata: pa.Buffer, at: int) -> int:
    """Return the place to which the distance at ``at`` leads; that at 0 leads to the root table."""
    return at + struct.unpack_from("<I", metadata, at)[0]


def _buffer_lengths(metadata: pa.Buffer, batch: int) -> list[int]:
    """Return the lengths of a record batch's buffers."""
    at = _field(metadata, batch, _BUFFERS)
    if not at:
        return []
    at = _follow(metadata, at)
    count = struct.unpack_from("<I", metadata, at)[0]
    return [length for _, length in struct.iter_unpack("<qq", memoryview(metadata)[at + 4 : at + 4 + 16 * count])]
