import pytest

pytest.importorskip("matplotlib")

from annvq.bench import plots
from annvq.bench.quality import Quality
from annvq.bench.sweep import Mode, Point

PNG = b"\x89PNG"


def test_speed_is_drawn_even_where_nothing_is_good(tmp_path):
    good = [
        Point("annvq", "fast", Mode(True, 1), {}, 0.9, 5.0, recall, qps, 1, 1, 1, 1, 1)
        for recall, qps in ((0.7, 9.0), (0.9, 5.0))
    ]
    poor = [Point("faiss", "IVF", Mode(True, 1), {}, 0.1, 5.0, 0.1, 5.0, 1, 1, 1, 1, 1)]
    plots.recall_against_speed([good, poor], tmp_path / "new" / "speed.png", "title")
    assert (tmp_path / "new" / "speed.png").read_bytes().startswith(PNG)


def test_quality_is_drawn_for_more_recipes_than_colours(tmp_path):
    qualities = [Quality(f"r{i}", {"ndcg@10": 0.5}, 10.0 + i, 3.0, 1.0, 1.0, 1.0) for i in range(13)]
    qualities.append(Quality("flat", {"ndcg@10": 0.6}, 1536.0, 1.0, 1.0, 1.0, 1.0))
    plots.quality_against_size(qualities, tmp_path / "quality.png", "title")
    assert (tmp_path / "quality.png").read_bytes().startswith(PNG)


def test_tables_are_drawn_with_what_they_reached(tmp_path):
    rows = [
        {"method": method, "ratio": ratio, "reached": 64_000 / size, "bytes": size, "auc": 0.7, "auc_std": 0.01}
        for method, ratio, size in (("uncompressed", 1.0, 64_000), ("PEP", 2.0, 22_000), ("PEP", 10.0, 4_384))
    ]
    plots.quality_against_bytes(rows, tmp_path / "tables.png", "title", "auc")
    assert (tmp_path / "tables.png").read_bytes().startswith(PNG)
