"""semantic_search_annvq returns what semantic_search_faiss and semantic_search_usearch of sentence-transformers do."""

import inspect

import numpy as np
import pytest

import annvq
from annvq.errors import MissingExtraError, ParameterError
from annvq.integrations.sentence_transformers import semantic_search_annvq

N, D, NQ = 600, 52, 120  # 52 bits are no whole bytes

rng = np.random.default_rng(0)
CORPUS = rng.normal(size=(N, D)).astype(np.float32)
QUERIES = rng.normal(size=(NQ, D)).astype(np.float32)
RANGES = np.stack([CORPUS.min(axis=0), CORPUS.max(axis=0)])


@pytest.fixture
def peers():
    return pytest.importorskip("sentence_transformers.util.quantization")


def quantized(vectors, precision):
    from sentence_transformers import quantize_embeddings

    return quantize_embeddings(vectors, precision=precision, ranges=RANGES)


def ids_of(results):
    return [[one["corpus_id"] for one in row] for row in results]


def scores_of(results):
    return np.array([[one["score"] for one in row] for row in results])


@pytest.mark.parametrize("rescore", [True, False])
@pytest.mark.parametrize("precision", ["float32", "uint8", "ubinary"])
def test_results_are_those_of_semantic_search_faiss(peers, precision, rescore):
    pytest.importorskip("faiss")
    corpus = quantized(CORPUS, precision)
    given = {"corpus_precision": precision, "ranges": RANGES, "rescore": rescore, "top_k": 7}
    expected, _ = peers.semantic_search_faiss(QUERIES, corpus, **given)
    found, seconds = semantic_search_annvq(QUERIES, corpus, **given)
    assert ids_of(found) == ids_of(expected)
    np.testing.assert_allclose(scores_of(found), scores_of(expected), rtol=1e-5)
    assert seconds > 0
    assert {type(one["corpus_id"]) for row in found for one in row} == {int}
    assert {type(one["score"]) for row in found for one in row} == {float}


def test_results_of_int8_are_those_of_semantic_search_usearch(peers):
    pytest.importorskip("usearch")
    given = {"corpus_precision": "int8", "ranges": RANGES, "top_k": 7}
    corpus = quantized(CORPUS, "int8")
    expected, _ = peers.semantic_search_usearch(QUERIES, corpus, **given)
    found, _ = semantic_search_annvq(QUERIES, corpus, **given)
    assert ids_of(found) == ids_of(expected)
    np.testing.assert_allclose(scores_of(found), scores_of(expected), rtol=1e-5)


def test_scores_of_bits_are_those_of_semantic_search_usearch(peers):
    """Among rows that differ from the query in as many bits, usearch has no order of its own."""
    pytest.importorskip("usearch")
    given = {"corpus_precision": "binary", "rescore": False}
    corpus = quantized(CORPUS, "binary")
    expected, _ = peers.semantic_search_usearch(QUERIES, corpus, **given)
    found, _ = semantic_search_annvq(QUERIES, corpus, **given)
    np.testing.assert_array_equal(scores_of(found), scores_of(expected))


@pytest.mark.parametrize("rescore", [True, False])
def test_signed_and_unsigned_bits_are_the_same(peers, rescore):
    one, _ = semantic_search_annvq(QUERIES, quantized(CORPUS, "binary"), corpus_precision="binary", rescore=rescore)
    two, _ = semantic_search_annvq(QUERIES, quantized(CORPUS, "ubinary"), corpus_precision="ubinary", rescore=rescore)
    assert one == two


@pytest.mark.parametrize("precision", ["int8", "uint8", "binary", "ubinary"])
def test_quantized_queries_are_not_rescored(peers, precision):
    corpus, queries = quantized(CORPUS, precision), quantized(QUERIES, precision)
    plain, _ = semantic_search_annvq(QUERIES, corpus, corpus_precision=precision, ranges=RANGES, rescore=False)
    found, _ = semantic_search_annvq(queries, corpus, corpus_precision=precision)
    assert found == plain


