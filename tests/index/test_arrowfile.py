"""Attributes in a section: what annvq writes is read back, and no file takes more memory than it has bytes."""

import gc
import struct
import weakref

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_indexes import Parts, built

import annvq
from annvq.errors import CorruptIndexError
from annvq.index.rows import arrowfile
from annvq.index.rows.attributes import intact

WORDS = pa.array([f"n{i % 5}" for i in range(40)])
TABLES = {
    "numbers": pa.table({"i": np.arange(40), "f": np.arange(40.0), "b": np.arange(40) % 2 == 0}),
    "text": pa.table({"s": WORDS, "l": WORDS.cast(pa.large_string()), "d": WORDS.dictionary_encode()}),
    "nulls": pa.table({"none": pa.nulls(5), "some": [1, None, 3, None, 5], "text": ["a", None, "", None, "b"]}),
    "nested": pa.table({"l": [[1, 2], [], None, [3]], "s": [{"a": 1, "b": "x"}] * 4, "m": [[{"c": ["y"]}]] * 4}),
    "lists": pa.table({
        "f": pa.array([[1, 2]] * 3, pa.list_(pa.int8(), 2)),
        "v": pa.array([[1], [], [2, 3]], pa.list_view(pa.int32())),
        "map": pa.array([[("a", 1)]] * 3, pa.map_(pa.string(), pa.int32())),
    }),
    "a dictionary of several batches": pa.concat_tables([pa.table({"d": WORDS.dictionary_encode()})] * 3),
    "a nested dictionary": pa.table({"d": pa.array([["a"], ["b"]], pa.list_(pa.dictionary(pa.int8(), pa.string())))}),
    "a slice": pa.table({"i": np.arange(40), "b": np.arange(40) % 3 == 0, "s": WORDS}).slice(13, 9),
    "others": pa.table({
        "t": pa.array([0, 1], pa.timestamp("us", "UTC")), "d": pa.array([1, 2], pa.decimal128(9, 2)),
        "x": pa.array([b"ab", b"cd"], pa.binary(2)), "y": pa.array([b"a", b""]), "h": pa.array([1, 2], pa.float16()),
    }),
    "no rows": pa.table({"i": pa.array([], pa.int64()), "s": pa.array([], pa.string())}),
    "many batches": pa.concat_tables([pa.table({"i": [i], "s": [str(i)]}) for i in range(100)]),
}  # fmt: skip


def written(table, **options):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return np.frombuffer(sink.getvalue(), np.uint8)


@pytest.mark.parametrize("name", TABLES)
def test_every_table_comes_back(name):
    table = TABLES[name]
    section = arrowfile.to_section(table)
    found = arrowfile.from_section(section, "a")
    assert found.equals(table)
    assert found.schema == table.schema
    assert intact(found).equals(table)


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
@pytest.mark.parametrize("column", [np.zeros(4_000_000), pa.array(["a" * 1_000_000] * 4).dictionary_encode()])
def test_compressed_columns_are_refused_before_they_are_unpacked(compression, column):
    """Also those of a dictionary: a file of a few kilobytes may be gigabytes."""
    section = written(pa.table({"x": column}), compression=compression)
    assert len(section) < 200_000
    before = pa.total_allocated_bytes()
    with pytest.raises(CorruptIndexError, match="compressed"):
        arrowfile.from_section(section, "a")
    assert pa.total_allocated_bytes() - before < 1 << 20


def test_an_index_with_compressed_attributes_is_refused(tmp_path):
    built("fp32").save(tmp_path / "saved")
    parts = Parts(tmp_path / "saved")
    n = len(parts.segments[0]["ids"])
    table = pa.table({"year": np.zeros(n), "name": ["x" * 100] * n})
    parts.segments[0]["attributes"] = written(table, compression="zstd")
    parts.write(tmp_path / "index")
    with pytest.raises(CorruptIndexError, match=r"segment-.*section attributes: compressed columns"):
        annvq.open(tmp_path / "index")


