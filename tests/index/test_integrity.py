"""Damage on disk: found before any of it is written again, and nothing that changes under an open index crashes it."""

import os
from contextlib import contextmanager

import numpy as np
import pytest
from hostile_indexes import KINDS, NEW_SETS, is_multi, new_ids, opened, save
from small_indexes import BASE

import annvq
from annvq.errors import CorruptIndexError
from annvq.storage.container import Container
from annvq.storage.filesystem import LOCAL


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """Return the folder of a saved index of a kind, with two segments and removed rows, which stays as it is."""
    folder = tmp_path_factory.mktemp("integrity")

    def path_of(kind):
        if not (folder / kind).exists():
            save(kind, folder / kind)
        return folder / kind

    return path_of


def sections_of(path, prefix):
    """Yield (file, section) of an index's containers of a kind that hold anything."""
    for file in sorted(path.glob(f"{prefix}-*.annvq")):
        yield from ((file, section) for section in Container(LOCAL, file).table if section.nbytes)


@contextmanager
def flipped(file, section, bit=3):
    """Flip a bit in the middle of a section while the block runs, in place: mappings see it."""
    at = section.offset + section.nbytes // 2
    with file.open("r+b") as raw:
        before = os.pread(raw.fileno(), 1, at)
        os.pwrite(raw.fileno(), bytes([before[0] ^ 1 << bit]), at)
        try:
            yield
        finally:
            os.pwrite(raw.fileno(), before, at)


def compact(index, kind, path):
    index.compact()


def add(index, kind, path):
    """Add as many rows as make all segments one."""
    rows = NEW_SETS if is_multi(kind) else BASE[:100] - np.float32(0.5)
    columns = {"year": [1] * len(rows), "name": ["n1"] * len(rows)}
    index.add(rows, ids=new_ids(kind, 50, len(rows)), attributes=columns)


def save_elsewhere(index, kind, path):
    index.save(path.parent / f"{path.name}-elsewhere")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", [compact, add, save_elsewhere])
def test_damage_is_not_written_again_with_a_right_checksum(kind, way, folder_of):
    path = folder_of(kind)
    manifest = (path / "manifest.json").read_bytes()
    names = sorted(os.listdir(path))
    tried = 0
    for file, section in sections_of(path, "segment"):
        with opened(path, kind, "rw") as index:
            live, version = len(index), index.version
            with flipped(file, section), pytest.raises(CorruptIndexError) as caught:
                way(index, kind, path)
            assert f"{file.name}: section {section.name}: " in str(caught.value)
            assert (len(index), index.version) == (live, version)
        tried += 1
    assert tried >= 10
    assert (path / "manifest.json").read_bytes() == manifest
    assert [name for name in sorted(os.listdir(path)) if name != "LOCK"] == [name for name in names if name != "LOCK"]
    assert not (path.parent / f"{path.name}-elsewhere").exists()
    with opened(path, kind, verify=True) as index:
        assert len(index) == live


@pytest.mark.parametrize("kind", ["pq4", "spill", "tokens-pq"])
def test_damage_that_came_before_opening_is_not_written_again_either(kind, folder_of):
    path = folder_of(kind)
    for file, section in sections_of(path, "segment"):
        for way in (compact, add, save_elsewhere):
            with flipped(file, section), pytest.raises(CorruptIndexError) as caught:
                with opened(path, kind, "rw") as index:
                    way(index, kind, path)
            assert file.name in str(caught.value)
            assert f"section {section.name.removeprefix('array.')}" in str(caught.value).replace("array.", "")
    with opened(path, kind, verify=True):
        pass


@pytest.mark.parametrize("kind", KINDS)
def test_what_opening_reads_whole_is_checked_then(kind, folder_of):
    """What was learned, which everything added is coded with, and removed rows, which `remove` writes again."""
    path = folder_of(kind)
    for prefix in ("trained", "live"):
        for file, section in sections_of(path, prefix):
            for bit in (0, 6):
                with flipped(file, section, bit), pytest.raises(CorruptIndexError) as caught:
                    opened(path, kind)
                assert f"{file.name}: section {section.name}: wrong checksum" in str(caught.value)


@pytest.mark.parametrize("kind", ["pq4", "tokens-pq"])
def test_saving_elsewhere_checks_what_was_learned_again(kind, folder_of):
    path = folder_of(kind)
    with opened(path, kind) as index:
        for file, section in sections_of(path, "trained"):
            with flipped(file, section), pytest.raises(CorruptIndexError, match=file.name) as caught:
                save_elsewhere(index, kind, path)
            assert f"section {section.name}: wrong checksum" in str(caught.value)


@pytest.mark.parametrize("kind", ["fp32", "pq4", "tokens-fp32"])
def test_a_reader_may_have_everything_checked_first(kind, folder_of):
    path = folder_of(kind)
    seen = 0
    for file, section in sections_of(path, "segment"):
        if section.name.startswith("array.") and "offsets" not in section.name:
            with flipped(file, section):
                opened(path, kind).close()  # it is not read
                with pytest.raises(CorruptIndexError, match=f"{file.name}: section {section.name}: wrong checksum"):
                    opened(path, kind, verify=True)
            seen += 1
    assert seen


def test_segments_of_a_build_into_a_folder_are_checked_before_they_are_merged(tmp_path):
    index = annvq.build(BASE, "IVF3,PQ5x4fs,Refine(SQ8)", path=tmp_path / "index")
    (file,) = (tmp_path / "index").glob("segment-*")
    index.add(BASE[:10] + np.float32(1))
    for section in Container(LOCAL, file).table:
        if section.nbytes:
            with flipped(file, section), pytest.raises(CorruptIndexError, match=f"section {section.name}: wrong"):
                index.compact()
    index.compact()
    index.verify()
    assert len(index) == len(BASE) + 10


def test_a_reader_whose_files_are_gone_is_checked_as_it_sees_them(folder_of, tmp_path):
    """Or others of the same name are there: what is mapped is what would be copied."""
    save("pq4", tmp_path / "index")
    reader = annvq.open(tmp_path / "index")
    kept = {file: file.read_bytes() for file in (tmp_path / "index").glob("segment-*")}
    with annvq.open(tmp_path / "index", "rw") as writer:
        writer.compact()
    reader.save(tmp_path / "copied")
    with annvq.open(tmp_path / "copied", verify=True) as copied:
        assert len(copied) == len(reader)
    for file, raw in kept.items():
        file.write_bytes(raw[:-100] + bytes(100))  # another file, and a damaged one
    reader.save(tmp_path / "again")
    annvq.open(tmp_path / "again", verify=True).close()
