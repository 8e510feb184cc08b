"""The format is what docs/format.md says: files made by hand can be read, files written look so."""

import json
import re
import struct
import zlib
from pathlib import Path

import container_by_hand as by_hand
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from storage_faults import FAST

from annvq.errors import CorruptIndexError, StorageError
from annvq.storage import Store, read_container, write_container

GOLDEN = Path(__file__).parent / "golden"
PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)
CODES = "|u1 |i1 <u2 <u4 <u8 <i2 <i4 <i8 <f2 <f4 <f8".split()


def same(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_an_index_made_by_hand_can_be_read(tmp_path):
    folder = by_hand.lay_out(tmp_path / "index", by_hand.container(by_hand.ARRAYS), version=7, config={"a": 1})
    with Store.open(folder, "rw", fs=FAST) as store:
        store.verify()
        assert (store.version, store.config, store.uuid) == (7, {"a": 1}, by_hand.INDEX.hex)
        assert store.names() == (by_hand.NAME,)
        same(store.sections(by_hand.NAME), by_hand.ARRAYS)
        assert store.commit({}, [by_hand.NAME]) == 8


def test_a_later_minor_version_can_be_read(tmp_path):
    rows, body = by_hand.rows_and_body(by_hand.ARRAYS)
    rows = [{**row, "new": {"key": [1]}} for row in rows]
    raw = by_hand.with_table(json.dumps(rows).encode(), body, by_hand.header(minor=9))
    by_hand.lay_out(tmp_path, raw, format={"major": 1, "minor": 9, "new": 0}, new=[])
    with Store.open(tmp_path) as store:
        same(store.sections(by_hand.NAME), by_hand.ARRAYS)


def test_files_look_as_the_page_says(tmp_path):
    with Store.create(tmp_path, fs=FAST) as store:
        name = store.stage("segment", by_hand.ARRAYS)
        store.commit({"a": "ü"}, [name])
    raw = (tmp_path / name).read_bytes()
    assert raw[:12] == b"ANNVQSEG\x01\x00\x00\x00"
    assert raw[12:28] == b"segment".ljust(16, b"\0")
    assert raw[28:44].hex() == store.uuid
    assert f"segment-{raw[44:60].hex()}.annvq" == name
    assert raw[60:64] == struct.pack("<I", zlib.crc32(raw[:60]))
    start, length, crc, total = struct.unpack_from("<QQIQ", raw, len(raw) - 64)
    assert raw[-36:-4] == raw[44:60] + b"GESQVNNA" + bytes(8)
    assert raw[-4:] == struct.pack("<I", zlib.crc32(raw[-64:-4]))
    assert (total, start + length + 64) == (len(raw), len(raw))
    text = raw[start : start + length]
    assert zlib.crc32(text) == crc
    rows, body = by_hand.rows_and_body(by_hand.ARRAYS)
    assert json.loads(text) == rows
    assert raw[64:start] == body
    first, second, end = (tmp_path / "manifest.json").read_bytes().split(b"\n")
    assert first == b'{"crc32":"%08x",' % zlib.crc32(second + b"\n")
    assert end == b""
    body = json.loads((tmp_path / "manifest.json").read_text("ascii"))
    assert body.pop("crc32")
    assert re.fullmatch(r"unknown|\d+\.\d+.*", body.pop("annvq"))
    file = {"name": name, "bytes": len(raw), "uuid": raw[44:60].hex(), "table_crc32": crc}
    assert body == {
        "magic": "annvq-index",
        "format": {"major": 1, "minor": 0},
        "uuid": store.uuid,
        "version": 1,
        "config": {"a": "ü"},
        "files": [file],
    }


def test_the_page_names_what_is_checked_here():
    page = (Path(__file__).parents[2] / "docs/format.md").read_text(encoding="utf-8")
    for word in ("ANNVQSEG", "GESQVNNA", "annvq-index", "manifest.json", "LOCK", "`" + " ".join(CODES) + "`"):
        assert word in page
    assert max(map(len, page.splitlines())) <= 140


@PROPERTY
@given(
    sections=st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_.]{0,20}", fullmatch=True),
        st.sampled_from(CODES).flatmap(
            lambda code: hnp.arrays(code, hnp.array_shapes(min_dims=0, max_dims=8, min_side=0, max_side=3))
        ),
        max_size=6,
    )
)
def test_what_is_written_is_read(tmp_path_factory, sections):
    path = tmp_path_factory.getbasetemp() / "one"
    write_container(path, "any", sections, fs=FAST)
    kind, found = read_container(path)
    assert kind == "any"
    assert [array.tobytes() for array in found.values()] == [array.tobytes() for array in sections.values()]
    assert [(name, array.shape, array.dtype) for name, array in found.items()] == [
        (name, array.shape, array.dtype) for name, array in sections.items()
    ]


def test_any_layout_of_the_same_array_is_stored_alike(tmp_path):
    array = np.arange(24, dtype=np.float32).reshape(4, 6)
    layouts = {
        "fortran": np.asfortranarray(array),
        "big_endian": array.astype(">f4"),
        "strided": np.repeat(np.repeat(array, 2, 0), 3, 1)[::2, ::3],
        "reversed": array[::-1, ::-1].copy()[::-1, ::-1],
        "unaligned": np.frombuffer(b"x" + array.tobytes(), np.uint8)[1:].view(np.float32).reshape(4, 6),
        "matrix_of_a_map": np.memmap(tmp_path / "map", np.float32, "w+", shape=(4, 6)),
    }
    layouts["matrix_of_a_map"][...] = array
    write_container(tmp_path / "one", "any", layouts, fs=FAST)
    _, found = read_container(tmp_path / "one")
    same(found, dict.fromkeys(layouts, array))


def test_a_single_file_replaces_another_at_once(tmp_path):
    path = tmp_path / "a file, größer"
    write_container(path, "any", {"x": np.arange(3)})
    _, old = read_container(path)
    write_container(path, "any", {"x": np.arange(9)})
    assert old["x"].tolist() == [0, 1, 2]
    assert read_container(str(path))[1]["x"].tolist() == list(range(9))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    with pytest.raises(StorageError):
        write_container(tmp_path, "any", {})
    with pytest.raises(StorageError):
        write_container(tmp_path / "no folder" / "x", "any", {})
    with pytest.raises(CorruptIndexError, match="not a regular file"):
        read_container(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("version", sorted(folder.name for folder in GOLDEN.iterdir()))
def test_files_of_every_released_format_can_be_read(version):
    expected = {
        "segment": {"codes": np.arange(40, dtype=np.uint8).reshape(10, 4), "ids": np.arange(10) * 1_000_000_007},
        "live": {"live": np.array([0b10110111, 0b11], np.uint8), "none": np.empty((0, 3), np.float16)},
    }
    with Store.open(GOLDEN / version / "index") as store:
        store.verify()
        assert store.version == 2
        assert store.config["pi"] == 3.14159
        assert store.config["note"] == "größer"
        for name in store.names():
            same(store.sections(name), expected[name.partition("-")[0]])
        assert len(store.names()) == 2
    kind, found = read_container(GOLDEN / version / "codebook.annvq")
    assert kind == "codebook"
    same(found, {"centroids": np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3), "d": np.array(3)})
