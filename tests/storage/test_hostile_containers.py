"""Files made to harm: they are refused with an error of annvq's, soon, and cost little memory.

Checksums are right in all of them; what they say is not.
"""

import json
import os
import resource
import time
import tracemalloc
from copy import deepcopy

import container_by_hand as by_hand
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from storage_faults import FAST, make

from annvq.errors import AnnvqError, CorruptIndexError, StorageError, VersionError
from annvq.storage import Store, read_container
from annvq.storage.strictjson import parse

ROW = {"name": "x", "dtype": "<f4", "shape": [4], "offset": 64, "bytes": 16, "crc32": 0}
BODY = bytes(64)
MOST_MEMORY = 64 << 20


def table(*changes, body=BODY):
    return by_hand.with_table(json.dumps([{**ROW, **change} for change in changes]).encode(), body)


def text(raw):
    return by_hand.with_table(raw, BODY)


def head(**fields):
    return by_hand.container(by_hand.ARRAYS, by_hand.header(**fields))


def foot(**fields):
    return by_hand.container(by_hand.ARRAYS, **fields)


def without(key):
    return text(json.dumps([{name: value for name, value in ROW.items() if name != key}]).encode())


SECOND = {"name": "y", "offset": 128}
CONTAINERS = {
    "empty": b"",
    "header only": by_hand.header(),
    "zeros": bytes(4096),
    "not a container": b"PK\3\4" * 100,
    "magic": head(magic=b"ANNVQSEQ"),
    "major 0": head(major=0),
    "kind without a name": head(kind=b""),
    "kind of a path": head(kind=b"../../x"),
    "kind after zeros": head(kind=b"seg\0ment"),
    "kind not ASCII": head(kind=b"\xff\xfe"),
    "other index": head(index=bytes(16)),
    "other file": head(file=bytes(16)),
    "footer of another file": foot(file=bytes(16)),
    "footer's magic": foot(magic=b"ANNVQSEG"),
    "other length of the file": foot(total=1 << 60),
    "table before the sections": foot(start=0),
    "table beyond the end": foot(start=1 << 40),
    "table at 2**64 - 64": foot(start=2**64 - 64),
    "table unaligned": foot(start=65),
    "table of 2**64 - 1 bytes": foot(length=2**64 - 1),
    "table of no bytes": foot(length=0),
    "table checksum": foot(crc=1),
    "table too long": by_hand.with_table(b"[" + b" " * (1 << 20) + b"]"),
    "not JSON": text(b"]["),
    "no JSON at all": text(b""),
    "not ASCII": text('["é"]'.encode()),
    "UTF-16": text('[{"name":"x"}]'.encode("utf-16")),
    "two values": text(b"[] []"),
    "object for a list": text(b"{}"),
    "null": text(b"null"),
    "number for a row": text(b"[1]"),
    "list for a row": text(b'[["name"]]'),
    "null for a row": text(b"[null]"),
    "deep": text(b"[" * 100_000),
    "deep and closed": text(b"[" * 100_000 + b"]" * 100_000),
    "deep in a key": text(json.dumps([ROW])[:-2].encode() + b',"z":' + b"[" * 50 + b"]" * 50 + b"}]"),
    "many values": text(b"[" + b"[]," * 300_000 + b"[]]"),
    "many objects": text(b"[" + b'{"":0},' * 149_000 + b"{}]"),
    "key twice": text(json.dumps([ROW])[:-2].encode() + b',"offset":64}]'),
    "NaN": text(json.dumps([{**ROW, "crc32": float("nan")}]).encode()),
    "infinity": text(json.dumps([{**ROW, "bytes": float("inf")}]).encode()),
    "1e999": text(json.dumps([ROW]).replace(": 16", ": 1e999").encode()),
    "1e308": text(json.dumps([ROW]).replace(": 16", ": 1e308").encode()),
    "float": table({"bytes": 16.0}),
    "true": table({"shape": [True], "bytes": 4}),
    "digits": text(b"[" + b"9" * 1_000_000 + b"]"),
    "number as text": table({"bytes": "16"}),
    "negative offset": table({"offset": -64}),
    "negative bytes": table({"bytes": -16}),
    "negative length": table({"shape": [-4]}),
    "two negative lengths": table({"shape": [-2, -2]}),
    "negative checksum": table({"crc32": -1}),
    "huge offset": table({"offset": 1 << 62}),
    "huge bytes": table({"bytes": 1 << 63}),
    "huge and so few": table({"shape": [1 << 62], "bytes": 16}),
    "product of 2**64": table({"shape": [1 << 32, 1 << 30], "bytes": 0}),
    "product of 2**64 and a bit": table({"shape": [(1 << 62) + 4], "bytes": 16}),
    "nothing of huge": table({"shape": [0, 1 << 61], "bytes": 0}, body=b""),
    "nothing of hugely many": table({"shape": [0] + [1 << 20] * 4, "bytes": 0}, body=b""),
    "axes": table({"shape": [1] * 9, "bytes": 4}),
    "very many axes": table({"shape": [1] * 100_000}),
    "shape as number": table({"shape": 4}),
    "shape as text": table({"shape": "4"}),
    "shape of lists": table({"shape": [[4]]}),
    "more bytes than the shape": table({"bytes": 20}),
    "beyond the file": table({"shape": [1 << 40], "bytes": 1 << 42}),
    "unaligned": table({"offset": 68}),
    "into the header": table({"offset": 0}),
    "a gap": table({"offset": 128}, body=bytes(128)),
    "overlapping": table({}, {"name": "y"}),
    "repeated by another name": table({}, {"name": "y"}, {"name": "z"}),
    "bytes of nobody": table({}, body=bytes(128)),
    "not in order": table(SECOND, {}, body=bytes(128)),
    "a name twice": table({}, {**SECOND, "name": "x"}, body=bytes(128)),
    "object": table({"dtype": "|O", "shape": [2]}),
    "big-endian": table({"dtype": ">f4"}),
    "native": table({"dtype": "=f4"}),
    "no order": table({"dtype": "f4"}),
    "bool": table({"dtype": "|b1", "shape": [16]}),
    "text": table({"dtype": "<U4", "shape": [1]}),
    "void": table({"dtype": "|V16", "shape": [1]}),
    "complex": table({"dtype": "<c8", "shape": [2]}),
    "record": table({"dtype": [["a", "<f4"]]}),
    "bytes of no size": table({"dtype": "|S0"}),
    "dtype as number": table({"dtype": 4}),
    "dtype of a megabyte": table({"dtype": "f" * 1_000_000}),
    "no dtype": table({"dtype": None}),
    "name of a path": table({"name": "../x"}),
    "no name": table({"name": ""}),
    "name with a zero": table({"name": "x\0"}),
    "name with an end of line": table({"name": "x\n"}),
    "name as number": table({"name": 1}),
    "name of a megabyte": table({"name": "x" * 1_000_000}),
    **{f"row without {key}": without(key) for key in ROW},
}
GOOD = by_hand.container(by_hand.ARRAYS)
FILE = by_hand.manifest_of(GOOD)["files"][0]


