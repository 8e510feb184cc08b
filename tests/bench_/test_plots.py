import numpy as np
import pytest

pytest.importorskip("matplotlib")

from annvq.bench import plots
from annvq.bench.quality import Quality
from annvq.bench.sweep import Mode, Point

PNG = b"\x89PNG"


def test_speed_is_drawn_even_where_nothing_is_good(tmp_path):
    good = [
        Point("annvq", "fast", Mode(True, 1), {}, 0.9, 5.0, recall, qps, 1, 1, 1, 1, 1, 1)
        for recall, qps in ((0.7, 9.0), (0.9, 5.0))
    ]
    poor = [Point("faiss", "IVF", Mode(True, 1), {}, 0.1, 5.0, 0.1, 5.0, 1, 1, 1, 1, 1, 1)]
    plots.recall_against_speed([good, poor], tmp_path / "new" / "speed.png", "title")
    assert (tmp_path / "new" / "speed.png").read_bytes().startswith(PNG)


def test_indexes_of_one_library_share_a_marker(monkeypatch, tmp_path):
    def line(lib, recipe):
        return [Point(lib, recipe, Mode(True, 1), {}, 0.9, 5.0, 0.9, 5.0, 1, 1, 1, 1, 1, 1)]

    kept = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: kept.append(figure))
    groups = [line(*index) for index in (("annvq", "a"), ("annvq", "b"), ("x", "1"), ("y", "1"), ("x", "2"))]
    plots.recall_against_speed(groups, tmp_path / "speed.png", "title")
    drawn = kept[0].axes[0].get_lines()
    a, b, x, y, other_x = [(line.get_color(), line.get_marker()) for line in drawn]
    assert x == other_x
    assert len({a, b, x, y}) == 4
    assert [line.get_markerfacecolor() == "white" for line in drawn] == [False, False, False, False, True]


def test_quality_is_drawn_for_more_recipes_than_colours(tmp_path):
    values = {"ndcg@10": np.linspace(0, 1, 50), "recall@10_vs_exact": np.ones(50)}
    qualities = [Quality(f"r{i}", {"ndcg@10": 0.5}, 10.0 + i // 2, 3.0, 1.0, 1.0, 1.0, values) for i in range(13)]
    qualities.append(Quality("flat", {"ndcg@10": 0.6}, 1536.0, 1.0, 1.0, 1.0, 1.0))
    plots.quality_against_size(qualities, tmp_path / "quality.png", "title")
    assert (tmp_path / "quality.png").read_bytes().startswith(PNG)
    drawn = (tmp_path / "quality.svg").read_text()
    assert "r0 = r1" in drawn  # at one place: neither hides the other
    assert "bootstrap" in drawn


def test_tables_are_drawn_with_what_they_reached(tmp_path):
    rows = [
        {"method": method, "ratio": ratio, "reached": 64_000 / size, "bytes": size, "auc": 0.7, "auc_std": 0.01}
        for method, ratio, size in (("uncompressed", 1.0, 64_000), ("PEP", 2.0, 22_000), ("PEP", 10.0, 4_384))
    ]
    plots.quality_against_bytes(rows, tmp_path / "tables.png", "title", "auc")
    assert (tmp_path / "tables.png").read_bytes().startswith(PNG)


def test_labels_keep_their_distance():
    from annvq.bench.labels import _spread

    spread = _spread(np.array([0.0, 0.01, 0.02, 0.9]), 0.1)
    assert np.allclose(spread, [-0.09, 0.01, 0.11, 0.9])
    assert len(_spread(np.empty(0), 0.1)) == 0


def test_all_methods_are_drawn_in_panels_of_their_families(tmp_path):
    from annvq.tables.registry import METHODS

    rows = [
        {"method": method, "ratio": ratio, "reached": ratio, "bytes": 64_000 / ratio, "auc": 0.7, "auc_std": 0.01,
         "params": {"seeds": [0]}}
        for method in ("uncompressed", *METHODS, "new") for ratio in ((1,) if method == "uncompressed" else (2, 10))
    ]  # fmt: skip
    plots.quality_against_bytes(rows, tmp_path / "tables.png", "title", "auc")
    assert set(METHODS) <= {name for names in plots._FAMILIES.values() for name in names}
    assert "one seed, so no bars" in (tmp_path / "tables.svg").read_text()
