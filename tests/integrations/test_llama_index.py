"""LlamaIndex's vector store against `SimpleVectorStore` on the same nodes."""

from __future__ import annotations

import asyncio
import random

import fsspec
import numpy as np
import pytest

pytest.importorskip("llama_index.core")

from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.schema import ImageNode, IndexNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from annvq.errors import FilterError, ParameterError, ShapeError
from annvq.integrations.llama_index import AnnvqVectorStore

RANDOM = random.Random(1)


def node(i):
    metadata = {
        "n": RANDOM.choice([0, 1, 2, 2.5, 3]),
        "word": RANDOM.choice(["", "Alpha", "alphabet", "Beta", "ß"]),
        "tags": RANDOM.choice([[], ["x"], ["x", "y"], ["y", "z"]]),
        "numbers": RANDOM.choice([[1], [1, 2], [2.5]]),
        "on": RANDOM.choice([True, False]),
        "nothing": None,
    }
    made = TextNode(
        id_=f"node-{i}",
        text=f"text {i}",
        metadata={key: value for key, value in metadata.items() if RANDOM.random() < 0.8},
        embedding=[RANDOM.gauss(0, 1) for _ in range(8)],
    )
    if i % 4:
        made.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=f"document-{i % 4}")
    return made


NODES = [node(i) for i in range(60)]


@pytest.fixture
def both():
    stores = SimpleVectorStore(), AnnvqVectorStore()
    for store in stores:
        assert store.add(NODES) == [one.node_id for one in NODES]
    return stores


def asked(both, **given):
    """Ask both stores the same, and return what they found after it was compared."""
    query = VectorStoreQuery(query_embedding=[RANDOM.gauss(0, 1) for _ in range(8)], **given)
    expected, found = (store.query(query) for store in both)
    assert found.ids == expected.ids, given
    assert [one.node_id for one in found.nodes] == expected.ids
    np.testing.assert_allclose(found.similarities, expected.similarities, rtol=1e-4, atol=1e-6)
    return found


def filters_of_every_operator():
    orders = [FilterOperator.GT, FilterOperator.GTE, FilterOperator.LT, FilterOperator.LTE]
    equals = [FilterOperator.EQ, FilterOperator.NE]
    for operator in orders + equals:
        yield from (MetadataFilter(key="n", value=value, operator=operator) for value in (0, 1, 2, 2.5, 9))
        yield from (MetadataFilter(key="word", value=value, operator=operator) for value in ("Alpha", "", "b"))
    for operator in equals:
        yield from (MetadataFilter(key="on", value=value, operator=operator) for value in (0, 1))
        yield MetadataFilter(key="ref_doc_id", value="document-1", operator=operator)
    for operator in (FilterOperator.IN, FilterOperator.NIN):
        yield from (MetadataFilter(key="n", value=value, operator=operator) for value in ([0, 2], [2.5], []))
        yield MetadataFilter(key="word", value=["Beta", "q"], operator=operator)
        yield MetadataFilter(key="on", value=[1], operator=operator)
    for operator in (FilterOperator.ANY, FilterOperator.ALL):
        yield from (MetadataFilter(key="tags", value=value, operator=operator) for value in (["x"], ["x", "y"], []))
        yield MetadataFilter(key="numbers", value=[1, 2], operator=operator)
        yield MetadataFilter(key="word", value=["Al", "ha"], operator=operator)
    yield from (MetadataFilter(key="tags", value=value, operator=FilterOperator.CONTAINS) for value in ("x", "q"))
    yield MetadataFilter(key="word", value="lph", operator=FilterOperator.CONTAINS)
    for operator in (FilterOperator.TEXT_MATCH, FilterOperator.TEXT_MATCH_INSENSITIVE):
        yield from (MetadataFilter(key="word", value=value, operator=operator) for value in ("alpha", "ETA", "", "ẞ"))
    for key in ("tags", "word", "nothing", "n", "never"):
        yield MetadataFilter(key=key, value=None, operator=FilterOperator.IS_EMPTY)


EVERY = list(filters_of_every_operator())