def manifest(**changes):
    return by_hand.manifest_text(json.dumps(by_hand.manifest_of(GOOD, **changes)).encode())


def manifest_with_file(**changes):
    return manifest(files=[{**FILE, **changes}])


def manifest_with_name(name):
    return manifest_with_file(name=name)


def manifest_as_text(raw):
    return by_hand.manifest_text(raw)


TEXT = json.dumps(by_hand.manifest_of(GOOD)).encode()
MANIFESTS = {
    "empty": b"",
    "zeros": bytes(500),
    "not JSON": b"annvq-index\n",
    "of an application": b'{"name": "an application", "icons": []}',
    "checksum only": b'{"crc32":"00000000",\n}',
    "no checksum": TEXT,
    "checksum of another": manifest()[:11] + b"0" * 8 + manifest()[19:],
    "checksum in capitals": manifest().replace(manifest()[10:18], manifest()[10:18].upper() + b"A"),
    "more after it": manifest() + b"\n",
    "a list": manifest_as_text(b"[]"),
    "null": manifest_as_text(b"null"),
    "magic": manifest(magic="annvq"),
    "magic as list": manifest(magic=["annvq-index"]),
    "format as number": manifest(format=1),
    "format without major": manifest(format={"minor": 0}),
    "major as text": manifest(format={"major": "1", "minor": 0}),
    "major as float": manifest(format={"major": 1.0, "minor": 0}),
    "major true": manifest(format={"major": True, "minor": 0}),
    "major 0": manifest(format={"major": 0, "minor": 0}),
    "major negative": manifest(format={"major": -1, "minor": 0}),
    "uuid short": manifest(uuid="12"),
    "uuid with braces": manifest(uuid="{" + by_hand.INDEX.hex + "}"),
    "uuid as number": manifest(uuid=1),
    "uuid of another": manifest(uuid="0" * 32),
    "version 0": manifest(version=0),
    "version negative": manifest(version=-1),
    "version huge": manifest(version=1 << 62),
    "version of a hundred digits": manifest(version=10**100),
    "version as float": manifest(version=1.5),
    "config as list": manifest(config=[]),
    "config null": manifest(config=None),
    "files as object": manifest(files={}),
    "files as number": manifest(files=3),
    "file as text": manifest(files=["x"]),
    "file null": manifest(files=[None]),
    "file twice": manifest(files=[FILE, FILE]),
    "file without bytes": manifest(files=[{"name": by_hand.NAME, "uuid": by_hand.FILE.hex, "table_crc32": 0}]),
    "parent": manifest_with_name(f"../segment-{by_hand.FILE.hex}.annvq"),
    "absolute": manifest_with_name(f"/segment-{by_hand.FILE.hex}.annvq"),
    "password file": manifest_with_name("/etc/passwd"),
    "itself": manifest_with_name("manifest.json"),
    "folder": manifest_with_name("."),
    "no name": manifest_with_name(""),
    "name with a zero": manifest_with_name(f"segment-{by_hand.FILE.hex}.annvq\0"),
    "name with an end of line": manifest_with_name(by_hand.NAME + "\n"),
    "name as number": manifest_with_name(1),
    "other kind": manifest_with_name(f"live-{by_hand.FILE.hex}.annvq"),
    "other uuid": manifest_with_file(uuid="0" * 32),
    "uuid in capitals": manifest_with_file(uuid=by_hand.FILE.hex.upper().replace("0", "A")),
    "bytes negative": manifest_with_file(bytes=-1),
    "bytes huge": manifest_with_file(bytes=1 << 61),
    "bytes as text": manifest_with_file(bytes=str(len(GOOD))),
    "checksum of the table": manifest_with_file(table_crc32=1),
    "checksum negative": manifest_with_file(table_crc32=-1),
    "key twice": manifest_as_text(TEXT[:-1] + b',"version":1}'),
    "key twice within": manifest_as_text(TEXT.replace(b'"config": {}', b'"config": {"a":1,"a":2}')),
    "NaN": manifest_as_text(TEXT.replace(b'"config": {}', b'"config": {"a":NaN}')),
    "infinity": manifest_as_text(TEXT.replace(b'"config": {}', b'"config": {"a":-Infinity}')),
    "1e999": manifest_as_text(TEXT.replace(b'"config": {}', b'"config": {"a":-1e999}')),
    "digits": manifest_as_text(TEXT.replace(b'"config": {}', b'"config": {"a":' + b"9" * 1_000_000 + b"}")),
    "deep": manifest_as_text(TEXT.replace(b'"config": {}', b'"config": {"a":' + b"[" * 40 + b"]" * 40 + b"}")),
    "very deep": manifest_as_text(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "many values": manifest_as_text(TEXT.replace(b'"config": {}', b'"config": {"a":[' + b"0," * 300_000 + b"0]}")),
    "many objects": manifest_as_text(TEXT.replace(b'"config": {}', b'"files": [' + b"{}," * 260_000 + b"{}]")),
    "many small objects": manifest_as_text(TEXT.replace(b'"config": {}', b'"x":[' + b'{"":0},' * 80_000 + b"{}]")),
    "many files": manifest(files=[{**FILE, "name": at} for at in range(20_000)]),
    "one long text": manifest_as_text(b'{"a":"' + b"\\u0101" + b"a" * (4_000_000) + b'"}'),
    "longer than is read": manifest(config={"a": "a" * (1 << 22)}),
}


def outcome(call, *args):
    """Return the error's class and text, and the seconds of the processor that a call took."""
    start = time.process_time()
    try:
        call(*args)
    except Exception as error:
        return type(error), str(error), time.process_time() - start
    return None, "", time.process_time() - start


def check_all(cases, spoil, expected, read):
    """Try all cases; each may take 64 MiB of memory at most."""
    tracemalloc.start()
    try:
        for name, raw in cases.items():
            spoil(raw)
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            kind, message, seconds = outcome(read)
            _, peak = tracemalloc.get_traced_memory()
            assert kind is CorruptIndexError, (name, kind, message)
            assert expected in message, (name, message)
            assert len(message) < 1000, name
            assert peak - before < MOST_MEMORY, (name, peak - before)
            assert seconds < 3, name
    finally:
        tracemalloc.stop()


def test_hostile_containers_that_stand_alone(tmp_path):
    file = tmp_path / "one.annvq"
    alone = {name: raw for name, raw in CONTAINERS.items() if name != "other index"}  # no index to belong to
    check_all(alone, file.write_bytes, "one.annvq: ", lambda: read_container(file))


def test_hostile_containers_of_an_index(tmp_path):
    def open_index():
        with Store.open(tmp_path) as store:
            store.verify()

    check_all(CONTAINERS, lambda raw: by_hand.lay_out(tmp_path, raw), f"{by_hand.NAME}: ", open_index)


@pytest.mark.parametrize("mode", ["r", "rw"])
def test_hostile_manifests(tmp_path, mode):
    by_hand.lay_out(tmp_path, GOOD)
    with Store.open(tmp_path) as store:
        store.verify()

    def open_index():
        Store.open(tmp_path, mode, fs=FAST).close()

    # A manifest that is right in itself is found out by the file.
    cases = {name: raw for name, raw in MANIFESTS.items() if name not in BY_THE_FILE}
    check_all(cases, (tmp_path / "manifest.json").write_bytes, "manifest.json: ", open_index)
    cases = {name: MANIFESTS[name] for name in BY_THE_FILE}
    check_all(cases, (tmp_path / "manifest.json").write_bytes, f"{by_hand.FILE.hex}.annvq: ", open_index)


BY_THE_FILE = ("other kind", "uuid of another", "bytes huge", "checksum of the table")


def test_a_huge_file_with_holes_costs_nothing_to_open(tmp_path):
    """One that really is as large as it says: mapped, not read."""
    row = {**ROW, "dtype": "|u1", "shape": [1 << 36], "bytes": 1 << 36}
    small = by_hand.with_table(json.dumps([row]).encode(), b"", start=64 + (1 << 36), total=(1 << 36) + 64 + 128 + 64)
    tail = small[64:]
    assert len(tail) == 128 + 64
    raw = small[:64]
    by_hand.lay_out(tmp_path, raw)
    with open(tmp_path / by_hand.NAME, "r+b") as file:
        file.seek(64 + (1 << 36))
        file.write(tail)
    described = by_hand.manifest_of(tail)
    described["files"][0]["bytes"] = (1 << 36) + 64 + len(tail)
    (tmp_path / "manifest.json").write_bytes(by_hand.manifest_text(json.dumps(described).encode()))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Store.open(tmp_path) as store:
        array = store.sections(by_hand.NAME)["x"]
        assert array.shape == (1 << 36,)
        assert array[-1] == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MEMORY >> 10


@pytest.mark.parametrize("intact", [True, False])
def test_a_newer_format_is_called_newer(tmp_path, intact):
    """Whatever else has changed in it; and that it may be damage where the checksum is not today's."""
    new_head = by_hand.header(major=2, kind=b"?" * 16)
    new_manifest = by_hand.manifest_text(b'{"magic":"annvq-index","format":{"major":2,"minor":1},"files":{"other":[]}}')
    if not intact:
        new_head = new_head[:-1] + b"?"
        new_manifest = b'{"magic": "annvq-index", "format": {"major": 2, "minor": 1}}'
    by_hand.lay_out(tmp_path, GOOD)
    (tmp_path / "manifest.json").write_bytes(new_manifest)
    for mode in ("r", "rw"):
        with pytest.raises(VersionError, match=r"format 2\.1.*reads up to 1") as caught:
            Store.open(tmp_path, mode)
        assert ("damaged" in str(caught.value)) != intact
    assert not (tmp_path / "LOCK").exists()
    by_hand.lay_out(tmp_path, new_head + GOOD[64:])
    for read in (Store.open, lambda path: read_container(path / by_hand.NAME)):
        with pytest.raises(VersionError, match=r"format 2\.0.*reads up to 1") as caught:
            read(tmp_path)
        assert ("damaged" in str(caught.value)) != intact


def test_a_malicious_pickle_beside_the_index_is_not_run(tmp_path):
    make(tmp_path / "index")
    for name in ("index.pkl", "segment.npy", "__init__.py"):
        (tmp_path / "index" / name).write_bytes(b"cos\nsystem\n(S'touch " + bytes(tmp_path / "ran") + b"'\ntR.")
    with Store.open(tmp_path / "index", "rw", fs=FAST) as store:
        store.verify()
    assert not (tmp_path / "ran").exists()


FUZZ = settings(deadline=None, max_examples=150, derandomize=True)
MUTATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 1 << 16), st.integers(0, 255)),
        st.tuples(st.just("drop"), st.integers(0, 1 << 16), st.integers(1, 40)),
        st.tuples(st.just("add"), st.integers(0, 1 << 16), st.binary(min_size=1, max_size=20)),
        st.tuples(
            st.just("add"),
            st.integers(0, 1 << 16),
            st.sampled_from([b"0", b"-", b"9" * 19, b"1e9", b"[", b"]", b"{}", b'"', b",", b"null", b"\\u0000", b"-1"]),
        ),
    ),
    min_size=1,
    max_size=4,
)


