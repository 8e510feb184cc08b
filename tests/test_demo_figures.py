"""The table of the demo on the page of results is what the demo prints, and what the example of quality prints."""

import re
from pathlib import Path

import pytest
from rich.console import Console
from test_examples import printed

from annvq.demo import run
from annvq.index import recipe as recipes

ROOT = Path(__file__).parents[1]
COLUMNS = {  # of the demo, and of the page
    "nDCG@10": "nDCG@10",
    "recall@100": "recall@100",
    "MRR@10": "MRR@10",
    "recall@10 vs exact": "recall@10 against exact",
    "bytes/vector": "bytes per vector",
    "compression": "compression",
}
# OPQ's matrices come from LAPACK: these differ from machine to machine, see below the table.
OF_THE_MACHINE = {name for name in run.RECIPES if recipes.load(name).rotation == "opq"}


def table(text, edge):
    """Return the rows of a printed table by their first cells, each by column."""
    rows = [
        [cell.strip() for cell in re.split("[|│┃]", line)[1:-1]]
        for line in text.splitlines()
        if line.startswith(tuple(edge))
    ]
    return {row[0]: dict(zip(rows[0], row)) for row in rows[1:]}


@pytest.fixture(scope="module")
def page():
    text = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
    start = text.index("| recipe | nDCG@10")
    return table(text[start : text.index("\n\n", start)], "|")


def test_the_demo_prints_the_page_s_table(page, tmp_path, monkeypatch):
    pytest.importorskip("pytrec_eval")
    names = [name for name in run.RECIPES if name not in OF_THE_MACHINE]
    monkeypatch.setattr("annvq.demo.run.RECIPES", names)
    monkeypatch.setattr("annvq.demo.speed.RECIPES", ())
    console = Console(width=200)
    with console.capture() as captured:
        run.run(tmp_path, console)
    shown = table(captured.get(), "┃│")
    assert list(shown) == names
    for name in names:
        assert {there: shown[name][here] for here, there in COLUMNS.items()} == {
            there: page[name][there] for there in COLUMNS.values()
        }


def test_every_recipe_of_the_demo_stands_on_the_page(page):
    assert set(page) - {"---"} == set(run.RECIPES)
    for name in OF_THE_MACHINE:
        assert page[name]["bytes per vector"] == f"{recipes.load(name).bytes_per_vector(384):,}"


def test_the_example_of_quality_prints_the_same_figures(page):
    """The same collection, recipes and measures."""
    found = re.findall(
        r"^(\S+) +(\d+) bytes  nDCG@10 (\S+)  recall@100 (\S+)  exact neighbours (\S+)$",
        printed(ROOT / "examples" / "06_beir.py"),
        flags=re.MULTILINE,
    )
    assert len(found) == 5
    for name, size, ndcg, recall, exact in found:
        row = page[name]
        assert size == row["bytes per vector"].replace(",", "")
        if name not in OF_THE_MACHINE:
            assert (ndcg, recall) == (row["nDCG@10"], row["recall@100"]), name
            assert float(exact) == pytest.approx(float(row["recall@10 against exact"]), abs=0.002)  # which counts ties