@pytest.mark.parametrize("operator", FilterOperator)
def test_every_operator(both, operator):
    tried = [one for one in EVERY if one.operator == operator]
    assert tried
    for one in tried:
        asked(both, similarity_top_k=60, filters=MetadataFilters(filters=[one]))


@pytest.mark.parametrize("condition", FilterCondition)
def test_conditions_of_several_filters(both, condition):
    for count in (1, 2, 3, 5):
        for _ in range(10):
            chosen = RANDOM.sample(EVERY, count)
            asked(both, similarity_top_k=60, filters=MetadataFilters(filters=chosen, condition=condition))
    asked(both, similarity_top_k=3, filters=MetadataFilters(filters=[], condition=condition))


def test_filters_within_filters():
    store = AnnvqVectorStore()
    store.add(NODES)
    inner = MetadataFilters(
        filters=[MetadataFilter(key="n", value=2), MetadataFilter(key="n", value=3)], condition="or"
    )
    outer = MetadataFilters(filters=[inner, MetadataFilter(key="word", value="Beta")], condition="and")
    expected = [one for one in NODES if one.metadata.get("n") in (2, 3) and one.metadata.get("word") == "Beta"]
    assert expected
    assert [one.node_id for one in store.get_nodes(filters=outer)] == [one.node_id for one in expected]
    empty = MetadataFilters(filters=[MetadataFilters(filters=[]), MetadataFilter(key="n", value=2)])
    assert len(store.get_nodes(filters=empty)) == sum(one.metadata.get("n") == 2 for one in NODES)


def test_searching(both):
    for k in (1, 5, 100):
        asked(both, similarity_top_k=k)
        asked(both, similarity_top_k=k, node_ids=["node-3", "node-50", "node-4", "nowhere"])
    filters = MetadataFilters(filters=[MetadataFilter(key="n", value=2, operator=FilterOperator.GTE)])
    asked(both, similarity_top_k=9, node_ids=[f"node-{i}" for i in range(30)], filters=filters)
    found = both[1].query(
        VectorStoreQuery(NODES[0].embedding, similarity_top_k=60, doc_ids=["document-1", "document-2"])
    )
    assert {int(one.removeprefix("node-")) % 4 for one in found.ids} == {1, 2}


def test_maximal_marginal_relevance(both):
    for threshold in (0.2, 0.5, 1.0):
        query = VectorStoreQuery(
            [RANDOM.gauss(0, 1) for _ in range(8)], similarity_top_k=6, mode=VectorStoreQueryMode.MMR
        )
        expected = both[0].query(query, mmr_threshold=threshold)
        found = both[1].query(query, mmr_threshold=threshold, mmr_prefetch_k=60)
        assert found.ids == expected.ids
        np.testing.assert_allclose(found.similarities, expected.similarities, rtol=1e-4)
        assert len(both[1].query(query).ids) == 6


def test_deleting(both):
    for change in (
        lambda store: store.delete("document-1"),
        lambda store: store.delete("not there"),
        lambda store: store.delete_nodes(["node-2", "nowhere"]),
        lambda store: store.delete_nodes(filters=MetadataFilters(filters=[MetadataFilter(key="n", value=2)])),
        lambda store: store.delete_nodes(
            [f"node-{i}" for i in range(30)], MetadataFilters(filters=[MetadataFilter(key="word", value="Beta")])
        ),
        lambda store: asyncio.run(store.adelete("document-2")),
        lambda store: store.add(NODES[:10]),
        lambda store: store.clear(),
        lambda store: store.add(NODES[:10]),
        lambda store: store.delete_nodes(),
    ):
        for store in both:
            change(store)
        asked(both, similarity_top_k=60)


def test_nodes_come_back_whole():
    store = AnnvqVectorStore(metric="ip")
    index = IndexNode(id_="index", text="points on", index_id="other", embedding=[1.0] * 8)
    image = ImageNode(id_="image", text="", image_path="a.png", metadata={"w": 3}, embedding=[2.0] * 8)
    store.add([*NODES, index, image])
    found = store.get_nodes(["image", "node-7", "index", "nowhere"])
    assert [type(one) for one in found] == [ImageNode, TextNode, IndexNode]
    assert found[0].image_path == "a.png"
    assert found[2].index_id == "other"
    got = found[1]
    assert (got.text, got.metadata, got.ref_doc_id) == ("text 7", NODES[7].metadata, "document-3")
    np.testing.assert_allclose(got.embedding, NODES[7].embedding, rtol=1e-6)
    assert len(store.get_nodes()) == 62