def mutated(raw, mutations):
    for kind, at, what in mutations:
        at %= len(raw) + 1
        if kind == "set":
            raw = raw[:at] + bytes([what]) + raw[at + 1 :]
        elif kind == "drop":
            raw = raw[:at] + raw[at + what :]
        else:
            raw = raw[:at] + what + raw[at:]
    return raw


def read_all(store):
    for name in store.names():
        for array in store.sections(name).values():
            array.copy()
    store.verify()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@FUZZ
@given(mutations=MUTATIONS)
def test_any_container(folder, mutations):
    raw = mutated(GOOD, mutations)
    by_hand.lay_out(folder, raw)
    kind, message, _ = outcome(lambda: read_all(Store.open(folder)))
    assert issubclass(kind or AnnvqError, AnnvqError), (kind, message)
    assert kind is not None or raw == GOOD


@FUZZ
@given(mutations=MUTATIONS)
def test_any_section_table_with_right_checksums(folder, mutations):
    rows, body = by_hand.rows_and_body(by_hand.ARRAYS)
    by_hand.lay_out(folder, by_hand.with_table(mutated(json.dumps(rows).encode(), mutations), body))
    kind, message, _ = outcome(lambda: read_all(Store.open(folder)))
    assert issubclass(kind or AnnvqError, AnnvqError), (kind, message)


