import json

import numpy as np
import pytest

from annvq.errors import ParameterError
from annvq.evaluation import embeddings
from annvq.evaluation.embeddings import cached_embeddings, encode, model_key

TEXTS = {"a": "one", "b": "two", "c": "three"}


class Model:
    """Embeds a text as (length, 1), and counts how often it is asked."""

    def __init__(self):
        self.calls = []

    def encode(self, texts, batch_size, normalize_embeddings, show_progress_bar):
        assert normalize_embeddings
        self.calls.append(list(texts))
        return np.array([[len(text), 1] for text in texts], dtype=np.float64)


class TwoSided(Model):
    def encode_query(self, texts, **options):
        return -self.encode(texts, **options)

    def encode_document(self, texts, **options):
        return 2 * self.encode(texts, **options)


@pytest.fixture
def model(monkeypatch):
    model = Model()
    monkeypatch.setattr(embeddings, "load_model", lambda name: model)
    return model


def test_a_model_that_cannot_be_loaded_is_named(tmp_path, monkeypatch):
    pytest.importorskip("sentence_transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in (str(tmp_path), str(tmp_path / "absent")):  # an empty folder, no folder
        with pytest.raises(ParameterError, match=f"model '{name}' cannot be loaded"):
            embeddings.load_model(name)


def test_sides_are_told_apart_where_the_model_can():
    assert encode(TwoSided(), ["one"], "query").tolist() == [[-3, -1]]
    assert encode(TwoSided(), ["one"], "document").tolist() == [[6, 2]]
    assert encode(Model(), ["one"], "query").dtype == np.float32


def test_embedding_happens_once(tmp_path, model):
    first = cached_embeddings(tmp_path, "m", TEXTS, "document")
    again = cached_embeddings(tmp_path, "m", TEXTS, "document")
    assert np.array_equal(first, again)
    assert first.tolist() == [[3, 1], [3, 1], [5, 1]]
    assert len(model.calls) == 1
    names = sorted(path.name.split(".", 1)[1] for path in tmp_path.iterdir())
    assert names == ["ids.json", "json", "npy"]
    assert json.loads(next(tmp_path.glob("*.ids.json")).read_text()) == ["a", "b", "c"]


def test_other_texts_ids_sides_and_models_are_other_entries(tmp_path, model):
    for texts in (TEXTS, {**TEXTS, "c": "four"}, {"x": "one", "b": "two", "c": "three"}):
        cached_embeddings(tmp_path, "m", texts, "document")
    cached_embeddings(tmp_path, "m", TEXTS, "query")
    cached_embeddings(tmp_path, "other", TEXTS, "query")
    assert len(model.calls) == 5


@pytest.mark.parametrize("damage", ["no array", "short", "changed", "no key", "bad key"])
def test_a_damaged_entry_is_made_again(tmp_path, model, damage):
    expected = cached_embeddings(tmp_path, "m", TEXTS, "document")
    array = next(tmp_path.glob("*.npy"))
    key = next(path for path in tmp_path.glob("*.json") if not path.name.endswith(".ids.json"))
    if damage == "no array":
        array.unlink()
    elif damage == "short":
        array.write_bytes(array.read_bytes()[:-4])
    elif damage == "changed":
        np.save(array, expected + 1)
    elif damage == "no key":
        key.unlink()
    else:
        key.write_text("{")
    assert np.array_equal(cached_embeddings(tmp_path, "m", TEXTS, "document"), expected)
    assert len(model.calls) == 2


def test_a_model_folder_is_known_by_its_content_not_its_path(tmp_path):
    for name in ("x", "y"):
        (tmp_path / name / "mini").mkdir(parents=True)
        (tmp_path / name / "mini" / "weights").write_bytes(b"1")
    same = [model_key(str(tmp_path / name / "mini")) for name in ("x", "y")]
    assert same[0] == same[1]
    assert same[0]["model"] == "mini"
    (tmp_path / "y" / "mini" / "weights").write_bytes(b"2")
    assert model_key(str(tmp_path / "y" / "mini")) != same[0]


def test_a_folder_called_model_goes_by_its_package(tmp_path):
    (tmp_path / "minilm" / "model").mkdir(parents=True)
    assert model_key(str(tmp_path / "minilm" / "model"))["model"] == "minilm"


def test_a_renamed_model_folder_keeps_its_entries(tmp_path, model):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_bytes(b"1")
        cached_embeddings(tmp_path / "cache", str(tmp_path / name), TEXTS, "query")
    assert len(model.calls) == 1
