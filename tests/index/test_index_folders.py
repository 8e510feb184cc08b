"""Folders that are no index, or not the one they should be, are refused with an error that says so."""

import shutil

import pytest
from small_indexes import built

import annvq
from annvq.errors import CorruptIndexError, StorageError, VersionError


def test_files_of_two_indexes_are_not_mixed_up(saved, tmp_path):
    mine, other = tmp_path / "mine", tmp_path / "other"
    built("fp16").save(mine)
    built("fp16").save(other)
    for role in ("trained", "segment", "live"):
        path = shutil.copytree(mine, tmp_path / role)
        (target,), (source,) = path.glob(f"{role}-*"), other.glob(f"{role}-*")
        shutil.copyfile(source, target)
        with pytest.raises(CorruptIndexError, match=target.name):
            annvq.open(path)
    path = shutil.copytree(mine, tmp_path / "manifest")
    shutil.copyfile(other / "manifest.json", path / "manifest.json")
    with pytest.raises(CorruptIndexError, match="missing"):
        annvq.open(path)


def test_what_is_no_index_is_said_to_be_none(saved, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("hello")
    (tmp_path / "file").write_text("hello")
    for name in ("empty", "other", "file"):
        for mode in ("r", "rw"):
            with pytest.raises(CorruptIndexError, match="not an annvq index"):
                annvq.open(tmp_path / name, mode)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["empty", "file", "notes.txt", "other"]
    with pytest.raises(StorageError) as caught:
        annvq.open(tmp_path / "nowhere")
    assert not isinstance(caught.value, CorruptIndexError)
    for place in (tmp_path / "other", tmp_path / "file"):
        with pytest.raises(StorageError):
            built("fp32").save(place)
    assert (tmp_path / "other" / "notes.txt").read_text() == (tmp_path / "file").read_text() == "hello"


def test_a_newer_format_is_said_to_be_newer(saved, tmp_path):
    path = shutil.copytree(saved("fp32"), tmp_path / "index")
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text.replace('"major":1', '"major":2'))
    with pytest.raises(VersionError, match="format 2"):
        annvq.open(path)


def test_a_missing_file_is_named(saved, tmp_path):
    for role in ("trained", "segment", "live"):
        path = shutil.copytree(saved("pq4"), tmp_path / role)
        (target,) = path.glob(f"{role}-*")
        target.unlink()
        with pytest.raises(CorruptIndexError, match=target.name):
            annvq.open(path)