def test_buffers_that_overlap_are_refused():
    """Every column would be the same bytes, and a merge would write them once for every column."""
    columns = {f"c{i}": [""] for i in range(50)}
    section = written(pa.table({"long": ["x" * 10_000], **columns})).copy()
    starts = [at for at in range(0, len(section) - 16, 8) if section[at : at + 16].view("<i8").tolist() == [8, 10_000]]
    (at,) = starts  # where the text of the first column is said to be
    for column in range(1, 51):
        section[at + 48 * column : at + 48 * column + 16] = section[at : at + 16]
    with pytest.raises(CorruptIndexError, match="bytes of columns in"):
        arrowfile.from_section(section, "a")


def test_a_footer_is_not_believed():
    """It could name one batch any number of times."""
    table = pa.table({"s": ["x" * 1000]})
    once, often = written(table), written(pa.concat_tables([table] * 9))

    def split(section):
        length = int(section[-10:-6].view("<i4")[0])
        return section[: -10 - length], section[-10 - length :]

    section = np.concatenate([split(once)[0], split(often)[1]])
    assert arrowfile.from_section(section, "a").num_rows == 1


@pytest.mark.parametrize(
    "column",
    [
        pa.RunEndEncodedArray.from_arrays(pa.array([1 << 30], pa.int32()), ["x" * 1000]),
        pa.array(["a"], pa.string_view()),
        pa.array([{"a": b"b"}], pa.struct({"a": pa.binary_view()})),
        pa.array([["b"]], pa.list_(pa.string_view())),
    ],
)
def test_columns_that_stand_for_more_than_their_bytes_are_refused(column):
    with pytest.raises(CorruptIndexError, match="which annvq does not write"):
        arrowfile.from_section(written(pa.table({"x": column})), "a")


def test_what_is_followed_is_in_memory_of_its_own():
    """And is let go of with the table."""
    section = arrowfile.to_section(TABLES["text"]).copy()
    mapped = arrowfile.from_section(section, "a")
    checked = intact(mapped)
    assert intact(mapped) is checked
    section[:] = 0xFF
    checked.validate(full=True)
    assert checked.equals(TABLES["text"])
    gone = weakref.ref(mapped), weakref.ref(checked)
    del mapped, checked
    gc.collect()
    assert [one() for one in gone] == [None, None]
    own = pa.table({"a": [1]})
    assert intact(own) is own  # it is in memory already
    gone = weakref.ref(own)
    del own
    assert gone() is None


@settings(deadline=None, max_examples=300, derandomize=True)
@given(name=st.sampled_from(sorted(TABLES)), data=st.data())
def test_damaged_files_are_refused_or_read_and_take_no_memory(name, data):
    section = arrowfile.to_section(TABLES[name]).copy()
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(section) - 8))
        value = data.draw(st.sampled_from([0, 1, 64, 255, 1 << 20, 1 << 31, (1 << 40) + 3, (1 << 63) - 1]))
        size = data.draw(st.sampled_from([1, 4, 8]))
        section[at : at + size] = np.frombuffer(struct.pack("<Q", value)[:size], np.uint8)
    before = pa.total_allocated_bytes()
    try:
        table = arrowfile.from_section(section, "a")
        rows = intact(table)
        rows.take(np.arange(len(rows))[::-1][:1000])
    except CorruptIndexError:
        pass
    assert pa.total_allocated_bytes() - before < 1 << 24


@pytest.mark.parametrize("column", [np.arange(3), [{"name": 1}] * 3, [[{"name": 1}]] * 3])
def test_names_that_are_no_text_are_refused(column):
    """A name of one byte that begins no letter of UTF-8."""
    outer = "name" if isinstance(column, np.ndarray) else "column"
    section = arrowfile.to_section(pa.table({outer: column}))
    changed = section.tobytes().replace(b"name", b"\xffame")
    assert changed != section.tobytes()
    with pytest.raises(CorruptIndexError, match="not UTF-8"):
        arrowfile.from_section(np.frombuffer(changed, np.uint8), "a")
