"""Bad input: its own clear error, and nothing changed."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from small_indexes import RECIPES

import annvq
from annvq import errors

RNG = np.random.default_rng(0)
BASE = RNG.normal(size=(200, 16)).astype(np.float32)


@pytest.fixture
def index():
    return annvq.build(BASE, "IVF4,SQ8", metric="ip")


def bad_vectors(row, value):
    vectors = BASE[:5].copy()
    vectors[row, 3] = value
    return vectors


def table(**columns):
    return pa.table({"v": pa.FixedSizeListArray.from_arrays(pa.array(BASE.reshape(-1)), 16), **columns})


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda i: i.add(BASE[:3, :8]), errors.ShapeError, ("8", "16")),
        (lambda i: i.add(BASE[0]), errors.ShapeError, ("vectors",)),
        (lambda i: i.add(BASE[:3].astype(np.complex64)), errors.DtypeError, ("complex64", "float32")),
        (lambda i: i.add(np.array([["a"] * 16])), errors.DtypeError, ("float32",)),
        (lambda i: i.add(bad_vectors(2, np.nan)), errors.NonFiniteError, ("2",)),
        (lambda i: i.add(bad_vectors(4, np.inf)), errors.NonFiniteError, ("4",)),
        (lambda i: i.add(BASE[:2], ids=[7, 1000]), errors.DuplicateIdError, ("7",)),
        (lambda i: i.add(BASE[:2], ids=[1000, 1000]), errors.DuplicateIdError, ("1000",)),
        (lambda i: i.add(BASE[:2], ids=["a", "b"]), errors.DtypeError, ("int", "str")),
        (lambda i: i.add(BASE[:2], ids=[1000]), errors.ShapeError, ("1", "2")),
        (lambda i: i.add(BASE[:2], attributes={"x": [1]}), errors.ShapeError, ("attributes", "1", "2")),
        (lambda i: i.add(BASE[:2], attributes=[{"x": 1}, {"x": "a"}]), errors.DtypeError, ("'x'", "row 1", "string")),
        (lambda i: i.remove([3, 999]), errors.UnknownIdError, ("999",)),
        (lambda i: i.remove(["a"]), errors.DtypeError, ("str",)),
        (lambda i: i.reconstruct([999]), errors.UnknownIdError, ("999",)),
        (lambda i: i.search(BASE[:1], 0), errors.ParameterError, ("k", "0")),
        (lambda i: i.search(BASE[:1], -3), errors.ParameterError, ("-3",)),
        (lambda i: i.search(BASE[:1], 2.5), errors.ParameterError, ("2.5",)),
        (lambda i: i.search(BASE[:1], 5, nprobe=0), errors.ParameterError, ("nprobe",)),
        (lambda i: i.search(BASE[:1], 5, rerank=-1), errors.ParameterError, ("rerank",)),
        (lambda i: i.search(BASE[:1], 5, threads=0), errors.ParameterError, ("threads",)),
        (lambda i: i.search(BASE[:1, :5]), errors.ShapeError, ("5", "16")),
        (lambda i: i.search(bad_vectors(1, np.nan)), errors.NonFiniteError, ("queries", "1")),
        (lambda i: i.search(BASE[:1], filter=np.ones(3, bool)), errors.FilterError, ("3", "200")),
        (lambda i: i.search(BASE[:1], filter=pc.field("x") > 1), errors.FilterError, ("attributes",)),
        (lambda i: i.search(BASE[:1], 10**12), errors.ParameterError, ("k", "16777216", "not 1000000000000")),
        (lambda i: i.search(BASE[:1], np.int64(10**12)), errors.ParameterError, ("16777216", "not 1000000000000")),
        (lambda i: i.search(BASE[:1], 10**30), errors.ParameterError, ("16777216",)),
        (lambda i: i.range_search(BASE[:1], np.nan), errors.ParameterError, ("radius", "not nan")),
        (lambda i: i.range_search(BASE[:1], "x"), errors.ParameterError, ("radius", "not 'x'")),
        (lambda i: i.range_search(BASE[:1], None), errors.ParameterError, ("radius", "not None")),
        (lambda i: i.range_search(BASE[:1], 10**400), errors.ParameterError, ("radius",)),
        (lambda i: i.range_search(BASE[:1], True), errors.ParameterError, ("radius", "True")),
        (lambda i: i.tune(BASE[:0]), errors.ParameterError, ("queries",)),
        (lambda i: i.tune(BASE[:5], recall=1.5), errors.ParameterError, ("1.5",)),
        (lambda i: i.tune(BASE[:5], recall=2), errors.ParameterError, ("above 0", "not above 1", "not 2")),
        (lambda i: i.tune(BASE[:5], recall="a"), errors.ParameterError, ("above 0", "not above 1", "not 'a'")),
        (lambda i: i.tune(BASE[:5], recall=None), errors.ParameterError, ("above 0", "not None")),
        (lambda i: i.save(5), errors.ParameterError, ("path", "str", "not 5")),
        (lambda i: i.save(None), errors.ParameterError, ("path", "str", "not None")),
        (lambda i: i.save("a\0b"), errors.ParameterError, ("path", "NUL", r"'a\x00b'")),
    ],
)
def test_error_and_nothing_changed(index, change, error, words):
    before = index.search(BASE[:20], 5)
    version = index.version
    with pytest.raises(error) as caught:
        change(index)
    for word in words:
        assert word in str(caught.value)
    assert isinstance(caught.value, errors.AnnvqError)
    after = index.search(BASE[:20], 5)
    assert index.version == version
    assert len(index) == 200
    assert before.ids.tolist() == after.ids.tolist()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"vectors": BASE, "metric": "jaccard"}, errors.ParameterError, ("jaccard", "hamming")),
        ({"vectors": BASE, "recipe": "no-such"}, errors.RecipeError, ("no-such",)),
        ({"vectors": BASE, "recipe": "PQ32x8"}, errors.RecipeError, ("32", "16")),
        ({"vectors": BASE, "recipe": "IVF1000,Flat"}, errors.RecipeError, ("1000", "200")),
        ({"vectors": BASE, "ids": [1, 2, 3]}, errors.ShapeError, ("3", "200")),
        ({"vectors": BASE, "ids": [7] * 200}, errors.DuplicateIdError, ("7",)),
        ({"vectors": BASE, "ids": np.linspace(0, 1, 200)}, errors.DtypeError, ("float64",)),
        ({"vectors": BASE, "attributes": {"x": [1, 2]}}, errors.ShapeError, ("2", "200")),
        ({"vectors": BASE, "train": 0}, errors.ParameterError, ("train",)),
        ({"vectors": BASE, "seed": -1}, errors.ParameterError, ("seed", "at least 0", "not -1")),
        ({"vectors": BASE, "seed": 1.5}, errors.ParameterError, ("seed", "whole number", "not 1.5")),
        ({"vectors": BASE, "seed": "x"}, errors.ParameterError, ("seed", "whole number", "not 'x'")),
        ({"vectors": BASE, "threads": 0}, errors.ParameterError, ("threads", "at least 1", "not 0")),
        ({"vectors": BASE, "threads": -1}, errors.ParameterError, ("threads", "not -1")),
        ({"vectors": BASE, "threads": 1.5}, errors.ParameterError, ("threads", "not 1.5")),
        ({"vectors": BASE, "threads": "x"}, errors.ParameterError, ("threads", "not 'x'")),
        ({"vectors": BASE, "path": 5}, errors.ParameterError, ("path", "not 5")),
        ({"vectors": BASE, "path": "a\0b"}, errors.ParameterError, ("NUL",)),
        ({"vectors": BASE, "recipe": "a\0b.toml"}, errors.RecipeError, (r"a\x00b",)),
        ({"vectors": table(id=np.linspace(0, 1, 200))}, errors.DtypeError, ("'id'", "double", "integers or strings")),
        ({"vectors": BASE.astype(np.int32)}, errors.DtypeError, ("int32", "float32", "int8")),
        ({"vectors": BASE.astype(np.int64)}, errors.DtypeError, ("int64", "float32", "int8")),
        ({"vectors": BASE, "recipe": "PQ8x8", "train": BASE[:, :3]}, errors.ShapeError, ("3", "16")),
        ({"vectors": BASE[:0], "recipe": "PQ8x8"}, errors.ParameterError, ("none",)),
        ({"vectors": bad_vectors(2, np.nan)}, errors.NonFiniteError, ("2",)),
        ({"vectors": BASE * np.float32(1e36), "recipe": "SQfp16"}, errors.NonFiniteError, ()),
        ({"vectors": BASE * np.float32(1e6), "recipe": "SQfp16"}, errors.NonFiniteError, ("float16",)),
        ({"vectors": BASE * 0, "metric": "cosine"}, errors.ZeroVectorError, ("0",)),
    ],
)
def test_build_refuses(arguments, error, words):
    with pytest.raises(error) as caught:
        annvq.build(**arguments)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("path", [None, 5, b"x", "a\0b", "\ud800"], ids=ascii)
def test_what_is_no_path_is_not_opened(path):
    with pytest.raises(errors.ParameterError, match="path") as caught:
        annvq.open(path)
    assert repr(path) in str(caught.value)


@pytest.mark.parametrize("kind", ["int", "str"])
def test_messages_print_ids_as_they_were_given(kind):
    ids = np.arange(200) if kind == "int" else [f"n{i}" for i in range(200)]
    index = annvq.build(BASE, "Flat", ids=ids)
    held, new = (5, 999) if kind == "int" else ("n5", "abc")
    for change, error, said in (
        (lambda: index.remove([held, new]), errors.UnknownIdError, f"does not hold id {new!r}$"),
        (lambda: index.reconstruct([new]), errors.UnknownIdError, f"does not hold id {new!r}$"),
        (lambda: index.add(BASE[:1], ids=[held]), errors.DuplicateIdError, f"already holds id {held!r};"),
        (lambda: index.add(BASE[:2], ids=[new, new]), errors.DuplicateIdError, f"^id {new!r} is given"),
    ):
        with pytest.raises(error, match=said):
            change()


def test_depths_beyond_the_index_mean_all_of_it(index):
    wanted = index.search(BASE[:3], 5, nprobe=4, rerank=200)
    for much in (5, 10**12, 10**30):
        hits = index.search(BASE[:3], 5, nprobe=much, rerank=much)
        assert hits.ids.tolist() == wanted.ids.tolist()
        assert len(index.range_search(BASE[:1], -1e300, nprobe=much).ids) == 200  # nor does the radius overflow


def test_a_zero_query_under_cosine_is_refused():
    index = annvq.build(BASE, metric="cosine")
    with pytest.raises(errors.ZeroVectorError):
        index.search(np.zeros(16, np.float32))


@pytest.mark.parametrize("nq", [0, 1, 19, 20, 100])
def test_an_empty_index_returns_missing_places(nq):
    index = annvq.build(np.empty((0, 16), np.float32))
    hits = index.search(BASE[:nq], 4)
    assert hits.ids.shape == hits.scores.shape == (nq, 4)
    assert (hits.ids == -1).all()
    assert (hits.scores == -np.inf).all()
    index.add(BASE[:3])
    assert index.search(BASE[:1], 4).ids[0, 3] == -1


def test_no_queries_give_no_hits(index):
    hits = index.search(np.empty((0, 16), np.float32), 7)
    assert hits.ids.shape == (0, 7)


def test_k_beyond_the_index_is_padded(index):
    hits = index.search(BASE[:2], 500)
    assert sorted(hits.ids[0, :200].tolist()) == list(range(200))
    assert (hits.ids[:, 200:] == -1).all()
    assert (hits.scores[:, 200:] == -np.inf).all()


def test_the_most_hits_that_may_be_asked_for(index, monkeypatch):
    monkeypatch.setattr("annvq.index.index._MOST_PLACES", 150)
    assert index.search(BASE[:2], 200).ids.min() >= 0  # as many as there are
    with pytest.raises(errors.ParameterError, match="from 1 to 200"):
        index.search(BASE[:2], 201)


@pytest.mark.parametrize("reopened", [False, True], ids=["in memory", "reopened"])
@pytest.mark.parametrize("ids", [list(range(120)), [f"n{i}" for i in range(120)]], ids=["int", "str"])
@pytest.mark.parametrize("kind", RECIPES)
def test_an_emptied_index_keeps_what_ids_and_attributes_it_takes(kind, ids, reopened, tmp_path):
    path = tmp_path / "index"
    index = annvq.build(
        BASE[:120], RECIPES[kind], ids=ids, attributes={"year": range(120)}, path=path if reopened else None
    )
    index.remove(ids)
    index.compact()
    if reopened:
        index.close()
        index = annvq.open(path, "rw")
    with index:
        missing = -1 if ids[0] == 0 else None
        for options in ({}, {"filter": pc.field("year") > 3}, {"filter": ids[:3]}, {"filter": np.empty(0, bool)}):
            assert index.search(BASE[:2], 3, **options).ids.tolist() == [[missing] * 3] * 2
        assert len(index.range_search(BASE[:2], -1e9).ids) == 0
        with pytest.raises(errors.DtypeError, match="those of the index are"):
            index.add(BASE[:1], ids=["a"] if missing == -1 else [7], attributes={"year": [1]})
        with pytest.raises(errors.DtypeError, match="'year', row 0: '1' of type string, the index holds int64"):
            index.add(BASE[:1], ids=ids[:1], attributes={"year": ["1"]})
        index.compact()
        index.add(BASE[:120], ids=ids, attributes={"year": range(120)})
        index.verify()
        hits = index.search(BASE[:2], 3, filter=pc.field("year") == 5)
        assert hits.ids.tolist() == [[ids[5], missing, missing]] * 2


def test_everything_removed_then_added_again(index):
    index.remove(np.arange(200))
    assert len(index) == 0
    assert (index.search(BASE[:2], 3).ids == -1).all()
    index.compact()
    assert (index.search(BASE[:2], 3).ids == -1).all()
    index.add(BASE)
    assert index.search(BASE[:2], 3).ids.min() >= 200  # ids are not given twice


def test_a_closed_index_says_so(index, tmp_path):
    index.save(tmp_path / "i")
    opened = annvq.open(tmp_path / "i")
    opened.close()
    opened.close()
    with pytest.raises(errors.StateError, match="closed"):
        opened.search(BASE[:1])


def test_an_index_opened_for_reading_refuses_changes(index, tmp_path):
    index.save(tmp_path / "i")
    with annvq.open(tmp_path / "i") as opened, pytest.raises(errors.StateError, match="rw"):
        opened.add(BASE[:1])
    with pytest.raises(errors.ParameterError, match="'a'"):
        annvq.open(tmp_path / "i", mode="a")
