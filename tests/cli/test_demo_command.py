import json
import re
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

import annvq
from annvq.demo import cranfield
from annvq.demo.run import RECIPES, _program
from annvq.evaluation import evaluate, exact_neighbors, run_from_ids


@pytest.fixture(autouse=True)
def no_larger_set(monkeypatch):
    """Leave out what takes half a minute."""
    monkeypatch.setattr("annvq.demo.speed.RECIPES", ())


def test_the_embedded_data_reproduce_exact_search():
    """Exact all-MiniLM-L6-v2 on Cranfield, computed independently: .5060, .7883, .7732."""
    pytest.importorskip("pytrec_eval")
    judged = cranfield.embeddings(cranfield.texts())
    assert judged.documents.shape == (1400, 384)
    assert judged.queries.shape == (225, 384)
    rows = exact_neighbors(judged.documents, judged.queries, 100, "ip")[0]
    run = run_from_ids(judged.query_ids, [[judged.document_ids[row] for row in ranked] for ranked in rows])
    measured = evaluate(judged.qrels, run)
    assert measured["ndcg@10"] == pytest.approx(0.5060, abs=5e-4)
    assert measured["recall@100"] == pytest.approx(0.7883, abs=5e-4)
    assert measured["mrr@10"] == pytest.approx(0.7732, abs=5e-4)


@pytest.mark.slow
def test_every_recipe_of_the_demo_keeps_most_of_the_quality(tmp_path, annvq_command):
    pytest.importorskip("pytrec_eval")
    code, out, err = annvq_command("demo", "--out", tmp_path, "--json", tmp_path / "demo.json")
    assert code == 0, err
    rows = [line.split("│")[1:3] for line in out.splitlines() if line.startswith("│")]
    assert [recipe.strip() for recipe, _ in rows] == list(RECIPES)
    assert all(float(ndcg) > 0.47 for _, ndcg in rows)


def test_the_demo_leaves_an_index_to_search(tmp_path, annvq_command, monkeypatch):
    monkeypatch.setattr("annvq.demo.run.RECIPES", ("flat", "balanced"))
    code, out, err = annvq_command("demo", "--out", tmp_path)
    assert code == 0, err
    assert "balanced" in out
    printed = next(line.partition("next: ")[2] for line in out.splitlines() if "next: " in line)
    done = subprocess.run(printed, shell=True, capture_output=True, text=True)  # as if it were pasted
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 225 * 5
    hits = tmp_path / "hits.parquet"
    code, _, err = annvq_command("search", tmp_path / "index", tmp_path / "queries.npy", "-k", 5, "-o", hits)
    assert code == 0, err
    found = pq.read_table(hits)
    assert found.num_rows == 225 * 5
    texts = dict(line.split("\t") for line in (tmp_path / "documents.tsv").read_text().splitlines())
    assert set(found["id"].to_pylist()) <= set(texts)
    with annvq.open(tmp_path / "index") as index:
        assert len(index) == 1400


def test_a_folder_that_cannot_be_made_is_known_at_once(tmp_path, annvq_command, monkeypatch):
    monkeypatch.setattr("annvq.demo.run.RECIPES", ())
    (tmp_path / "file").touch()
    code, out, err = annvq_command("demo", "--out", tmp_path / "file")
    assert (code, out) == (1, "")
    assert err == f"annvq: {tmp_path / 'file'}: File exists\n"


def test_the_demo_runs_without_its_extras(tmp_path, annvq_command, monkeypatch):
    for module in ("pytrec_eval", "matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr("annvq.demo.run.RECIPES", ("flat",))
    code, out, err = annvq_command("demo", "--out", tmp_path)
    assert code == 0, err
    assert "annvq[eval]" in out
    assert "recall@10 vs exact" in out
    assert not (tmp_path / "ndcg-bytes.png").exists()
    assert np.load(tmp_path / "queries.npy").shape == (225, 384)


def test_the_command_is_that_of_the_environment(tmp_path, monkeypatch):
    script = tmp_path / ".venv/bin/annvq"
    script.parent.mkdir(parents=True)
    monkeypatch.setattr(sys, "executable", str(script.with_name("python")))
    monkeypatch.setenv("PATH", "")
    assert _program() == f"{script.with_name('python')} -m annvq"
    script.touch(mode=0o755)
    assert _program() == str(script)
    monkeypatch.chdir(tmp_path)
    assert _program() == ".venv/bin/annvq"
    monkeypatch.setenv("PATH", str(script.parent))
    assert _program() == "annvq"


def test_the_larger_set_tells_recipes_apart(tmp_path, annvq_command, monkeypatch):
    monkeypatch.setattr("annvq.demo.run.RECIPES", ("flat",))
    monkeypatch.setattr("annvq.demo.speed.RECIPES", ("flat", "ivf-flat"))
    monkeypatch.setattr("annvq.demo.speed._VECTORS", 3000)
    code, out, err = annvq_command("demo", "--out", tmp_path, "--json", tmp_path / "demo.json")
    assert code == 0, err
    rows = json.loads((tmp_path / "demo.json").read_text())["rows"]
    assert [(row["recipe"], row["compression"]) for row in rows] == [("flat", 1.0)]
    assert re.search(r"ivf-flat +[\d,]+ queries/s \(recall 0.9", out)
    pytest.importorskip("matplotlib")
    for name in ("ndcg-bytes", "recall-qps"):
        assert (tmp_path / f"{name}.png").exists()
        assert "<svg" in (tmp_path / f"{name}.svg").read_text()
