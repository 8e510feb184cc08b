"""``annvq table``: a weight matrix to a table, and its figures and rows back."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

import torch

from annvq import io, tables
from annvq.tables.registry import FIXED_SIZE


@pytest.fixture(scope="module")
def weight():
    """(600, 16) float32 around 30 centres."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(30, 16))
    return (centres[rng.integers(0, 30, 600)] + 0.2 * rng.normal(size=(600, 16))).astype(np.float32)


@pytest.fixture
def table(tmp_path, weight, annvq_command):
    np.save(tmp_path / "weight.npy", weight)
    path = tmp_path / "table.safetensors"
    code, _, err = annvq_command("table", "compress", tmp_path / "weight.npy", "-o", path, "--ratio", 8)
    assert code == 0, err
    return path


def test_the_table_is_that_of_python(table, tmp_path, weight, annvq_command):
    layer = tables.compress(torch.nn.Embedding.from_pretrained(torch.from_numpy(weight)), "PQ", ratio=8)
    opened = tables.open(table)
    assert np.array_equal(opened(np.arange(600)), layer.decoded())
    compress = ("table", "compress", tmp_path / "weight.npy", "-o", tmp_path / "t2.safetensors", "--ratio", 8)
    code, out, err = annvq_command(*compress, "--json", "-")
    assert code == 0, err
    report = json.loads(out)
    lost = np.square(layer.decoded() - weight).sum() / np.square(weight - weight.mean(0)).sum()
    assert report["error"] == pytest.approx(lost, rel=1e-4)
    assert (report["bytes"], report["num_embeddings"], report["method"]) == (layer.nbytes, 600, "PQ")
    assert f"{layer.nbytes / 1e6:.4f} MB ({report['compression']:.1f}x smaller" in err
    assert f"{report['error']:.4f} of the variance lost" in err


@pytest.mark.parametrize("suffix", [".parquet", ".npz", ".safetensors"])
def test_weights_have_the_format_of_their_suffix(table, tmp_path, weight, annvq_command, suffix):
    path = tmp_path / f"weight{suffix}"
    if suffix == ".safetensors":
        tensors = {"emb.weight": torch.from_numpy(weight).bfloat16(), "bias": torch.zeros(3)}
        pytest.importorskip("safetensors.torch").save_file(tensors, path)
    else:
        io.write(path, weight)
    compress = ("table", "compress", path, "-o", tmp_path / "t.safetensors", "--bytes", tables.open(table).nbytes)
    code, _, err = annvq_command(*compress)
    assert code == 0, err
    rows = tables.open(tmp_path / "t.safetensors")(np.arange(600))
    assert np.square(rows - weight).sum() < 0.5 * np.square(weight).sum()
    if suffix == ".safetensors":
        assert annvq_command(*compress, "--vector-column", "emb.weight")[0] == 0
        code, _, err = annvq_command(*compress, "--vector-column", "bias")
        assert (code, "matrices: emb.weight" in err) == (1, True)
    else:
        assert np.array_equal(rows, tables.open(table)(np.arange(600)))


def test_figures_of_a_table(table, annvq_command):
    found = json.loads(annvq_command("table", "info", table, "--json", "-")[1])
    assert found["bytes"] == tables.open(table).nbytes == sum(found["arrays"].values())
    code, out, err = annvq_command("table", "info", table)
    assert code == 0, err
    assert f"{found['bytes'] / 1e6:.4f} MB" in out
    code, out, err = annvq_command("table", "verify", table)
    assert (code, "readable, 600 rows" in out) == (0, True), err


def test_rows_are_exported(table, tmp_path, annvq_command):
    expected = tables.open(table)(np.arange(600))
    assert "600 rows" in annvq_command("table", "export", table, "-o", tmp_path / "rows.npy")[1]
    assert np.array_equal(np.load(tmp_path / "rows.npy"), expected)
    assert annvq_command("table", "export", table, "-o", tmp_path / "rows.parquet")[0] == 0
    rows = pq.read_table(tmp_path / "rows.parquet")
    assert rows["id"].to_pylist() == list(range(600))
    assert np.array_equal(np.array(rows["vector"].to_pylist(), np.float32), expected)
    lines = [json.loads(line) for line in annvq_command("table", "export", table, 14, 3)[1].splitlines()]
    assert [line["id"] for line in lines] == [14, 3]
    assert np.allclose([line["vector"] for line in lines], expected[[14, 3]])
    code, _, err = annvq_command("table", "export", table, 600)
    assert (code, "0 to 599" in err) == (1, True)


def test_mistakes_are_named_and_nothing_is_written(table, tmp_path, weight, annvq_command):
    before = table.read_bytes()
    compress = ("table", "compress", tmp_path / "weight.npy", "-o", table, "--method")
    np.save(tmp_path / "nan.npy", np.where(weight > 2, np.nan, weight))
    for command, code, reason in (
        ((*compress, "Zip", "--ratio", 8), 2, "unknown method 'Zip'"),
        ((*compress, "PQ"), 2, "PQ needs --ratio or --bytes"),
        ((*compress, "PQ", "--ratio", 8, "--bytes", 800), 2, "not both"),
        ((*compress, "PQ", "--ratio", -1), 2, "not above 0"),
        ((*compress, "PQ", "--ratio", 1e9), 1, "takes at least"),
        ((*compress, "DeepLight", "--ratio", 3), 0, ""),
        (("table", "compress", tmp_path / "nan.npy", "-o", table, "--ratio", 8), 1, "holds NaN or infinity"),
        (("table", "compress", tmp_path / "no.safetensors", "-o", table, "--ratio", 8), 1, "no.safetensors"),
        (("table", "info", tmp_path / "weight.npy"), 1, "no safetensors file"),
        (("table", "export", table, "-o", tmp_path / "rows.txt"), 2, "by the suffix"),
    ):
        result = annvq_command(*command)
        assert (result[0], reason in " ".join(result[2].split())) == (code, True), result
        if code:
            assert table.read_bytes() == before
        before = table.read_bytes()
    table.write_bytes(before[: len(before) // 2])
    for command in (("verify", table), ("info", table), ("export", table)):
        code, out, err = annvq_command("table", *command)
        assert (code, out, err.count("\n")) == (1, "", 1)


def test_methods_of_a_fixed_size_are_those_that_need_no_budget():
    def needs_none(cls):
        return cls._natural(100, 16) is not None

    assert {name for name in tables.METHODS if needs_none(tables.METHODS[name])} == set(FIXED_SIZE)


def test_a_method_without_budget(table, tmp_path, annvq_command):
    code, out, err = annvq_command(
        "table", "compress", tmp_path / "weight.npy", "-o", tmp_path / "t.safetensors", "--method", "INT8"
    )
    assert (code, "INT8, 600 rows of 16 dimensions" in out) == (0, True), err


def test_without_torch_the_extra_is_named(table, tmp_path, annvq_command, monkeypatch):
    import sys

    for name in [name for name in sys.modules if name.startswith(("annvq.learn.runtime", "annvq.tables.models"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    code, _, err = annvq_command("table", "compress", tmp_path / "weight.npy", "-o", tmp_path / "t", "--ratio", 8)
    assert (code, "annvq[train]" in err) == (1, True), err
    assert annvq_command("table", "info", table)[0] == 0  # needs none
