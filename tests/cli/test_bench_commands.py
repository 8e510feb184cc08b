import json

import numpy as np
import pytest

from annvq.errors import ParameterError
from annvq.evaluation import embeddings

ROW_KEYS = {
    "ann": "recipe lib recall qps latency_ms_mean latency_ms_p50 latency_ms_p99 build_s bytes_per_vector params single "
    "threads",
    "beir": "recipe ndcg@10 recall@100 mrr@10 map@100 bytes_per_vector compression qps recall@10_vs_exact",
}


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
def test_bench_ann_writes_rows(metric, tmp_path, vectors, annvq_command):
    np.savez(tmp_path / "data.npz", base=vectors, query=vectors[:20] + 0.01, metric=np.array(metric))
    arguments = ("bench", "ann", tmp_path / "data.npz", "--recipe", "flat", "IVF8,Flat", "--k", 5)
    code, out, err = annvq_command(*arguments, "--json", tmp_path / "result.json", "--out", tmp_path / "out")
    assert code == 0, err
    result = json.loads((tmp_path / "result.json").read_text())
    assert list(result) == ["command", "config", "machine", "rows"]
    assert result["command"] == "bench ann"
    assert list(result["rows"][0]) == ROW_KEYS["ann"].split()
    flat = [row for row in result["rows"] if row["recipe"] == "flat"]
    assert [row["recall"] for row in flat] == [1.0]
    lists = [row for row in result["rows"] if row["recipe"] == "IVF8,Flat"]
    assert lists[-1]["recall"] > 0.8  # the series ends once the tuning half is saturated
    assert [row["params"]["nprobe"] for row in lists] == sorted(row["params"]["nprobe"] for row in lists)
    assert "recall >= 0.95" in out
    assert str(tmp_path) not in (tmp_path / "result.json").read_text()
    pytest.importorskip("matplotlib")
    assert (tmp_path / "out" / "recall-qps.png").stat().st_size > 10_000


def test_bench_ann_takes_the_files_ground_truth(tmp_path, vectors, annvq_command):
    wrong = np.tile(np.arange(5), (10, 1))  # so near that nothing else counts as found
    queries = vectors[:10] * 0
    np.savez(tmp_path / "data.npz", base=vectors, query=queries + 1e-3, metric=np.array("l2"), gt=wrong)
    code, _, err = annvq_command(
        "bench", "ann", tmp_path / "data.npz", "--recipe", "flat", "--k", 5, "--json", tmp_path / "r.json", "--single"
    )
    assert code == 0, err
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["rows"][0]["recall"] == 1.0  # found ones are nearer than the listed
    assert result["config"]["modes"] == [{"single": True, "threads": 1}]


def test_bench_ann_names_peers_that_are_absent(tmp_path, vectors, annvq_command, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "hnswlib", None)
    np.savez(tmp_path / "data.npz", base=vectors, query=vectors[:8], metric=np.array("l2"))
    code, out, err = annvq_command(
        "bench", "ann", tmp_path / "data.npz", "--recipe", "flat", "--peers", "hnswlib", "--json", tmp_path / "r.json"
    )
    assert code == 0, err
    assert "skipped: hnswlib is not installed" in out
    assert list(json.loads((tmp_path / "r.json").read_text())["config"]["skipped_peers"]) == ["hnswlib"]


def test_bench_ann_survives_a_peer_that_fails(tmp_path, vectors, annvq_command, monkeypatch):
    hnswlib = pytest.importorskip("hnswlib")
    monkeypatch.setattr(hnswlib, "Index", lambda **options: 1 / 0)
    np.savez(tmp_path / "data.npz", base=vectors, query=vectors[:8], metric=np.array("l2"))
    code, out, err = annvq_command("bench", "ann", tmp_path / "data.npz", "--recipe", "flat", "--peers", "hnswlib")
    assert code == 0, err
    assert "skipped: ZeroDivisionError" in out


def test_bench_ann_takes_some_vectors_and_sets_annvq_beside_a_peer(tmp_path, vectors, annvq_command):
    pytest.importorskip("faiss")
    truth = np.zeros((40, 5), np.int64)  # of the whole base, so wrong for a part of it
    np.savez(tmp_path / "data.npz", base=vectors, query=vectors[:40], metric=np.array("l2"), gt=truth)
    arguments = ("--recipe", "flat", "--peers", "faiss-ivfpq", "--k", 5, "--n", 200, "--single")
    code, out, err = annvq_command("bench", "ann", tmp_path / "data.npz", *arguments, "--json", tmp_path / "r.json")
    assert code == 0, err
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["config"]["n"] == 200
    assert [row["recall"] for row in result["rows"] if row["lib"] == "annvq"] == [1.0]
    compared = result["config"]["comparisons"]
    assert {(row["lib"], row["annvq_recipe"], row["single"]) for row in compared} == {("faiss", "flat", True)}
    assert {row["recall_at_least"] for row in compared} == {0.90, 0.95, 0.99}
    for row in compared:
        speeds = row["annvq_qps_before"] * row["annvq_qps_after"]
        assert row["annvq_speed_ratio"] == pytest.approx(speeds**0.5 / row["qps"], rel=0.01)
    assert set(result["config"]["use_of_the_machine"]) == {"steal", "others", "load"}
    assert "annvq beside each library's best index" in out
    assert "(mean, p50, p99)" in out


