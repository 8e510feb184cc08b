"""Attributes as they lie in a section: an Arrow IPC file, see `annvq.io.arrow_messages`."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import numpy as np

from annvq.errors import CorruptIndexError, DataFormatError
from annvq.io.arrow_messages import STREAM, messages

if TYPE_CHECKING:
    import pyarrow as pa

_UNWRITTEN = ("is_run_end_encoded", "is_string_view", "is_binary_view")  # types whose rows cannot be put in list order


def to_section(table: pa.Table) -> np.ndarray:
    """Return a table's Arrow file (bytes,) uint8."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return np.frombuffer(sink.getvalue(), np.uint8)


def from_section(section: np.ndarray, file: str) -> pa.Table:
    """Return the table of an Arrow file (bytes,) uint8, not copied; CorruptIndexError if `to_section` did not write it.

    Its buffers have the right lengths; their content is not checked. ``file`` is the name of the section's file.
    """
    table = _read(section, "section attributes")
    key = id(table)
    _SECTIONS[key] = weakref.ref(table, lambda _: _SECTIONS.pop(key, None)), section, file
    return table


def in_memory(table: pa.Table) -> pa.Table:
    """Return a copy, with every offset checked, of a table that lies in a section; return any other table itself.

    Arrow follows offsets, and those in a mapped file can change after a check (a wrong one raises CorruptIndexError
    with the file's name).
    """
    known = _SECTIONS.get(id(table))
    if known is None or known[0]() is not table:
        return table
    _, section, file = known
    return _read(section.copy(), f"{file}: section attributes", full=True)


_SECTIONS: dict[int, tuple[weakref.ref, np.ndarray, str]] = {}  # tables have no hash


def _read(section: np.ndarray, where: str, *, full: bool = False) -> pa.Table:
    """Return a section's table, with every offset checked if ``full``; messages of errors begin with ``where``."""
    import pyarrow as pa

    if section.dtype != np.uint8 or section.ndim != 1:
        raise CorruptIndexError(f"{where} is {section.dtype} {section.shape}, expected bytes")
    file = pa.py_buffer(section)
    try:
        for _ in messages(file):
            pass
        with pa.ipc.open_stream(file[STREAM:]) as reader:
            _check_types(reader.schema)
            table = reader.read_all()
        table.validate(full=full)
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise CorruptIndexError(f"{where}: {error}") from error
    return table


def _check_types(schema: pa.Schema) -> None:
    """Raise DataFormatError for columns of few bytes that can stand for any number of rows, and names of no text."""
    import pyarrow as pa

    fields = [schema.field(i) for i in range(len(schema))]
    while fields:
        field = fields.pop()
        here = field.type
        try:
            _ = field.name
        except UnicodeDecodeError as error:
            raise DataFormatError(f"a column whose name is not UTF-8: {error}") from None
        if any(getattr(pa.types, name)(here) for name in _UNWRITTEN):
            raise DataFormatError(f"a column of {here}, which annvq does not write")
        if pa.types.is_dictionary(here):
            fields.append(pa.field("", here.value_type))
        fields += [here.field(i) for i in range(here.num_fields)]
