"""What is written "whole or not at all" is on the disk before it takes the place of the old file, and named after."""

import errno
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from annvq import codebooks, io
from annvq.bench.report import write_json
from annvq.io.replacing import replacing

sys.path.append(str(Path(__file__).parents[1] / "storage"))
from storage_faults import Failing, Recording, os_error

VECTORS = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)


def write_vectors(suffix):
    def write(path):
        if suffix == ".hdf5":
            pytest.importorskip("h5py")
        io.write(path, VECTORS)

    return write


def write_table(path):
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    import annvq.tables

    annvq.tables.INT8(40, 8).export(path)


def write_weights(path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    from annvq.tokenizers.weights import save_weights

    save_weights(path, torch.nn.Linear(3, 2))


def write_codes(path):
    torch = pytest.importorskip("torch")
    from annvq.tokenizers.codes.arrow import write_codes

    write_codes(path, [torch.zeros(3, 2, dtype=torch.int64)], 8)


def write_checkpoint(path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    from annvq.learn.training import checkpoint

    checkpoint.save(path, {"student": {"w": torch.ones(3)}}, torch.optim.SGD([torch.ones(1)]), checkpoint.Advance(), "")


def write_embeddings(path):
    from annvq.evaluation import embeddings

    embeddings._write(path.parent, path.name, {}, ["a"], VECTORS[:1])
    return path.with_name(f"{path.name}.npy")


def write_hits(path):
    import annvq
    from annvq.cli import search

    annvq.build(VECTORS, "Flat").save(path.parent / "index")
    np.save(path.parent / "queries.npy", VECTORS[:3])
    search.command(path.parent / "index", path.parent / "queries.npy", out=path, k=2)


WRITERS = {
    **{
        f"x{suffix}": write_vectors(suffix)
        for suffix in (".npy", ".npz", ".fvecs", ".fbin", ".parquet", ".arrow", ".hdf5")
    },
    "codebook": lambda path: codebooks.save(path, codebooks.ScalarCodebook.train(VECTORS)),
    "result.json": lambda path: write_json(path, "bench ann", {}, []),
    "table.safetensors": write_table,
    "weights.safetensors": write_weights,
    "codes.arrow": write_codes,
    "checkpoint.safetensors": write_checkpoint,
    "embeddings": write_embeddings,
    "hits.parquet": write_hits,
}


@pytest.mark.parametrize("name", WRITERS)
def test_bytes_are_synced_then_renamed_then_the_folder_is_synced(tmp_path, monkeypatch, name):
    log, sync, replace = [], os.fsync, os.replace

    def noted_sync(descriptor):
        sync(descriptor)
        found = os.fstat(descriptor)
        log.append(("sync", found.st_ino, found.st_size))

    def noted_replace(source, target):
        found = os.stat(source)
        log.append(("replace", found.st_ino, found.st_size, Path(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "replace", noted_replace)
    path = WRITERS[name](tmp_path / name) or tmp_path / name
    (at,) = (number for number, entry in enumerate(log) if entry[0] == "replace" and entry[3] == path)
    _, inode, size, _ = log[at]
    assert size > 0
    assert ("sync", inode, size) in log[:at], "renamed before all of its bytes were forced to the disk"
    folder = os.stat(tmp_path).st_ino
    assert any(entry[:2] == ("sync", folder) for entry in log[at:]), "the new name was not forced to the disk"
    assert not [left for left in os.listdir(tmp_path) if left.endswith((".tmp", ".partial"))]


@pytest.mark.parametrize("after", [False, True], ids=["instead", "after"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_every_operation_fails(tmp_path, number, after):
    path = tmp_path / "file"
    outcomes = set()
    for at in range(1, 100):
        path.write_text("old")
        failing, error = Failing(at, os_error(number), after), None
        try:
            with replacing(path, fs=failing) as partial:
                partial.write_text("new")
        except OSError as raised:
            error = raised
            assert (error.errno, error.filename) == (number, str(path))
        renamed = path.read_text() == "new"
        assert renamed == (error is None or failing.failed == "sync_folder" or (failing.failed == "replace" and after))
        leftover = [name for name in os.listdir(tmp_path) if name != "file"]
        assert leftover == [] or at <= 2, "nothing is left, unless the file is made and creating it is said to fail"
        for name in leftover:
            os.unlink(tmp_path / name)
        if failing.failed is None:
            assert error is None
            break
        outcomes.add(failing.failed)
    assert outcomes == {"create", "close", "reopen", "sync", "replace", "sync_folder"}


def test_an_error_of_the_block_leaves_the_old_file_and_syncs_nothing(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    recording = Recording()
    with pytest.raises(NotADirectoryError), replacing(path, fs=recording) as partial:
        (partial / "below").write_text("half")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]
    assert [name for name, _, _ in recording.log] == ["create", "close", "remove"]