def test_kept_in_a_folder(tmp_path, both):
    store = AnnvqVectorStore(tmp_path / "store")
    store.add(NODES)
    store.client.close()
    again = AnnvqVectorStore(tmp_path / "store")
    asked((both[0], again), similarity_top_k=7)
    again.delete("document-1")
    again.persist(str(tmp_path / "store"))  # itself: there is nothing to do
    again.client.close()
    assert len(AnnvqVectorStore(tmp_path / "store").client) == 45


def test_written_and_read_by_a_storage_context(tmp_path, both):
    context = StorageContext.from_defaults(vector_store=both[1])
    for _ in range(2):  # over what is there
        context.persist(str(tmp_path / "context"))
    again = AnnvqVectorStore.from_persist_dir(str(tmp_path / "context"))
    asked((both[0], again), similarity_top_k=7)
    again.clear()
    path = str(tmp_path / "context" / "default__vector_store.json")
    assert len(AnnvqVectorStore.from_persist_path(path, fsspec.filesystem("file")).client) == 60
    AnnvqVectorStore().persist(str(tmp_path / "nothing"))
    with pytest.raises(ParameterError, match="file system"):
        both[1].persist("x", fsspec.filesystem("memory"))


class ByLetters(BaseEmbedding):
    """Embeds texts by how often they have each letter."""

    def _get_text_embedding(self, text):
        return [float(text.count(letter)) + 0.1 for letter in "abcdefghijklmnopqrstuvwxyz"]

    _get_query_embedding = _get_text_embedding

    async def _aget_query_embedding(self, query):
        return self._get_query_embedding(query)


def test_in_an_index_of_llama_index():
    nodes = [TextNode(text=text, metadata={"n": i}) for i, text in enumerate(["banana", "zoo", "kiwi", "bandana"])]
    store = AnnvqVectorStore()
    context = StorageContext.from_defaults(vector_store=store)
    index = VectorStoreIndex(nodes, storage_context=context, embed_model=ByLetters())
    assert [found.node.text for found in index.as_retriever(similarity_top_k=2).retrieve("banana")] == [
        "banana",
        "bandana",
    ]
    filters = MetadataFilters(filters=[MetadataFilter(key="n", value=0, operator=FilterOperator.GT)])
    again = VectorStoreIndex.from_vector_store(store, embed_model=ByLetters())
    found = again.as_retriever(similarity_top_k=1, filters=filters).retrieve("banana")
    assert (found[0].node.text, found[0].node.metadata) == ("bandana", {"n": 3})
    assert AnnvqVectorStore.class_name() == "AnnvqVectorStore"


def test_bad_input(both):
    store = both[1]
    query = VectorStoreQuery(NODES[0].embedding, mode=VectorStoreQueryMode.SPARSE)
    wrong = MetadataFilters(filters=[MetadataFilter(key="n", value="x", operator=FilterOperator.ANY)])
    for error, call in (
        (ParameterError, lambda: store.query(query)),
        (ParameterError, lambda: store.query(VectorStoreQuery())),
        (ParameterError, lambda: store.get_nodes(filters=wrong)),
        (FilterError, lambda: store.get_nodes(filters=MetadataFilters(filters=[MetadataFilter(key="n", value=[1])]))),
        (ShapeError, lambda: store.add([TextNode(text="x", embedding=[1.0])])),
        (ShapeError, lambda: store.query(VectorStoreQuery([1.0]))),
    ):
        with pytest.raises(error):
            call()
    with pytest.raises(ValueError, match="embedding not set"):
        store.add([TextNode(text="x")])
    assert len(store.client) == 60
    assert AnnvqVectorStore().query(VectorStoreQuery([1.0])).ids == []
    assert AnnvqVectorStore().get_nodes() == []