def test_bench_ann_looks_for_a_device_before_it_reads_data(tmp_path, annvq_command):
    arguments = ("bench", "ann", tmp_path / "absent.npz", "--recipe", "flat", "--device", "gpu")
    code, _, err = annvq_command(*arguments)
    assert code == 1
    assert err == "annvq: device: 'gpu', expected 'cpu', 'cuda', or 'cuda:1' for the second GPU\n"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), "one batch"),
        (("--single",), "one query per call"),
        (("--device", "cuda:1"), "one query per call|batches of 10|batches of 1,000|batches of 10,000"),
        (("--device", "cuda:1", "--every-mode"), "one query per call|batches of 10|batches of 1,000|batches of 10,000"),
        (("--device", "cuda:1", "--single"), "one query per call"),
    ],
)
def test_bench_ann_measures_a_device_in_batches(options, expected, tmp_path, annvq_command, monkeypatch):
    asked = []

    def run(path, bench, *more):
        asked.append(bench)
        raise ParameterError("enough")

    monkeypatch.setattr("annvq.bench.ann.resolve", lambda device: None)
    monkeypatch.setattr("annvq.bench.ann.run", run)
    assert annvq_command("bench", "ann", tmp_path / "data.npz", "--recipe", "flat", *options)[0] == 1
    assert [str(mode) for mode in asked[0].modes] == [f"{name}, threads 1" for name in expected.split("|")]
    assert (asked[0].device, asked[0].gpu) == (("cuda:1", "cuda:1") if "--device" in options else ("cpu", "cuda"))


class Model:
    """Embeds a text as counts of its letters; a query is found by the document with its letters."""

    def encode(self, texts, batch_size, normalize_embeddings, show_progress_bar):
        counts = np.array([[text.count(letter) for letter in "abcdefghijklmnop"] for text in texts], np.float32)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A set of 120 documents; the queries are the first 12 documents' own letters."""
    pytest.importorskip("pytrec_eval")
    monkeypatch.setattr(embeddings, "load_model", lambda name: Model())
    rng = np.random.default_rng(5)
    texts = ["".join(rng.choice(list("abcdefghijklmnop"), 12)) for _ in range(120)]
    made = tmp_path / "letters"
    (made / "qrels").mkdir(parents=True)
    corpus = [json.dumps({"_id": f"d{i}", "title": "", "text": text}) for i, text in enumerate(texts)]
    queries = [json.dumps({"_id": f"q{i}", "text": text[::-1]}) for i, text in enumerate(texts[:12])]
    (made / "corpus.jsonl").write_text("\n".join(corpus))
    (made / "queries.jsonl").write_text("\n".join(queries))
    for split, numbers in (("test", range(8)), ("dev", range(8, 12))):
        (made / "qrels" / f"{split}.tsv").write_text("".join(f"q{i}\td{i}\t1\n" for i in numbers))
    return made


def test_bench_beir_writes_rows(folder, tmp_path, annvq_command):
    out, result_path = tmp_path / "out", tmp_path / "result.json"
    arguments = ("bench", "beir", folder, "--model", "letters", "--recipe", "flat", "--recipe", "IVF4,Flat")
    code, shown, err = annvq_command(*arguments, "--json", result_path, "--out", out, "--threads", 1)
    assert code == 0, err
    result = json.loads(result_path.read_text())
    assert result["command"] == "bench beir"
    assert [list(row) for row in result["rows"]] == [ROW_KEYS["beir"].split()] * 2
    flat = result["rows"][0]
    assert flat["recipe"] == "flat"
    assert flat["ndcg@10"] == flat["mrr@10"] == flat["recall@10_vs_exact"] == 1.0
    assert flat["compression"] == 1.0
    assert result["config"]["search_parameters"] == "each recipe's own defaults"
    assert result["config"]["queries"] == 8
    assert str(tmp_path) not in result_path.read_text()
    assert "nDCG@10" in shown
    assert len(list((out / "embeddings").glob("*.npy"))) == 2


def test_where_no_bar_can_be_drawn_lines_say_what_is_measured(folder, tmp_path, vectors, annvq_command):
    arguments = ("bench", "beir", folder, "--model", "letters", "--recipe", "flat", "--out", tmp_path / "out")
    code, _, err = annvq_command(*arguments, "--recipe", "SQ8")
    assert code == 0, err
    phases = ["embedding documents", "embedding queries", "flat (1 of 2)", "SQ8 (2 of 2)"]
    assert [line.split(" s  ")[1] for line in err.splitlines() if " s  " in line] == phases
    np.savez(tmp_path / "data.npz", base=vectors, query=vectors[:8], metric=np.array("l2"))
    code, _, err = annvq_command("bench", "ann", tmp_path / "data.npz", "--recipe", "flat", "--single")
    assert code == 0, err
    assert "annvq flat: building" in err


