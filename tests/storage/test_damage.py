"""Every flipped bit, every truncation and every exchange of files is found, and said where."""

import os
import random
import shutil
from collections import defaultdict

import container_by_hand as by_hand
import numpy as np
import pytest
from storage_faults import FAST, Recording, arrays, contents, make

from annvq.errors import CorruptIndexError, StorageError, VersionError
from annvq.storage import Store, read_container, write_container


@pytest.fixture
def path(tmp_path):
    make(tmp_path / "index")
    return tmp_path / "index"


def check(path):
    with Store.open(path) as store:
        store.verify()


def part_at(raw, offset):
    """Return the name of the part of a container, made of `ARRAYS`, that a byte belongs to."""
    rows, _ = by_hand.rows_and_body(by_hand.ARRAYS)
    start = int.from_bytes(raw[-64:-56], "little")
    if offset >= len(raw) - 64:
        return "footer"
    if offset >= start:
        return "section table"
    if offset < 64:
        return "header"
    return "section " + next(row["name"] for row in rows[::-1] if row["offset"] <= offset and row["bytes"])


def flipped(file, bits):
    """Flip one bit after another in a file, yielding its number while it is flipped."""
    descriptor = os.open(file, os.O_RDWR)
    try:
        for bit in bits:
            (before,) = os.pread(descriptor, 1, bit // 8)
            os.pwrite(descriptor, bytes([before ^ 1 << bit % 8]), bit // 8)
            yield bit
            os.pwrite(descriptor, bytes([before]), bit // 8)
    finally:
        os.close(descriptor)


def test_every_flipped_bit_of_a_container_is_found(tmp_path):
    raw = by_hand.container(by_hand.ARRAYS)
    folder = by_hand.lay_out(tmp_path / "index", raw)
    check(folder)
    parts = defaultdict(int)
    newer = 0
    for bit in flipped(folder / by_hand.NAME, range(8 * len(raw))):
        part = part_at(raw, bit // 8)
        try:
            store = Store.open(folder)
        except (CorruptIndexError, VersionError) as error:
            message = str(error)
            newer += isinstance(error, VersionError)
        else:
            assert part.startswith("section ")
            assert part != "section table"
            with pytest.raises(CorruptIndexError) as caught, store:
                store.verify()
            message = str(caught.value)
        assert f"{by_hand.NAME}: " in message
        assert part in message
        parts[part] += 1
    assert set(parts) == {"header", "section codes", "section norms", "section scalar", "section table", "footer"}
    assert newer == 15, "flips of the major version, but for that which makes it 0"
    check(folder)


def test_every_flipped_bit_of_the_manifest_is_found(path):
    size = (path / "manifest.json").stat().st_size
    seen = set()
    for _ in flipped(path / "manifest.json", range(8 * size)):
        with pytest.raises((CorruptIndexError, VersionError), match=r"manifest") as caught:
            Store.open(path)
        seen.add(type(caught.value))
    assert CorruptIndexError in seen
    check(path)


def test_a_manifest_damaged_under_an_open_store_is_found(path):
    with Store.open(path) as store:
        for _ in flipped(path / "manifest.json", [400]):
            with pytest.raises(CorruptIndexError, match="manifest"):
                store.verify()
        store.verify()


def test_flipped_bits_of_a_large_container_are_found(tmp_path):
    rng = random.Random(3)
    sections = {"a": np.arange(300_001, dtype=np.float32), "b": np.ones((7, 150_000), np.uint8)}
    write_container(tmp_path / "one", "any", sections, fs=FAST)
    size = (tmp_path / "one").stat().st_size
    b_starts = 64 + 1_200_064
    for bit in flipped(tmp_path / "one", [8 * rng.randrange(64, size - 1000) + rng.randrange(8) for _ in range(40)]):
        with pytest.raises(CorruptIndexError, match="section a" if bit < 8 * b_starts else "section b"):
            read_container(tmp_path / "one")


def test_verify_reads_every_byte(path):
    with Store.open(path, "rw", fs=FAST) as store:
        store.commit({}, [*store.names(), store.stage("big", {"x": np.arange(400_000)}), store.stage("no", {})])
    recording = Recording()
    opened, covered = {}, defaultdict(list)
    with Store.open(path) as store:
        store._fs = recording
        store.verify()
    for name, args, result in recording.log:
        if name == "open":
            opened[result] = args[0].name
        elif name == "read":
            covered[opened[args[0]]].append((args[1], args[1] + len(result)))
    assert set(covered) == {*store.names(), "manifest.json"}
    for name, ranges in covered.items():
        at = 0
        for start, end in sorted(ranges):
            assert start <= at, name
            at = max(at, end)
        assert at == (path / name).stat().st_size


def test_every_truncation_is_found(path):
    """Cut files are made anew, since a mapped file that shrinks kills whoever reads it."""
    for file in (path / "manifest.json", next(path.glob("segment-*"))):
        raw = file.read_bytes()
        for content in [raw[:length] for length in range(len(raw))] + [raw + bytes(more) for more in (1, 64, 9999)]:
            file.unlink()
            file.write_bytes(content)
            with pytest.raises(CorruptIndexError, match=file.name):
                Store.open(path)
        file.unlink()
        file.write_bytes(raw)
    check(path)


def test_every_truncation_of_a_single_file_is_found(tmp_path):
    file = tmp_path / "codebook"
    write_container(file, "codebook", arrays(1), fs=FAST)
    raw = file.read_bytes()
    for content in [raw[:length] for length in range(len(raw))] + [raw + bytes(more) for more in (1, 64, 9999)]:
        file.unlink()
        file.write_bytes(content)
        with pytest.raises(CorruptIndexError, match="codebook"):
            read_container(file)


def remove(file):
    file.unlink()


def folder_instead(file):
    file.unlink()
    file.mkdir()


def link_to_itself(file):
    file.unlink()
    file.symlink_to(file)


def link_to_nothing(file):
    file.unlink()
    file.symlink_to(file.with_name("nothing"))


def pipe_instead(file):
    file.unlink()
    os.mkfifo(file)


def device_instead(file):
    file.unlink()
    file.symlink_to("/dev/zero")


@pytest.mark.parametrize("mode", ["r", "rw"])
@pytest.mark.parametrize("name", ["manifest.json", "segment"])
@pytest.mark.parametrize(
    "spoil", [remove, folder_instead, link_to_itself, link_to_nothing, pipe_instead, device_instead]
)
def test_something_else_in_a_files_place(path, spoil, name, mode):
    file = next(path.glob(f"{name}*"))
    spoil(file)
    expected = StorageError if spoil is link_to_itself else CorruptIndexError
    with pytest.raises(expected, match=file.name):
        Store.open(path, mode, fs=FAST)


def test_a_file_removed_under_an_open_store_is_missed(path):
    with Store.open(path) as store:
        (path / store.names()[1]).unlink()
        with pytest.raises(CorruptIndexError, match=rf"{store.names()[1]}: the file is missing"):
            store.verify()


def test_files_of_one_index_that_change_places_are_found(path):
    one, other = sorted(path.glob("segment-*"))
    assert one.stat().st_size == other.stat().st_size
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    with pytest.raises(CorruptIndexError, match="not the file that the manifest means"):
        Store.open(path)


def test_files_of_another_index_are_found(path, tmp_path):
    raw = by_hand.container(by_hand.ARRAYS)
    one = by_hand.lay_out(tmp_path / "one", raw)
    stranger = by_hand.container(by_hand.ARRAYS, by_hand.header(index=bytes(range(16))))
    (one / by_hand.NAME).write_bytes(stranger)
    with pytest.raises(CorruptIndexError, match="belongs to another index"):
        Store.open(one)
    shutil.copy(path / "manifest.json", one / "manifest.json")
    with pytest.raises(CorruptIndexError, match="the file is missing"):
        Store.open(one)


def test_the_manifest_of_an_earlier_version_is_found(path):
    shutil.copy(path / "manifest.json", path / "kept")
    with Store.open(path, "rw", fs=FAST) as store:
        store.commit({"names": {}}, [])
    shutil.move(path / "kept", path / "manifest.json")
    with pytest.raises(CorruptIndexError, match="the file is missing"):
        contents(path)
