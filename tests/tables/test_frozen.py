"""Files: without torch, damaged, hostile; partitions and packed codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

import torch
from safetensors.numpy import load_file, save_file

from annvq import tables
from annvq.errors import CorruptIndexError, DataFormatError, VersionError
from annvq.kernels.compile.jit import kernel
from annvq.kernels.embeddings import mixing
from annvq.tables.frozen import codes, kinds
from annvq.tables.frozen.partition import Partition

PRUNED = ("DNIS", "AutoSrh", "DeepLight", "PEP", "OptEmbed")
ROOT = Path(__file__).parents[2]
RATIO = {"FP16": 2, "INT8": 3, "INT16": 1.8, "DHE": 0.5, "RaBitQ": 1, "ALPT": 2, "DPQ": 0.5, "MGQE": 0.5}


def test_a_file_is_read_without_torch(tmp_path):
    torch.manual_seed(0)
    table = tables.PQ(100, 8, ratio=2)
    table.export(tmp_path / "table.safetensors")
    code = (
        "import sys; from annvq import tables; t = tables.open(sys.argv[1]); "
        "print(float(t([1, 2]).sum()), float(t.bag([1, 2], [0], mode='sum').sum()), 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "table.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ)
    assert done.returncode == 0, done.stderr
    rows, bag, torch_is_there = done.stdout.split()
    expected = float(table(torch.tensor([1, 2])).detach().sum())
    assert (float(rows), float(bag)) == (pytest.approx(expected, rel=1e-4), pytest.approx(expected, rel=1e-4))
    assert torch_is_there == "False"


@pytest.fixture
def saved(tmp_path):
    """Return a function that saves a table and one that saves it again, changed."""

    def save(method):
        torch.manual_seed(0)
        path = tmp_path / f"{method}.safetensors"
        tables.METHODS[method](150, 8, ratio=RATIO.get(method, 2)).finish().export(path)
        from safetensors import safe_open

        with safe_open(path, "numpy") as opened:
            return path, load_file(path), json.loads(opened.metadata()["annvq.table"])

    return save


def rewrite(path, arrays, about):
    save_file(arrays, path, metadata={"annvq.table": json.dumps(about)})


@pytest.mark.parametrize("method", sorted(tables.METHODS))
def test_arrays_that_do_not_fit_are_refused(method, saved):
    path, arrays, about = saved(method)
    assert len(tables.open(path)) == 150
    for name, array in arrays.items():
        rewrite(path, {key: value for key, value in arrays.items() if key != name}, about)
        with pytest.raises(CorruptIndexError):
            tables.open(path)
        for wrong in (array[..., :-1], array.astype(np.float64), array[None]):
            rewrite(path, {**arrays, name: np.ascontiguousarray(wrong)}, about)
            if wrong.shape == array[..., :-1].shape and name in ("weight", "array", "shared") and array.ndim == 1:
                continue
            with pytest.raises(CorruptIndexError):
                tables.open(path)
        if array.dtype.kind == "f":
            rewrite(path, {**arrays, name: np.full_like(array, np.nan)}, about)
            with pytest.raises(CorruptIndexError, match="NaN"):
                tables.open(path)
        if array.dtype == np.int32:
            rewrite(path, {**arrays, name: array + 10**6}, about)
            with pytest.raises(CorruptIndexError):
                tables.open(path)
    for key, wrong in (
        ("kind", "unknown"), ("kind", None), ("num_embeddings", 0), ("num_embeddings", 10**12), ("embedding_dim", 9),
        ("embedding_dim", "8"), ("padding_idx", 150), ("padding_idx", True), ("settings", 3),
    ):  # fmt: skip
        if (key, wrong) == ("num_embeddings", 10**12) and method in ("Hash", "ROBE", "DHE", "FP16"):
            continue  # any number of rows
        if (key, wrong) == ("embedding_dim", 9) and method in ("ROBE", "TTRec", *PRUNED):
            continue  # rows of any length, or longer ones; what is not stored is zero
        rewrite(path, arrays, {**about, key: wrong})
        with pytest.raises(CorruptIndexError):
            tables.open(path)
    rewrite(path, arrays, {**about, "format": 99})
    with pytest.raises(VersionError):
        tables.open(path)


def test_files_that_are_no_tables(tmp_path, saved):
    path, arrays, _ = saved("Hash")
    whole = path.read_bytes()
    for content in (b"", whole[:100], whole[:-1], b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(CorruptIndexError):
            tables.open(path)
    save_file(arrays, path)
    with pytest.raises(CorruptIndexError, match="no table"):
        tables.open(path)
    save_file(arrays, path, metadata={"annvq.table": "[" * 100_000})
    with pytest.raises(CorruptIndexError, match="header"):
        tables.open(path)
    with pytest.raises(FileNotFoundError):
        tables.open(tmp_path / "nothing")


def test_every_name_that_is_promised_is_there():
    assert set(tables.METHODS) < set(tables.__all__)
    assert all(getattr(tables, name) is not None for name in tables.__all__)
    assert all(tables.METHODS[name].method == name for name in tables.METHODS)
    with pytest.raises(AttributeError, match="Zip"):
        _ = tables.Zip


def test_every_kind_is_read_by_its_name():
    assert all(form.kind == name for name, form in kinds.KINDS.items())


@pytest.mark.parametrize("groups", [1, 2, 3, 5, 16, 17, 200])
def test_partitions_find_groups_and_places(groups):
    rng = np.random.default_rng(groups)
    for n in (1, 7, 128, 1000, 9001):
        labels = rng.integers(0, groups, n)
        partition = Partition.of(labels, groups)
        assert sum(a.nbytes for a in partition.arrays().values()) == Partition.nbytes(n, groups)
        ids = rng.integers(0, n, 300)
        found, places = partition.find(ids)
        np.testing.assert_array_equal(found, labels[ids])
        expected = [(labels[:i] == labels[i]).sum() for i in ids]
        np.testing.assert_array_equal(places, expected)
        again = Partition.from_arrays(n, groups, partition.arrays())
        np.testing.assert_array_equal(again.find(ids)[1], expected)


@pytest.mark.parametrize("bits", [4, 6, 8])
@pytest.mark.parametrize("M", [1, 2, 3, 8, 13])
def test_packed_codes_come_back(bits, M):
    given = np.random.default_rng(M).integers(0, 1 << bits, (37, M)).astype(np.uint8)
    rows = codes.packed(given, bits)
    assert rows.shape == (37, -(-M * bits // 8))
    np.testing.assert_array_equal(codes.unpacked(rows, M, bits), given)


@kernel
def pair_kernel(x, y, seed):
    return mixing.mix_kernel(
        mixing.mix_kernel(mixing.mix_kernel(x) + mixing.START * (x >> 32) + seed) + mixing.STEP * y
    )


def test_the_hash_is_the_same_everywhere_and_even():
    ids = np.concatenate([np.arange(50_000), [2**31 - 1, 2**31, 2**40 + 5]])
    with_numpy = mixing.hash_pair(ids, 3, 7)
    with_torch = mixing.hash_pair(torch.from_numpy(ids), torch.tensor(3), 7).numpy()
    with_numba = np.array([pair_kernel(i, 3, 7) for i in ids[-100:]])
    np.testing.assert_array_equal(with_numpy, with_torch)
    np.testing.assert_array_equal(with_numpy[-100:], with_numba)
    assert with_numpy.min() >= 0
    assert with_numpy.max() < 2**32
    assert len(np.unique(mixing.mix(np.arange(100_000)))) == 100_000
    counts = np.bincount(with_numpy % 64, minlength=64)
    assert np.abs(counts / counts.mean() - 1).max() < 0.2
    assert abs(np.corrcoef(mixing.hash_pair(ids, 0, 0), mixing.hash_pair(ids, 1, 0))[0, 1]) < 0.02


@pytest.mark.parametrize("method", sorted(tables.METHODS))
def test_dimensions_that_no_table_has(method, saved):
    path, arrays, about = saved(method)
    for d in (65_537, 2**40, 2**61):
        rewrite(path, arrays, {**about, "embedding_dim": d})
        with pytest.raises(CorruptIndexError):
            tables.open(path)


def test_a_sparse_table_without_values_takes_no_memory(tmp_path):
    n, path = 2**20, tmp_path / "table.safetensors"
    arrays = Partition.of(np.ones(n, np.int64), 2).arrays()
    about = {"format": 1, "kind": "sparse", "method": "PEP", "num_embeddings": n, "embedding_dim": 65_536}
    rewrite(path, arrays, {**about, "padding_idx": None, "settings": {"rows": 0}})
    opened = tables.open(path)  # 256 GiB as floats
    assert not opened([0, n - 1]).any()
    assert opened.nbytes == sum(array.nbytes for array in arrays.values())


def test_a_table_that_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataFormatError, match="named pipe"):
        tables.open(tmp_path / "pipe")