@FUZZ
@given(mutations=MUTATIONS)
def test_any_manifest_with_a_right_checksum(folder, mutations):
    by_hand.lay_out(folder, GOOD)
    (folder / "manifest.json").write_bytes(by_hand.manifest_text(mutated(TEXT, mutations)))
    kind, message, _ = outcome(lambda: read_all(Store.open(folder)))
    assert issubclass(kind or AnnvqError, AnnvqError), (kind, message)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@FUZZ
@given(data=st.data(), value=JSON)
def test_any_value_in_any_place_of_manifest_or_table(folder, data, value):
    rows, body = by_hand.rows_and_body(by_hand.ARRAYS)
    described = by_hand.manifest_of(GOOD)
    root = {"rows": deepcopy(rows), "manifest": deepcopy(described)}
    places = [(root["rows"], at) for at in range(len(rows))]
    places += [(row, key) for row in root["rows"] for key in row]
    places += [(root["manifest"], key) for key in described]
    places += [(root["manifest"][key], inner) for key, inner in (("format", "major"), ("format", "minor"))]
    places += [(root["manifest"]["files"], 0)]
    places += [(root["manifest"]["files"][0], key) for key in FILE]
    holder, key = data.draw(st.sampled_from(places))
    holder[key] = value
    if root["rows"] != rows:
        by_hand.lay_out(folder, by_hand.with_table(json.dumps(root["rows"]).encode(), body))
    else:
        by_hand.lay_out(folder, GOOD)
        (folder / "manifest.json").write_bytes(by_hand.manifest_text(json.dumps(root["manifest"]).encode()))
    kind, message, _ = outcome(lambda: read_all(Store.open(folder)))
    assert issubclass(kind or AnnvqError, AnnvqError), (kind, message)


@FUZZ
@given(raw=st.binary(max_size=60) | st.text('[]{}:,"0123456789.eE+-truefalsn\\u ').map(str.encode))
def test_json_is_read_as_everyone_reads_it_or_not_at_all(raw):
    try:
        found = parse(raw)
    except ValueError:
        return
    assert found == json.loads(raw)


def test_what_strict_json_accepts():
    value = {"a": [1, -2.5e-3, "ü\n\U0001f600", None, True, {}], "b": 10**19, "c": -(10**18)}
    assert parse(json.dumps(value).encode()) == value
    assert parse(b"[" * 32 + b"]" * 32) is not None
    with pytest.raises(ValueError, match="levels"):
        parse(b"[" * 33 + b"1" + b"]" * 33)


def test_messages_do_not_repeat_what_is_huge(tmp_path):
    by_hand.lay_out(tmp_path, GOOD)
    (tmp_path / "manifest.json").write_bytes(manifest_with_name("x" * 1_000_000))
    with pytest.raises(StorageError) as caught:
        Store.open(tmp_path)
    assert len(str(caught.value)) < 300 + len(os.fspath(tmp_path))
