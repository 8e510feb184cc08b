"""Haystack's document store: the suites of `haystack.testing`, and what they leave open."""

from __future__ import annotations

import asyncio
import random

import numpy as np
import pytest

pytest.importorskip("haystack")

from haystack import Document, Pipeline
from haystack.dataclasses import ByteStream, SparseEmbedding
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.document_stores.types import DuplicatePolicy, FilterPolicy
from haystack.errors import FilterError
from haystack.testing import document_store as suite
from haystack.testing import document_store_async as async_suite

from annvq.errors import ParameterError, ShapeError
from annvq.integrations.haystack import AnnvqDocumentStore, AnnvqEmbeddingRetriever


class Store:
    """What the suites ask of those who use them."""

    @pytest.fixture
    def document_store(self, request, tmp_path):
        store = AnnvqDocumentStore(str(tmp_path / "store") if request.cls.ON_DISK else None)
        yield store
        store.collection.close()

    @staticmethod
    def assert_documents_are_equal(received, expected):
        """Compare documents, embeddings to the precision of float32."""
        assert [one.id for one in received] == [one.id for one in expected]
        for got, wanted in zip(received, expected):
            assert (got.embedding is None) == (wanted.embedding is None)
            if got.embedding is not None:
                np.testing.assert_allclose(got.embedding, wanted.embedding, rtol=1e-6)
            got, wanted = (one.to_dict() | {"embedding": None} for one in (got, wanted))
            assert got == wanted

    ON_DISK = False


def test_write_documents(self, document_store):
    documents = [Document(content="test doc")]
    assert document_store.write_documents(documents) == 1
    with pytest.raises(DuplicateDocumentError):
        document_store.write_documents(documents)


async def test_write_documents_async(self, document_store):
    documents = [Document(content="test doc")]
    assert await document_store.write_documents_async(documents) == 1
    with pytest.raises(DuplicateDocumentError):
        await document_store.write_documents_async(documents)


class TestBaseSuite(Store, suite.DocumentStoreBaseTests):
    test_write_documents = test_write_documents


class TestExtendedSuite(
    Store,
    suite.DocumentStoreBaseExtendedTests,
    suite.CountDocumentsByFilterTest,
    suite.CountUniqueMetadataByFilterTest,
    suite.GetMetadataFieldsInfoTest,
    suite.GetMetadataFieldMinMaxTest,
    suite.GetMetadataFieldUniqueValuesTest,
):
    test_write_documents = test_write_documents
    ON_DISK = True


class TestAsyncSuite(
    Store,
    async_suite.DeleteAllAsyncTest,
    async_suite.CountDocumentsAsyncTest,
    async_suite.CountDocumentsByFilterAsyncTest,
    async_suite.CountUniqueMetadataByFilterAsyncTest,
    async_suite.DeleteByFilterAsyncTest,
    async_suite.UpdateByFilterAsyncTest,
    async_suite.WriteDocumentsAsyncTest,
    async_suite.DeleteDocumentsAsyncTest,
    async_suite.GetMetadataFieldsInfoAsyncTest,
    async_suite.GetMetadataFieldMinMaxAsyncTest,
    async_suite.GetMetadataFieldUniqueValuesAsyncTest,
    async_suite.FilterDocumentsAsyncTest,
):
    test_write_documents_async = test_write_documents_async


del test_write_documents, test_write_documents_async  # of themselves, they are no tests


# Against Haystack's own store in memory

DATES = [
    "2024-01-31",
    "2024-01-31T00:00:00",
    "2024-02-01T12:00:00+02:00",
    "2024-02-01T10:00:00Z",
    "1999-12-31 23:59:59",
]
RANDOM = random.Random(0)


def documents():
    made = []
    for i in range(40):
        meta = {
            "n": RANDOM.choice([1, 2, 2.5, 3, None]),
            "word": RANDOM.choice(["a", "b", "2024", "2024-13-77"]),
            "date": RANDOM.choice(DATES),
            "tags": RANDOM.choice([["x"], [], ["x", "y"]]),
            "deep": {"on": RANDOM.choice([True, False]), "word": RANDOM.choice("ab")},
        }
        made.append(
            Document(
                content=f"content {i % 7}",
                meta={key: value for key, value in meta.items() if RANDOM.random() < 0.8},
                embedding=None if i % 5 == 0 else [RANDOM.random() for _ in range(8)],
            )
        )
    return made


