"""Collections: texts with metadata that come back, are searched by meaning and filtered."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import annvq
from annvq import Collection, collection
from annvq.errors import (
    DtypeError,
    DuplicateIdError,
    FilterError,
    ParameterError,
    ShapeError,
    StateError,
    UnknownIdError,
)

WORDS = ("cat", "dog", "car", "tree", "sea")


def encode(texts):
    """Embed a text by the words in it."""
    return np.array([[1.0 + text.count(word) * 3 if word in text else 0.1 for word in WORDS] for text in texts])


TEXTS = ["a cat", "a dog and a cat", "a car", "a tree by the sea", "the sea"]
METADATA = [
    {"lang": "en", "page": 1, "tags": ["pet"]},
    {"lang": "en", "page": 2.5, "tags": ["pet", "two"], "more": {"deep": {"x": True}}},
    {"lang": "de", "page": "three"},
    None,
    {"lang": "fr", "page": None, 'ä " $x': "odd", "big": 2**60},
]


@pytest.fixture
def filled():
    made = Collection.create(encode)
    made.add(TEXTS, METADATA, ["a", "b", "c", "d", "e"])
    return made


def ids(records):
    return [record.id for record in records]


def test_what_goes_in_comes_out(filled):
    found = filled.get(["e", "a", "d", "b"])
    assert ids(found) == ["e", "a", "d", "b"]
    assert [one.text for one in found] == [TEXTS[i] for i in (4, 0, 3, 1)]
    assert [one.metadata for one in found] == [METADATA[i] or {} for i in (4, 0, 3, 1)]
    assert (len(filled), "a" in filled, "z" in filled, filled.count()) == (5, True, False, 5)
    assert ids(filled.get(limit=2, offset=1)) == ["b", "c"]


def test_search_by_meaning_with_a_filter(filled):
    best = filled.search("cat", 2)
    assert ids(best) == ["a", "b"]
    assert best[0].score == pytest.approx(1, abs=1e-3)
    assert 0 <= best[1].similarity <= best[0].similarity <= 1
    assert ids(filled.search("cat", 1, offset=1)) == ["b"]
    assert ids(filled.search("cat", 9, {"lang": "en", "page": {"$gte": 2}})) == ["b"]
    assert ids(filled.search("sea", 9, 'lang == "fr" or more.deep.x')) == ["e", "b"]
    assert ids(filled.search("cat", 9, {"tags": {"$contains": "two"}})) == ["b"]
    assert ids(filled.search("cat", 9, {"lang": "it"})) == []
    assert filled.count({"page": {"$exists": True}}) == 3
    assert filled.count({"lang": {"$ne": "en"}}) == 3
    vectors = filled.search_vectors(encode(["cat", "sea"]), 1, with_vectors=True)
    assert [ids(one) for one in vectors] == [["a"], ["e"]]
    assert vectors[0][0].vector.shape == (5,)


def test_rows_change_as_a_whole(filled):
    filled.upsert(["a tree", "new"], [{"n": 1}, {}], ["a", "z"])
    assert (len(filled), filled.get(["a"])[0].metadata, filled.get(["a"])[0].text) == (6, {"n": 1}, "a tree")
    filled.update(["b"], [{"lang": "it"}])
    assert (filled.get(["b"])[0].metadata, filled.get(["b"])[0].text) == ({"lang": "it"}, TEXTS[1])
    assert filled.remove(["a", "q"], missing="ignore") == 1
    assert filled.remove(filter={"lang": "it"}) == 1
    assert filled.remove(["c", "d"], filter={"lang": "de"}) == 1
    assert sorted(ids(filled.get())) == ["d", "e", "z"]
    assert filled.remove(filter={"lang": {"$exists": False}}) == 2


def test_random_ids_and_empty_calls():
    made = Collection.create(encode)
    assert (made.search("cat"), made.get(), made.add([]), made.count({"a": 1})) == ([], [], [], 0)
    assert made.remove(filter={"a": 1}) == 0
    given = made.add(["cat", "cat"])
    assert len(set(given)) == 2
    assert sorted(ids(made.search("cat"))) == sorted(given)


def test_rows_without_vectors_are_held_and_not_found():
    made = Collection.create(dim=5)
    made.add(["x", None, "y"], ids=["1", "2", "3"], vectors=[encode(["cat"])[0], None, encode(["dog"])[0]])
    made.add(["z"], ids=["4"], vectors=[None])
    assert len(made) == 4
    (found,) = made.search_vectors(encode(["cat"]), 9)
    assert ids(found) == ["1", "3"]
    assert made.get(["2"], with_vectors=True)[0].vector is None
    assert made.get(["2"])[0].text is None
    (cat,) = encode(["cat"])
    (kept,) = made.get(["1"], with_vectors=True)
    np.testing.assert_allclose(kept.vector, cat / np.linalg.norm(cat), rtol=1e-6)
    with pytest.raises(StateError, match="no encoder"):
        made.add(["text"])
    with pytest.raises(StateError, match="no encoder"):
        made.search("text")


def test_kept_on_disk(tmp_path, filled):
    with Collection.create(encode, path=tmp_path / "x") as made:
        made.add(TEXTS, METADATA, ["a", "b", "c", "d", "e"])
    with Collection.open(tmp_path / "x", encode) as reader:
        assert reader.get() == filled.get()
        assert ids(reader.search("cat", 2)) == ["a", "b"]
        with pytest.raises(StateError, match="open for reading"):
            reader.add(["more"])
    annvq.build(np.eye(3), "Flat").save(tmp_path / "plain")
    with pytest.raises(StateError, match="no collection"):
        Collection.open(tmp_path / "plain")


@pytest.mark.parametrize("on_disk", [False, True])
def test_optimized_for_many_rows(on_disk, tmp_path):
    rng = np.random.default_rng(0)
    made = Collection.create(dim=16, path=tmp_path / "x" if on_disk else None)
    vectors = rng.normal(size=(3000, 16)).astype(np.float32)
    made.add([str(i) for i in range(3000)], [{"n": i} for i in range(3000)], vectors=vectors)
    before = [ids(one) for one in made.search_vectors(vectors[:20], 5)]
    made.optimize("balanced")
    assert made.index.recipe.name == "balanced"
    after = [ids(one) for one in made.search_vectors(vectors[:20], 5)]
    assert np.mean([len(set(a) & set(b)) / 5 for a, b in zip(before, after)]) > 0.9
    assert made.get(filter={"n": 7})[0].text == "7"
    made.add(["more"], vectors=vectors[:1])
    assert len(made) == 3001
    if on_disk:
        version = made.index.version
        made.close()
        with Collection.open(tmp_path / "x") as reader:
            reader.index.verify()
            assert (len(reader), reader.index.version, reader.index.recipe.name) == (3001, version, "balanced")


def test_rows_added_while_it_is_optimized_are_kept(monkeypatch):
    made = Collection.create(dim=16)
    vectors = np.random.default_rng(0).normal(size=(300, 16)).astype(np.float32)
    made.add([str(i) for i in range(300)], vectors=vectors)
    build, adding = (
        collection.build,
        threading.Thread(target=lambda: made.add(["late"], ids=["x"], vectors=vectors[:1])),
    )

    def slowly(*given, **named):
        adding.start()
        time.sleep(0.2)
        return build(*given, **named)

    monkeypatch.setattr(collection, "build", slowly)
    made.optimize("ivf-sq8")
    adding.join()
    assert (len(made), made.get(["x"])[0].text, made.index.recipe.name) == (301, "late", "ivf-sq8")


def test_filters_on_texts_and_empty_lists(filled):
    assert ids(filled.get(filter={"$text": {"$contains": "cat"}, "lang": "en"})) == ["a", "b"]
    assert ids(filled.get(filter={"$text": "a car"})) == ["c"]
    assert ids(filled.search("sea", filter='column("$text").startswith("the")')) == ["e"]
    filled.add(["x", "y"], [{"tags": []}, {"tags": {}}], ["f", "g"])
    assert ids(filled.get(filter={"tags": []})) == ["f"]
    assert ids(filled.get(filter={"tags": {"$exists": True, "$ne": []}})) == ["a", "b", "g"]
    with pytest.raises(FilterError, match=r"no column '\$text'"):
        annvq.build(np.eye(2), "Flat", attributes={"a": [1, 2]}).count({"$text": "x"})


def test_values_of_a_field(filled):
    assert sorted(filled.values("lang")) == ["de", "en", "fr"]
    assert sorted(map(repr, filled.values("page"))) == ["'three'", "1", "2.5"]
    assert sorted(filled.values("tags")) == ["pet", "two"]
    assert filled.values("more.deep.x") == [True]
    assert (filled.values("nothing"), filled.values("big"), Collection.create(dim=2).values("x")) == ([], [2**60], [])
    assert filled.values("page", {"lang": "en", "tags": {"$contains": "two"}}) == [2.5]
    filled.add(["x", "y", "z"], [{"n": 1}, {"n": 1.0}, {"n": True}])
    assert {(type(value), value) for value in filled.values("n")} == {(int, 1), (float, 1.0), (bool, True)}
    filled.remove(["c"])
    assert sorted(filled.values("lang")) == ["en", "fr"]
    assert sorted(filled.values("$text", {"lang": {"$exists": True}})) == [TEXTS[i] for i in (0, 1, 4)]


def test_search_among_some_ids(filled):
    query = encode(["cat"])
    assert ids(filled.search_vectors(query, 9, ids=["c", "b", "nowhere"])[0]) == ["b", "c"]
    assert ids(filled.search_vectors(query, 9, {"lang": "de"}, ids=["c", "b"])[0]) == ["c"]
    assert filled.search_vectors(query, 9, ids=[]) == [[]]


def test_opened_or_created(tmp_path):
    for count in range(1, 3):
        with Collection.open_or_create(tmp_path / "x", encode) as made:
            made.add(["a cat"])
            assert len(made) == count
    for wrong in ({"metric": "l2"}, {"dim": 4}):
        with pytest.raises(ParameterError, match="dimension and metric"):
            Collection.open_or_create(tmp_path / "x", encode, **wrong)
    assert len(Collection.open_or_create(None, dim=3)) == 0


def test_bad_input_changes_nothing(filled):
    for error, call in (
        (DtypeError, lambda: filled.add("text")),
        (DtypeError, lambda: filled.add([5])),
        (DtypeError, lambda: filled.add(["x"], ids=[5])),
        (DtypeError, lambda: filled.add(["x"], ids="x")),
        (ShapeError, lambda: filled.add(["x"], ids=["1", "2"])),
        (ShapeError, lambda: filled.add(["x"], [{}, {}])),
        (DtypeError, lambda: filled.add(["x"], [["a"]])),
        (DtypeError, lambda: filled.add(["x"], [{1: 2}])),
        (DtypeError, lambda: filled.add(["x"], [{"a": {1, 2}}])),
        (DtypeError, lambda: filled.add(["x"], [{"a": float("nan")}])),
        (DuplicateIdError, lambda: filled.add(["x"], ids=["a"])),
        (ShapeError, lambda: filled.add(["x"], vectors=np.ones((1, 4)))),
        (ShapeError, lambda: filled.add(["x", "y"], vectors=np.ones((1, 5)))),
        (ShapeError, lambda: filled.add(["x", "y"], vectors=[None, np.ones(4)])),
        (UnknownIdError, lambda: filled.update(["q"], [{}])),
        (UnknownIdError, lambda: filled.get(["q"])),
        (FilterError, lambda: filled.search("cat", filter=["a"])),
        (FilterError, lambda: filled.search("cat", filter="lang = 'de'")),
        (DtypeError, lambda: filled.search(["cat"])),
        (ParameterError, lambda: filled.search("cat", 0)),
        (ParameterError, lambda: Collection.create()),
        (DtypeError, lambda: Collection.create(5)),
        (ShapeError, lambda: Collection.create(lambda texts: np.ones(3))),
    ):
        with pytest.raises(error):
            call()
    assert (len(filled), filled.index.version) == (5, 2)
