"""Tables of results fit a terminal of 80 columns, with every figure and name whole."""

import re
from dataclasses import replace

import pytest
from rich.console import Console

from annvq.bench.ann import AnnResult
from annvq.bench.compare import SideBySide
from annvq.bench.console import (
    comparison_table,
    latency_table,
    print_fitting,
    quality_table,
    speed_table,
    tables_table,
)
from annvq.bench.cpu import Use
from annvq.bench.quality import Quality
from annvq.bench.sweep import Mode, Point

MODE = Mode(single=False, threads=1)

RECIPES = ("ivf-pq-fastscan", "opq-ivf-pq8", "[/b]")


def point(lib, recipe, qps):
    return Point(lib, recipe, MODE, {}, 0.993, qps, 0.993, qps, 0.0214, 0.0201, 0.0456, 123.4, 480.0, 1.0)


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


PEER = "HNSW M=16 efc=200"
OWN = point("annvq", "IVF1024,PQ64x4fs,Refine(SQ8)", 112345.0)
CONFIG = {"data": "x.npz", "n": 60216}


@pytest.mark.parametrize("width", [80, 200])
def test_speeds_are_whole(width):
    result = AnnResult(CONFIG, [OWN, point("hnswlib", PEER, 23456.0)], {"scann": "it is not there"})
    text = shown(width, lambda narrow: speed_table(result, MODE, narrow))
    assert "x.npz, 60,216 vectors" in text
    assert text.count("112,345") == text.count("23,456") == text.count("(0.993)") / 2 == 3
    assert "4.79" not in text  # the speeds are of different times
    assert "…" not in text
    assert "skipped: it" in text


@pytest.mark.parametrize("width", [80, 200])
def test_latencies_are_whole(width):
    result = AnnResult(CONFIG, [OWN, point("hnswlib", PEER, 23456.0)])
    text = shown(width, lambda narrow: latency_table(result, MODE, narrow))
    assert text.count("21.4") == text.count("20.1") == text.count("45.6") == 6


CALM, BUSY = Use(0.0, 0.0, 1.0), Use(0.0, 0.9, 2.0)


def comparison(target, lib, recipe, qps, before, use=CALM):
    return SideBySide(target, point(lib, recipe, qps), OWN, before, before, use)


@pytest.mark.parametrize("width", [80, 200])
def test_annvq_is_set_beside_each_librarys_best_index(width):
    comparisons = [
        comparison(0.90, "hnswlib", PEER, 20000.0, 50000.0),
        comparison(0.90, "hnswlib", "HNSW M=32 efc=200", 30000.0, 30000.0, BUSY),
        comparison(0.95, "hnswlib", PEER, 20000.0, 44000.0),
        comparison(0.95, "hnswlib", "HNSW M=32 efc=200", 10000.0, 44000.0),
        SideBySide(0.99, point("hnswlib", PEER, 1000.0)),
        SideBySide(0.90, replace(point("hnswlib", PEER, 1000.0), mode=Mode(True, 1)), OWN, 1e6, 1e6),
    ]
    result = AnnResult(CONFIG, [OWN], {}, comparisons)
    text = shown(width, lambda narrow: comparison_table(result, MODE, narrow))
    assert re.findall(r"\d\.\d\dx", text) == ["1.00x", "2.20x"]
    assert "busy" in text
    assert text.count("reached") == 2  # a header, and the recall that annvq does not have
    assert text.count(">= 0.9") == 3
    assert "…" not in text


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
