"""A whole run, with a library of which everything is known."""

import numpy as np

from annvq.bench import ann
from annvq.bench.sweep import Mode
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
    monkeypatch.setattr(ann, "load_peers", lambda name, n, dim, metric: [Exact()])
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
