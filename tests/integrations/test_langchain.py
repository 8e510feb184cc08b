"""LangChain's vector store: its standard suite, and what that leaves open."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

pytest.importorskip("langchain_core")
pytest.importorskip("langchain_tests")

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests import VectorStoreIntegrationTests

from annvq import Collection
from annvq.errors import FilterError, ParameterError, ShapeError
from annvq.integrations.langchain import AnnvqVectorStore


class TestStandardSuite(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self):
        return AnnvqVectorStore(self.get_embeddings())


class TestStandardSuiteOnDisk(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, tmp_path):
        store = AnnvqVectorStore(self.get_embeddings(), tmp_path / "store")
        yield store
        store.collection.close()


EMBEDDING = DeterministicFakeEmbedding(size=8)
TEXTS = [f"text {i}" for i in range(30)]
METADATA = [{"n": i, "lang": "de" if i % 3 else "en", "tags": ["a"] if i % 2 else []} for i in range(30)]
IDS = [f"id-{i}" for i in range(30)]


@pytest.fixture
def store():
    return AnnvqVectorStore.from_texts(TEXTS, EMBEDDING, METADATA, ids=IDS)


@pytest.fixture
def oracle():
    return InMemoryVectorStore.from_texts(TEXTS, EMBEDDING, METADATA, ids=IDS)


def test_finds_what_the_store_in_memory_finds(store, oracle):
    for query in ("text 3", "something else"):
        expected = oracle.similarity_search_with_score(query, 7)
        found = store.similarity_search_with_score(query, 7)
        assert [document for document, _ in found] == [document for document, _ in expected]
        np.testing.assert_allclose([score for _, score in found], [score for _, score in expected], rtol=1e-5)
        assert store.similarity_search(query, 7) == oracle.similarity_search(query, 7)
        assert store.max_marginal_relevance_search(query, 4, 12, 0.3) == oracle.max_marginal_relevance_search(
            query, 4, 12, 0.3
        )
        assert asyncio.run(store.asimilarity_search(query, 3)) == oracle.similarity_search(query, 3)


def test_filters(store, oracle):
    found = store.similarity_search("text 3", 30, filter={"lang": "en", "n": {"$gte": 9}})
    assert found == oracle.similarity_search(
        "text 3", 30, filter=lambda document: document.metadata["lang"] == "en" and document.metadata["n"] >= 9
    )
    assert store.similarity_search("x", 30, filter='lang == "de" and n < 2') == store.get_by_ids(["id-1"])
    assert len(store.max_marginal_relevance_search("x", 5, filter={"tags": {"$contains": "a"}, "n": {"$lt": 4}})) == 2
    retriever = store.as_retriever(search_kwargs={"k": 2, "filter": {"n": {"$in": [4, 5, 6]}}})
    assert {document.metadata["n"] for document in retriever.invoke("text 5")} < {4, 5, 6}
    with pytest.raises(FilterError):
        store.similarity_search("x", filter=lambda document: True)


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_relevance_is_from_0_to_1_and_largest_for_the_text_itself(metric):
    store = AnnvqVectorStore.from_texts(TEXTS, EMBEDDING, metric=metric)
    found = store.similarity_search_with_relevance_scores("text 3", 30)
    scores = [score for _, score in found]
    assert all(0 <= score <= 1 for score in scores)
    assert scores == sorted(scores, reverse=True)
    if metric != "ip":
        assert (found[0][0].page_content, scores[0]) == ("text 3", pytest.approx(1, abs=1e-5))
    assert store.similarity_search_with_relevance_scores("text 3", 30, score_threshold=scores[2]) == found[:3]
    assert asyncio.run(store.asimilarity_search_with_relevance_scores("text 3", 30)) == found


def test_kept_in_a_folder(tmp_path, store):
    made = AnnvqVectorStore.from_documents(store.get_by_ids(IDS), EMBEDDING, path=tmp_path / "store")
    made.collection.close()
    again = AnnvqVectorStore(EMBEDDING, tmp_path / "store")
    assert again.similarity_search("text 3", 5) == store.similarity_search("text 3", 5)
    again.delete(["id-3", "nowhere"])
    again.collection.close()
    reader = AnnvqVectorStore(EMBEDDING, collection=Collection.open(tmp_path / "store"))
    assert len(reader.collection) == 29
    assert reader.similarity_search("text 4", 1)[0].id == "id-4"
    with pytest.raises(ParameterError, match="metric"):
        AnnvqVectorStore(EMBEDDING, tmp_path / "store", metric="l2")


def test_deleting(store):
    assert store.delete(filter={"n": {"$lt": 10}})
    assert store.delete(IDS, filter={"lang": "en"})
    assert {len(store.collection), store.collection.count({"lang": "de"})} == {14}
    assert store.delete([])
    assert len(store.collection) == 14
    assert store.delete()
    assert store.similarity_search("text") == []
    assert AnnvqVectorStore(EMBEDDING).delete()


class Recording(Embeddings):
    """Says what was asked of it."""

    def __init__(self):
        self.asked = []

    def embed_documents(self, texts):
        self.asked.append(("documents", len(texts)))
        return EMBEDDING.embed_documents(texts)

    def embed_query(self, text):
        self.asked.append(("query", 1))
        return EMBEDDING.embed_query(text)


def test_documents_are_embedded_together_and_queries_as_queries():
    embedding = Recording()
    store = AnnvqVectorStore(embedding)
    store.add_texts(iter(TEXTS))
    store.similarity_search("text 3")
    assert embedding.asked == [("documents", 1), ("documents", 30), ("query", 1)]  # the first tells the dimension
    assert store.embeddings is embedding


def test_bad_input_adds_nothing(store):
    for call in (
        lambda: store.add_documents([Document(page_content="x")], ids=["1", "2"]),
        lambda: store.add_documents([Document(page_content="x", metadata={"a": {1, 2}})]),
        lambda: store.add_documents([Document(page_content="x")] * 2, ids=["same", "same"]),
    ):
        with pytest.raises((ShapeError, ValueError)):
            call()
    assert len(store.collection) == 30