def test_ranges_come_from_the_calibration_embeddings_or_the_queries(peers):
    corpus = quantized(CORPUS, "uint8")
    given, _ = semantic_search_annvq(QUERIES, corpus, corpus_precision="uint8", ranges=RANGES)
    assert semantic_search_annvq(QUERIES, corpus, corpus_precision="uint8", calibration_embeddings=CORPUS)[0] == given
    pytest.importorskip("faiss")
    expected, _ = peers.semantic_search_faiss(QUERIES, corpus, corpus_precision="uint8")
    assert ids_of(semantic_search_annvq(QUERIES, corpus, corpus_precision="uint8")[0]) == ids_of(expected)
    with pytest.raises(ValueError, match="single embedding"):
        semantic_search_annvq(QUERIES[:1], corpus, corpus_precision="uint8")


def test_an_index_is_returned_and_taken_again():
    found, _, index = semantic_search_annvq(QUERIES, CORPUS, output_index=True)
    assert isinstance(index, annvq.Index)
    assert semantic_search_annvq(QUERIES, corpus_index=index)[0] == found
    compressed = annvq.build(CORPUS, "small", ids=[f"text {row}" for row in range(N)])
    results, _ = semantic_search_annvq(QUERIES, corpus_index=compressed, top_k=3)
    assert {type(one["corpus_id"]) for row in results for one in row} == {str}


def test_a_search_that_need_not_be_exact_uses_the_recipe_auto():
    corpus = np.tile(CORPUS, (100, 1)) + rng.normal(scale=0.1, size=(100 * N, D)).astype(np.float32)
    found, _, index = semantic_search_annvq(QUERIES, corpus, exact=False, output_index=True)
    assert index.recipe == annvq.recipes.choose(len(corpus), D, "ip")
    exact, _ = semantic_search_annvq(QUERIES, corpus)
    same = [len(set(one) & set(other)) for one, other in zip(ids_of(found), ids_of(exact), strict=True)]
    assert np.mean(same) > 8


def test_fewer_rows_than_asked_for_and_one_query(peers):
    corpus = quantized(CORPUS[:3], "ubinary")
    found, _ = semantic_search_annvq(QUERIES[0], corpus, corpus_precision="ubinary")
    assert [len(row) for row in found] == [3]
    assert len(semantic_search_annvq(QUERIES[:2], CORPUS[:3])[0][1]) == 3


def test_tensors_are_taken():
    torch = pytest.importorskip("torch")
    found, _ = semantic_search_annvq(torch.from_numpy(QUERIES), torch.from_numpy(CORPUS))
    assert found == semantic_search_annvq(QUERIES, CORPUS)[0]


def test_parameters_and_defaults_are_those_of_the_functions_beside_it(peers):
    own = inspect.signature(semantic_search_annvq).parameters
    for peer in (peers.semantic_search_faiss, peers.semantic_search_usearch):
        theirs = inspect.signature(peer).parameters
        assert list(own) == list(theirs)
        assert [one.default for one in own.values()] == [one.default for one in theirs.values()]


def test_bad_input_is_refused(monkeypatch):
    index = annvq.build(CORPUS, "flat")
    for given in ({}, {"corpus_embeddings": CORPUS, "corpus_index": index}):
        with pytest.raises(ParameterError, match="either corpus_embeddings or corpus_index"):
            semantic_search_annvq(QUERIES, **given)
    with pytest.raises(ParameterError, match="corpus_precision must be one of"):
        semantic_search_annvq(QUERIES, CORPUS, corpus_precision="float16")
    with pytest.raises(ParameterError, match="does not fit an index of metric 'ip'"):
        semantic_search_annvq(QUERIES, corpus_index=index, corpus_precision="ubinary")
    with pytest.raises(ParameterError, match="top_k"):
        semantic_search_annvq(QUERIES, CORPUS, top_k=0)
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match=r"annvq\[text\]"):
        semantic_search_annvq(QUERIES, CORPUS.astype(np.uint8), corpus_precision="uint8", ranges=RANGES)