DOCUMENTS = documents()


@pytest.fixture(params=["cosine", "dot_product"])
def both(request):
    """Return Haystack's store in memory and annvq's, filled."""
    made = (
        InMemoryDocumentStore(embedding_similarity_function=request.param),
        AnnvqDocumentStore(embedding_dim=8, embedding_similarity_function=request.param),
    )
    for store in made:
        store.write_documents(DOCUMENTS)
    return made


def comparisons():
    orders, equals = [">", ">=", "<", "<="], ["==", "!="]
    for operator in orders + equals:
        yield from ({"field": "meta.n", "operator": operator, "value": value} for value in (2, 2.5, None))
        yield from ({"field": "meta.date", "operator": operator, "value": value} for value in DATES)
    for operator in equals:
        yield from ({"field": "meta.word", "operator": operator, "value": value} for value in ("a", "2024-13-77", "z"))
        yield {"field": "meta.deep.on", "operator": operator, "value": True}
        yield {"field": "content", "operator": operator, "value": "content 3"}
        yield {"field": "id", "operator": operator, "value": DOCUMENTS[7].id}
        yield {"field": "embedding", "operator": operator, "value": None}
        yield {"field": "word", "operator": operator, "value": "b"}
    for operator in ("in", "not in"):
        yield {"field": "meta.n", "operator": operator, "value": [1, 2.5, None]}
        yield {"field": "meta.date", "operator": operator, "value": [DATES[0], DATES[3], "x"]}
        yield {"field": "meta.word", "operator": operator, "value": []}
        yield {"field": "meta.deep.word", "operator": operator, "value": ["a"]}
        yield {"field": "nothing.there", "operator": operator, "value": ["a"]}


def test_filters_leave_what_haystack_leaves(both):
    every = list(comparisons())
    for _ in range(100):
        few = RANDOM.sample(every[:], RANDOM.choice([0, 1, 2, 3]))
        inner = {"operator": RANDOM.choice(["AND", "OR", "NOT"]), "conditions": few}
        every.append({"operator": RANDOM.choice(["AND", "OR", "NOT"]), "conditions": [inner, RANDOM.choice(every)]})
    oracle, store = both
    for filters in every:
        expected = oracle.filter_documents(filters)
        Store.assert_documents_are_equal(store.filter_documents(filters), expected)
        assert store.count_documents_by_filter(filters) == len(expected), filters


def test_retrieval_finds_what_haystack_finds(both):
    for filters in (None, {"field": "meta.n", "operator": ">", "value": 1}):
        for scale in (False, True):
            query = [RANDOM.random() for _ in range(8)]
            found = [
                one.embedding_retrieval(query, filters, 5, scale_score=scale, return_embedding=True) for one in both
            ]
            assert [one.id for one in found[0]] == [one.id for one in found[1]]
            if not scale or both[1].embedding_similarity_function == "cosine":
                scores = [[one.score for one in documents] for documents in found]
                np.testing.assert_allclose(scores[1], scores[0], rtol=1e-5)
            np.testing.assert_allclose(found[1][0].embedding, found[0][0].embedding, rtol=1e-5)
    assert both[1].embedding_retrieval(query)[0].embedding is None
    assert both[1].embedding_retrieval(query, top_k=0) == []


def test_questions_about_the_meta_are_answered_as_haystack_does(both):
    oracle, store = both
    for field in ("n", "meta.word", "tags", "deep", "nothing"):
        for arguments in ({}, {"search_term": "A"}, {"from_": 1, "size": 2}):
            expected = oracle.get_metadata_field_unique_values(field, **arguments)
            assert store.get_metadata_field_unique_values(field, **arguments) == expected
        assert store.get_metadata_field_min_max(field) == oracle.get_metadata_field_min_max(field)
    fields = ["n", "word", "tags", "deep"]
    assert store.count_unique_metadata_by_filter({}, fields) == oracle.count_unique_metadata_by_filter({}, fields)
    assert set(store.get_metadata_fields_info()) == set(oracle.get_metadata_fields_info())


# What is kept


