"""Tables of results fit a terminal of 80 columns, with every figure and name whole."""

import re

import pytest
from rich.console import Console

from annvq.bench.ann import AnnResult
from annvq.bench.console import print_fitting, quality_table, speed_table, tables_table
from annvq.bench.quality import Quality
from annvq.bench.sweep import Mode, Point

MODE = Mode(single=False, threads=1)

RECIPES = ("ivf-pq-fastscan", "opq-ivf-pq8", "[/b]")


def point(lib, recipe, qps):
    return Point(lib, recipe, MODE, {}, 0.993, qps, 0.993, qps, 1.0, 1.0, 123.4, 480.0, 1.0)


def shown(width, make):
    console = Console(width=width, markup=False)
    with console.capture() as captured:
        print_fitting(console, make)
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= width
    return captured.get()


@pytest.mark.parametrize("width", [80, 200])
def test_qualities_are_whole(width):
    measures = {"ndcg@10": 0.1234, "recall@100": 0.2345, "mrr@10": 0.3456, "map@100": 0.4567}
    qualities = [Quality(name, measures, 1537.0, 12.5, 123456.0, 0.5678, 9.87) for name in RECIPES]
    text = shown(width, lambda narrow: quality_table(qualities, "title", narrow))
    for figure in ("0.1234", "0.2345", "0.3456", "0.4567", "0.5678", "1,537", "12.5x", "123,456", "9.87"):
        assert text.count(figure) == 3
    assert all(name in text for name in RECIPES)


@pytest.mark.parametrize("width", [80, 200])
def test_speeds_are_whole(width):
    points = [point("annvq", "IVF1024,PQ64x4fs,Refine(SQ8)", 112345.0), point("hnswlib", "HNSW M=16 efc=200", 23456.0)]
    result = AnnResult({"data": "x.npz"}, points, {"scann": "it is not there"})
    text = shown(width, lambda narrow: speed_table(result, MODE, narrow))
    assert text.count("112,345") == text.count("23,456") == 3
    assert len(re.findall(r"\(0\.993; 4\.79x\)", text)) == 3
    assert "…" not in text
    assert "skipped: it" in text


def test_annvq_s_best_is_the_best_that_is_shown():
    """Each index is reported with a setting of its own: the best of them is what others are held against."""
    quick = Point("annvq", "a", MODE, {}, 0.96, 200.0, 0.96, 80.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    steady = Point("annvq", "b", MODE, {}, 0.96, 100.0, 0.96, 120.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    other = Point("faiss", "c", MODE, {}, 0.96, 60.0, 0.96, 60.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    text = shown(200, lambda narrow: speed_table(AnnResult({"data": "x"}, [quick, steady, other]), MODE, narrow))
    assert text.count("60 (0.960; 2.00x)") == 2


@pytest.mark.parametrize("width", [80, 200])
def test_tables_say_what_was_reached_beside_what_was_asked(width):
    grid = pytest.importorskip("annvq.bench.tables.grid")
    cell = {"data": "x", "model": "dlrm", "epochs": 1, "measures": {"auc": 0.75}, "seconds": 1.0}
    cells = [
        {**cell, "method": "uncompressed", "ratio": 1.0, "seed": 0, "bytes": 64_000},
        *({**cell, "method": "PEP", "ratio": 10.0, "seed": seed, "bytes": 4_000 + 384 * seed} for seed in (0, 1)),
    ]
    config = {"data": "x", "rows": 1000, "dim": 16, "seeds": 2}
    result = grid.TablesResult(config, cells)
    text = shown(width, lambda narrow: tables_table(result, "dlrm", narrow))
    assert re.search(r"PEP\W+10x\W+14\.6x\W+0\.0044 MB", text)
    assert [row["reached"] for row in result.rows()] == [1.0, pytest.approx(64_000 / 4_384)]