def test_on_a_terminal_there_is_one_bar_at_a_time(folder, tmp_path, annvq_command, monkeypatch):
    from rich.progress import Progress

    drawn, most = [], []

    def start(bar):
        drawn.append(bar)
        most.append(len(drawn))

    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(Progress, "start", start)
    monkeypatch.setattr(Progress, "stop", lambda bar: drawn.remove(bar))
    arguments = ("bench", "beir", folder, "--model", "letters", "--recipe", "flat", "--out", tmp_path / "out")
    code, _, err = annvq_command(*arguments)
    assert code == 0, err
    assert set(most) == {1}  # rich before 14.1 refuses a second


def test_bench_beir_measures_some_queries(folder, tmp_path, annvq_command):
    arguments = ("bench", "beir", folder, "--model", "letters", "--recipe", "flat", "--out", tmp_path / "out")
    code, _, err = annvq_command(*arguments, "--queries", 3, "--json", tmp_path / "result.json")
    assert code == 0, err
    assert json.loads((tmp_path / "result.json").read_text())["config"]["queries"] == 3
    assert annvq_command(*arguments, "--queries", 0)[0] == 2


def test_multi_vector_recipes_alone_embed_no_whole_text(folder, tmp_path, annvq_command, monkeypatch):
    from annvq.evaluation import tokens

    def few_tokens(model, texts, side, **how):
        vectors = np.random.default_rng(0).normal(size=(3 * len(texts), 8)).astype(np.float16)
        return vectors, np.arange(len(texts) + 1) * 3

    def refused(*given, **more):
        raise AssertionError("a whole text is embedded")

    monkeypatch.setattr(tokens, "token_embeddings", few_tokens)
    monkeypatch.setattr(tokens, "load_model", lambda name: None)
    monkeypatch.setattr("annvq.bench.beir.cached_embeddings", refused)
    drawn = []
    monkeypatch.setattr("annvq.bench.plots.quality_against_size", lambda qualities, *more: drawn.append(qualities))
    arguments = ("bench", "beir", folder, "--model", "letters", "--out", tmp_path / "out", "--threads", 1)
    code, _, err = annvq_command(*arguments, "--recipe", "muvera", "--json", tmp_path / "r.json")
    assert code == 0, err
    config = json.loads((tmp_path / "r.json").read_text())["config"]
    assert (config["queries"], config["dim"]) == (8, 8)
    measured = drawn[0][0]  # every query's values, of which the picture draws intervals
    assert {name: len(values) for name, values in measured.per_query.items()} == dict.fromkeys(
        ("ndcg@10", "recall@100", "mrr@10", "map@100", "recall@10_vs_exact"), 8
    )
    for name, mean in {**measured.measures, "recall@10_vs_exact": measured.recall_vs_exact}.items():
        assert measured.per_query[name].mean() == pytest.approx(mean)
    with pytest.raises(AssertionError, match="a whole text is embedded"):
        annvq_command(*arguments, "--recipe", "muvera", "--recipe", "flat")


def test_bench_beir_keeps_what_other_recipes_measured(folder, tmp_path, annvq_command):
    arguments = ("bench", "beir", folder, "--model", "letters", "--out", tmp_path / "out")
    recipes = ("--recipe", "flat", "--recipe", "IVF4000,Flat")  # more lists than documents
    code, shown, err = annvq_command(*arguments, *recipes, "--json", tmp_path / "r.json")
    assert code == 1
    assert "IVF4000,Flat: " in err
    assert "flat" in shown
    result = json.loads((tmp_path / "r.json").read_text())
    assert [row["recipe"] for row in result["rows"]] == ["flat"]
    assert list(result["config"]["failed_recipes"]) == ["IVF4000,Flat"]
    code, _, err = annvq_command(*arguments, "--recipe", "IVF4000,Flat")
    assert code == 1
    assert "4000" in err


def test_bench_beir_takes_auto_and_needs_documents(folder, tmp_path, annvq_command):
    arguments = ("bench", "beir", folder, "--model", "letters", "--recipe", "auto", "--out", tmp_path / "out")
    code, out, err = annvq_command(*arguments)
    assert code == 0, err
    assert "auto" in out
    (folder / "corpus.jsonl").write_text("")
    code, _, err = annvq_command(*arguments)
    assert code == 1
    assert "0 documents and 8 judged queries" in err


def test_bench_beir_tunes_on_other_queries(folder, tmp_path, annvq_command):
    arguments = ("bench", "beir", folder, "--model", "letters", "--recipe", "IVF4,Flat", "--tune", 1.0)
    code, _, err = annvq_command(*arguments, "--json", tmp_path / "r.json", "--out", tmp_path / "out")
    assert code == 0, err
    config = json.loads((tmp_path / "r.json").read_text())["config"]
    assert config["search_parameters"] == "tuned to recall@10 1.0 on 4 queries of the split dev"
    (folder / "qrels" / "dev.tsv").unlink()
    code, _, err = annvq_command(*arguments, "--json", tmp_path / "r.json", "--out", tmp_path / "out")
    assert code == 0, err
    config = json.loads((tmp_path / "r.json").read_text())["config"]
    assert (config["queries"], "every other query" in config["search_parameters"]) == (4, True)