def test_all_of_a_document_comes_back():
    document = Document(
        content="text",
        blob=ByteStream(b"\x00bytes", {"a": 1}, "text/plain"),
        meta={"content": "of the meta", "list": [1, {"a": None}]},
        score=0.5,
        embedding=[3.0, 4.0],
        sparse_embedding=SparseEmbedding([1, 5], [0.5, 2.0]),
    )
    store = AnnvqDocumentStore(embedding_dim=2)
    store.write_documents(
        [document, Document(content=None, meta={"empty": True}), Document(id="0", embedding=[0.0, 0.0])]
    )
    found = store.filter_documents()
    Store.assert_documents_are_equal(found[:1], [document])
    assert (found[1].content, found[2].embedding) == (None, [0.0, 0.0])


def test_writing_is_all_or_nothing():
    store = AnnvqDocumentStore(embedding_dim=2)
    twice = [Document(id="a", content="1"), Document(id="a", content="2"), Document(id="b")]
    with pytest.raises(DuplicateDocumentError):
        store.write_documents(twice)
    with pytest.raises(ShapeError):
        store.write_documents([Document(id="c"), Document(id="d", embedding=[1.0])])
    assert store.count_documents() == 0
    assert store.write_documents(twice, DuplicatePolicy.SKIP) == 2
    assert store.filter_documents()[0].content == "1"
    assert store.write_documents(twice, DuplicatePolicy.OVERWRITE) == 3
    assert store.filter_documents()[0].content == "2"
    assert store.collection.index.version == 3


@pytest.mark.parametrize(
    "filters",
    [
        {"field": "meta.n", "operator": "~", "value": 1},
        {"field": "meta.n", "operator": "==", "value": [1]},
        {"field": "meta.n", "operator": ">", "value": "word"},
        {"operator": "XOR", "conditions": []},
        {"operator": "AND", "conditions": ["x"]},
        {"operator": "AND", "conditions": [{}]},
        "n > 1",
    ],
)
def test_filters_that_make_no_sense(filters):
    with pytest.raises(FilterError):
        AnnvqDocumentStore(embedding_dim=2).filter_documents(filters)
    with pytest.raises(FilterError):
        AnnvqDocumentStore(embedding_dim=2).delete_by_filter({})


# In pipelines


def test_in_a_pipeline_that_is_written_and_read(tmp_path):
    store = AnnvqDocumentStore(str(tmp_path / "store"), embedding_dim=8)
    store.write_documents(DOCUMENTS)
    filters = {"field": "meta.word", "operator": "==", "value": "a"}
    pipeline = Pipeline()
    pipeline.add_component(
        "retriever", AnnvqEmbeddingRetriever(store, filters, top_k=3, filter_policy=FilterPolicy.MERGE)
    )
    more = {"field": "meta.n", "operator": "!=", "value": None}
    asked = {"retriever": {"query_embedding": DOCUMENTS[1].embedding, "filters": more}}
    found = pipeline.run(asked)["retriever"]["documents"]
    assert found
    assert all(one.meta["word"] == "a" and one.meta["n"] for one in found)
    text = pipeline.dumps()
    store.collection.close()
    again = Pipeline.loads(text, allowed_modules=["annvq.integrations.haystack"])
    retriever = again.get_component("retriever")
    assert (retriever.top_k, retriever.filter_policy, retriever.filters) == (3, FilterPolicy.MERGE, filters)
    assert again.run(asked)["retriever"]["documents"] == found
    coroutine = retriever.run_async(DOCUMENTS[1].embedding, more)
    assert asyncio.run(coroutine)["documents"] == found
    retriever.document_store.collection.close()


def test_arguments_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match="embedding_similarity_function"):
        AnnvqDocumentStore(embedding_similarity_function="other")
    AnnvqDocumentStore(str(tmp_path / "store"), embedding_dim=2).collection.close()
    with pytest.raises(ParameterError, match="dimension"):
        AnnvqDocumentStore(str(tmp_path / "store"), embedding_dim=3)
    with pytest.raises(TypeError, match="AnnvqDocumentStore"):
        AnnvqEmbeddingRetriever(InMemoryDocumentStore())
    with pytest.raises(ValueError, match="top_k"):
        AnnvqEmbeddingRetriever(AnnvqDocumentStore(), top_k=0)
