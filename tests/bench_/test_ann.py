"""A whole run, with a library of which everything is known."""

import sys

import numpy as np
import pytest

from annvq.bench import ann
from annvq.bench.sweep import Mode
from annvq.errors import AnnvqError, ParameterError
from annvq.progress import shown

MODES = (Mode(True, 1), Mode(False, 1))


class Exact:
    lib, recipe = "other", "exact"

    def build(self, base, metric, threads):
        self.base = base

    def settings(self, k):
        return [[{"s": 1}]]

    def set(self, params):
        assert params == {"s": 1}

    def search(self, queries, k, threads):
        # Libraries in C++ read memory in order, whether or not the array says so.
        assert queries.flags.c_contiguous
        assert queries.dtype == np.float32
        distances = ((queries[:, None] - self.base) ** 2).sum(axis=2)
        return np.argsort(distances, axis=1)[:, :k]

    def bytes_per_vector(self):
        return 256.0


def test_every_mode_has_points_and_comparisons(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    base = rng.normal(size=(300, 16)).astype(np.float32)
    np.savez(tmp_path / "data.npz", base=base, query=base[:40] + 0.01, metric=np.array("l2"))
    monkeypatch.setattr(ann, "load_peers", lambda name, n, dim, metric, gpu: [Exact()])
    asked = ann.AnnBench(("flat",), ("faiss",), k=5, modes=MODES)
    kept = []
    with shown() as progress:
        result = ann.run(tmp_path / "data.npz", asked, progress, kept.append)
    assert result.skipped == {}
    for mode in MODES:
        assert {(point.lib, point.recall) for point in result.points if point.mode == mode} == {
            ("annvq", 1.0),
            ("other", 1.0),
        }
        beside = [one for one in result.comparisons if one.point.mode == mode]
        assert [one.target for one in beside] == [0.90, 0.95, 0.99]
        assert all(one.own.recipe == "flat" and one.ratio > 0 for one in beside)
    assert len(kept) == 3  # after each index, and at the end


def test_batches_larger_than_half_of_the_queries_are_left_out(tmp_path, monkeypatch):
    base = np.random.default_rng(0).normal(size=(60, 16)).astype(np.float32)
    np.savez(tmp_path / "data.npz", base=base, query=base[:30] + 0.01, metric=np.array("l2"))
    sizes = set()

    class Sized(Exact):
        def search(self, queries, k, threads):
            sizes.add(len(queries))
            return super().search(queries, k, threads)

    monkeypatch.setattr(ann, "load_peers", lambda name, n, dim, metric, gpu: [Sized()])
    asked = ann.AnnBench(("flat",), ("faiss",), k=5, modes=ann.device_modes(1))
    assert [str(mode) for mode in asked.modes] == [
        "one query per call, threads 1", "batches of 10, threads 1", "batches of 1,000, threads 1",
        "batches of 10,000, threads 1",
    ]  # fmt: skip
    with shown() as progress:
        result = ann.run(tmp_path / "data.npz", asked, progress, lambda result: None)
    assert result.config["modes"] == [{"single": True, "threads": 1}, {"single": False, "threads": 1, "batch": 10}]
    assert {row.get("batch") for row in result.rows()} == {None, 10}
    assert sizes == {1, 10, 5, 15}  # one by one, ten and the five that are left, and one to warm up with


def test_a_device_is_looked_for_before_anything_is_measured(monkeypatch):
    with pytest.raises(ParameterError, match="device: 'gpu', expected 'cpu', 'cuda'"):
        ann.AnnBench(device="gpu")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(AnnvqError, match="torch is not installed"):
        ann.AnnBench(device="cuda")


def test_peers_use_the_gpu_of_annvq():
    assert ann.AnnBench().gpu == "cuda"


def test_libraries_for_gpus_are_skipped_with_the_reason(tmp_path, monkeypatch):
    base = np.random.default_rng(0).normal(size=(60, 16)).astype(np.float32)
    np.savez(tmp_path / "data.npz", base=base, query=base[:8], metric=np.array("l2"))
    monkeypatch.setitem(sys.modules, "cuvs", None)
    asked = ann.AnnBench(("flat",), ("cuvs",), k=5)
    with shown() as progress:
        result = ann.run(tmp_path / "data.npz", asked, progress, lambda result: None)
    assert "annvq[bench-gpu]" in result.skipped["cuvs"]
    assert (result.config["device"], result.config["peers"]) == ("cpu", {})
    assert isinstance(result.config["gpus"], list)
