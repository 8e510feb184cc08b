"""Rows of attributes that are read where they lie, from tables of every layout; damage is an error."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from annvq.errors import CorruptIndexError
from annvq.index.rows.taking import taken

KINDS = [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()]
TEXTS = [None if i % 5 == 2 else "ä" * (i % 7) + str(i) for i in range(61)]
ORDERS = [[], [0], [60], [3, 3, 2, 60, 0, 7], list(range(61)), list(range(60, -1, -1))]


def array(kind, values):
    given = [None if value is None else value.encode() for value in values]
    return pa.array(given, pa.binary()).cast(kind)


def layouts(kind):
    """Yield columns of the same values: whole, sliced, in chunks of which some are empty or of nulls alone."""
    whole = array(kind, TEXTS)
    yield pa.chunked_array([whole])
    padded = array(kind, [None, "before", *TEXTS, "after"])
    yield pa.chunked_array([padded.slice(2, 61)])
    yield pa.chunked_array([whole.slice(0, 0), whole.slice(0, 9), whole.slice(9, 0), padded.slice(11, 52)])
    yield pa.chunked_array([pa.array([], kind), *(whole.slice(i, 1) for i in range(61)), pa.array([], kind)])


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("order", ORDERS, ids=len)
def test_texts_of_every_layout(kind, order):
    for column in layouts(kind):
        table = pa.table({"text": column, "n": pa.chunked_array([range(10), range(10, 61)], pa.int16())})
        found = taken(table, np.array(order, np.int64), ["n", "text"])
        found.validate(full=True)
        assert found.schema.names == ["n", "text"]
        assert found.column("text").type == kind
        assert found.to_pylist() == table.select(["n", "text"]).take(pa.array(order, pa.int64())).to_pylist()


def of_buffers(kind, offsets, data):
    """Return a column of offsets that change after Arrow looked at them, as those in a file may."""
    held = np.zeros(len(offsets), np.int64 if "large" in str(kind) else np.int32)
    column = pa.Array.from_buffers(kind, len(held) - 1, [None, pa.py_buffer(held), pa.py_buffer(data)])
    table = pa.table({"text": column})
    held[:] = offsets
    return table


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_damaged_offsets(kind):
    rows = np.arange(3)
    assert taken(of_buffers(kind, [0, 0, 0, 0], b""), rows, ["text"]).num_rows == 3
    for offsets in ([0, 2, 1, 3], [-1, 0, 1, 2], [0, 1, 2, 4], [0, 1, 2, 2**31 - 1], [0, -(2**31), 1, 3]):
        with pytest.raises(CorruptIndexError, match="'text'"):
            taken(of_buffers(kind, offsets, b"abc"), rows, ["text"])


@pytest.mark.parametrize("kind", KINDS[:2], ids=str)
def test_damaged_texts(kind):
    with pytest.raises(CorruptIndexError, match="'text'"):
        taken(of_buffers(kind, [0, 1, 2], b"a\xff"), np.arange(2), ["text"])
    with pytest.raises(CorruptIndexError, match="'text'"):
        taken(of_buffers(kind, [0, 1, 2], "é".encode()), np.arange(2), ["text"])


def test_texts_that_overlap_take_no_memory():
    """Of a million rows whose offsets go up and down, each is as long as all texts together."""
    offsets = np.zeros(200_001, np.int32)
    offsets[1::2] = 1 << 20
    with pytest.raises(CorruptIndexError, match="overlap"):
        taken(of_buffers(pa.string(), offsets, b"a" * (1 << 20)), np.arange(0, 200_000, 2), ["text"])
    found = taken(of_buffers(pa.string(), [0, 3], b"abc"), np.zeros(50, np.int64), ["text"])
    assert found.column("text").to_pylist() == ["abc"] * 50
