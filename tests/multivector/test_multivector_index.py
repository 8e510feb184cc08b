"""The index of documents: what it finds, keeps and refuses."""

import numpy as np
import pytest
import reference

import annvq
from annvq.errors import (
    CorruptIndexError,
    DtypeError,
    DuplicateIdError,
    NonFiniteError,
    ParameterError,
    RecipeError,
    ShapeError,
    StateError,
    UnknownIdError,
)
from annvq.multivector import MultiVectorIndex, MultiVectorRecipe, Ragged
from annvq.multivector import candidates as finding
from annvq.multivector.recipe import CANDIDATES, load, names

D = 24
DOCUMENTS = reference.topical(300, D, 1)
QUERIES = reference.topical(12, D, 2)
TOML = """
name = "tried"
candidates_by = "{by}"
candidates = 60
[encoder]
repetitions = 8
simhash_bits = 3
projection_dim = 8
[index.codebook]
kind = "pq"
M = "d/4"
nbits = 4
[tokens]
kind = "{kind}"
"""


def recipe(by="encoding", kind="pq"):
    return MultiVectorRecipe.from_toml(TOML.format(by=by, kind=kind))


@pytest.fixture(scope="module")
def index():
    return MultiVectorIndex.build(DOCUMENTS, recipe(kind="fp32"))


def exact_ids(documents, k, queries=QUERIES):
    scores = reference.chamfer(queries, documents)
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def test_all_candidates_are_exact_search(index):
    hits = index.search(QUERIES, 10, candidates=300)
    assert np.array_equal(hits.ids, exact_ids(DOCUMENTS, 10))
    want = np.take_along_axis(reference.chamfer(QUERIES, DOCUMENTS), hits.ids, 1)
    np.testing.assert_allclose(hits.scores, want, rtol=1e-5)


@pytest.mark.parametrize("by", CANDIDATES)
def test_every_way_to_candidates_finds_most(by):
    built = MultiVectorIndex.build(DOCUMENTS, recipe(by))
    found = built.search(QUERIES, 10, candidates=100, nprobe=8).ids
    shared = np.mean([np.isin(a, b).mean() for a, b in zip(found, exact_ids(DOCUMENTS, 10), strict=True)])
    assert shared > 0.7
    one = built.search(QUERIES[3], 10, candidates=100, nprobe=8)
    assert one.ids.tolist() == found[3:4].tolist()
    assert np.array_equal(found, built.search(QUERIES, 10, candidates=100, nprobe=8, threads=3).ids)


@pytest.mark.parametrize("by", ["encoding", "distinct-tokens", "centroids", "all"])
def test_filters_are_applied_before_candidates_are_cut(by):
    built = MultiVectorIndex.build(DOCUMENTS, recipe(by), ids=[f"d{i}" for i in range(300)])
    wanted = [f"d{i}" for i in range(0, 300, 10)]
    hits = built.search(QUERIES, 10, candidates=30, nprobe=64, filter=wanted)
    assert set(hits.ids.reshape(-1)) <= set(wanted)
    assert (hits.scores > -np.inf).all()


def test_attributes_filter_by_expression():
    pa = pytest.importorskip("pyarrow")
    pc = pytest.importorskip("pyarrow.compute")
    table = pa.table({"year": np.arange(300)})
    built = MultiVectorIndex.build(DOCUMENTS, recipe(kind="fp16"), attributes=table)
    hits = built.search(QUERIES, 5, filter=pc.field("year") >= 290)
    assert (hits.ids >= 290).all()


def test_columns_of_attributes_may_come_late(tmp_path):
    pc = pytest.importorskip("pyarrow.compute")
    path = tmp_path / "index"
    built = MultiVectorIndex.build(DOCUMENTS[:200], recipe(kind="fp16"), attributes=[{"a": 1}] * 200, path=path)
    with built as index:
        index.add(DOCUMENTS[200:202], attributes=[{"b": "x"}, {"a": 2}])
        index.add(DOCUMENTS[202:204])
        with pytest.raises(DtypeError, match="column 'b', row 0: 1 of type int64, the index holds string"):
            index.add(DOCUMENTS[:1], ids=[999], attributes=[{"b": 1}])
        assert index.search(DOCUMENTS[:1], 3, filter=pc.field("a") == 2).ids[0].tolist() == [201, -1, -1]
    with MultiVectorIndex.open(path) as index:
        found = index.search(DOCUMENTS[:1], 8, filter=pc.field("a").is_null()).ids[0].tolist()
        assert sorted(set(found) - {-1}) == [200, 202, 203]


@pytest.mark.parametrize("kind", ["fp32", "sq8", "pq", "rabitq"])
def test_saved_opened_changed_and_merged(kind, tmp_path):
    built = MultiVectorIndex.build(DOCUMENTS[:200], recipe(kind=kind))
    before = built.search(QUERIES, 7)
    built.save(tmp_path / "index")
    with MultiVectorIndex.open(tmp_path / "index", "rw") as opened:
        after = opened.search(QUERIES, 7)
        assert np.array_equal(before.ids, after.ids)
        assert np.array_equal(before.scores, after.scores)
        opened.add(DOCUMENTS[200:])
        opened.remove([5, 250])
        assert len(opened) == 298
        changed = opened.search(QUERIES, 7, candidates=298)
        assert not np.isin(changed.ids, [5, 250]).any()
        opened.compact()
        opened.verify()
        compacted = opened.search(QUERIES, 7, candidates=298)
        assert np.array_equal(changed.ids, compacted.ids)
        assert np.array_equal(changed.scores, compacted.scores)
    with MultiVectorIndex.open(tmp_path / "index") as again:
        assert np.array_equal(again.search(QUERIES, 7, candidates=298).ids, changed.ids)
        shipped, sent = again.__reduce__()
        with shipped(*sent) as other:
            assert np.array_equal(other.search(QUERIES, 7, candidates=298).ids, changed.ids)
        kept = again.reconstruct([17, 280])
        assert kept.lengths.tolist() == [len(DOCUMENTS[17]), len(DOCUMENTS[280])]
        if kind == "fp32":
            assert np.array_equal(kept.vectors, np.concatenate([DOCUMENTS[17], DOCUMENTS[280]]))
        with pytest.raises(UnknownIdError):
            again.reconstruct([5])
        with pytest.raises(StateError):
            again.add(DOCUMENTS[:1])


def test_a_stream_makes_the_same_documents(tmp_path):
    whole = MultiVectorIndex.build(DOCUMENTS, recipe(kind="fp32"))
    batches = (DOCUMENTS[start : start + 70] for start in range(0, 300, 70))
    streamed = MultiVectorIndex.build(batches, recipe(kind="fp32"), path=tmp_path / "streamed")
    assert len(streamed) == 300
    assert np.array_equal(
        whole.search(QUERIES, 10, candidates=300).ids, streamed.search(QUERIES, 10, candidates=300).ids
    )
    streamed.close()


def test_tuning_reaches_what_was_asked_for():
    built = MultiVectorIndex.build(DOCUMENTS, recipe(kind="fp32"))
    report = built.tune(QUERIES, 5, 0.95)
    assert report.reached
    assert built.candidates == report.chosen.rerank
    found = built.search(QUERIES, 5).ids
    shared = np.mean([np.isin(a, b).mean() for a, b in zip(found, exact_ids(DOCUMENTS, 5), strict=True)])
    assert shared >= 0.95
    with pytest.raises(ParameterError):
        built.tune(QUERIES, 300)


def many(n, seed):
    return reference.topical(n, 16, seed)


def test_tuning_makes_up_for_what_narrowing_loses():
    documents, queries = many(1500, 5), many(40, 6)
    built = MultiVectorIndex.build(documents, recipe(kind="pq"))
    scores = np.zeros((len(queries), len(documents)))
    for begin in range(0, len(documents), 30):  # so few are scored without narrowing
        some = np.arange(begin, begin + 30)
        hits = built.search(queries, 30, filter=some)
        for q in range(len(queries)):
            scores[q, hits.ids[q]] = hits.scores[q]
    best = np.argsort(-scores, axis=1)[:, :10]
    for wanted in (0.9, 0.99):
        report = built.tune(queries, 10, wanted)
        found = built.search(queries, 10).ids
        recall = np.mean([np.isin(a, b).mean() for a, b in zip(best, found, strict=True)])
        assert report.reached
        assert recall >= wanted
        assert recall == pytest.approx(report.chosen.recall, abs=0.01)  # ties


@pytest.mark.parametrize("by", ["encoding", "tokens", "distinct-tokens", "centroids"])
def test_k_documents_come_back_where_k_pass(by):
    documents = many(400, 7)
    built = MultiVectorIndex.build(documents, recipe(by))
    queries = [one[:2] for one in many(10, 8)]
    for keep in (np.arange(0, 400, 40), np.arange(12)):
        hits = built.search(queries, 10, filter=keep)
        assert (hits.ids >= 0).all()
        assert np.isin(hits.ids, keep).all()
        assert all(len(set(row)) == 10 for row in hits.ids.tolist())
    assert (built.search(queries, 400).ids >= 0).all()


def test_all_documents_are_scored_where_all_are_candidates():
    documents, queries = many(600, 9), many(10, 10)
    built = MultiVectorIndex.build(documents, recipe("all"))
    whole = built.search(queries, 600)
    few = built.search(queries, 10)
    np.testing.assert_array_equal(few.ids, whole.ids[:, :10])


def test_what_find_candidates_names_is_what_search_scores():
    documents, queries = many(300, 11), many(10, 12)
    built = MultiVectorIndex.build(documents, recipe(kind="fp32"))
    for candidates in (None, 15):
        named = built.find_candidates(queries, candidates)
        hits = built.search(queries, 10, candidates=candidates)
        assert all(np.isin(ids, names_of).all() for ids, names_of in zip(hits.ids, named, strict=True))
        assert {len(ids) for ids in named} == {candidates or 60}


def test_centroids_are_never_more_than_a_quarter_of_the_vectors():
    built = MultiVectorIndex.build(many(20, 13), "centroid-interaction")
    assert len(built._current()[1].tokens.centroids) <= sum(len(one) for one in many(20, 13)) // 4


def test_params_go_where_nothing_else_is_said(index):
    params = annvq.SearchParams(3, 17)
    expected = index.search(QUERIES, 5, nprobe=3, candidates=17)
    found = index.search(QUERIES, 5, params=params)
    assert np.array_equal(found.ids, expected.ids)
    assert np.array_equal(found.scores, expected.scores)
    with pytest.raises(ParameterError, match=r"params: int, expected annvq\.SearchParams"):
        index.search(QUERIES, 5, params=3)


def test_an_index_of_documents_is_not_tuned_as_one_of_vectors(tmp_path):
    MultiVectorIndex.build(DOCUMENTS, recipe()).save(tmp_path / "made")
    with annvq.open(tmp_path / "made", "rw") as opened, pytest.raises(StateError, match="of documents"):
        opened.tune(np.zeros((5, opened.dim), np.float32))


def test_more_hits_than_documents_and_none_at_all():
    built = MultiVectorIndex.build(DOCUMENTS[:4], recipe(kind="fp32"))
    hits = built.search(QUERIES, 6)
    assert (hits.ids[:, 4:] == -1).all()
    assert (hits.scores[:, 4:] == -np.inf).all()
    assert sorted(hits.ids[0, :4]) == [0, 1, 2, 3]
    built.remove([0, 1, 2, 3])
    assert (built.search(QUERIES, 3).ids == -1).all()


def test_equal_documents_are_ordered_by_id():
    built = MultiVectorIndex.build([DOCUMENTS[0]] * 40, recipe(kind="fp32"), ids=np.arange(40)[::-1].copy())
    assert built.search(QUERIES, 5, candidates=40).ids.tolist() == [[0, 1, 2, 3, 4]] * 12


def with_equal_tokens(n):
    """Documents that all begin with the same vector, and share others with many."""
    rng = np.random.default_rng(5)
    shared = reference.topical(1, D, 6)[0][:4]
    return [np.concatenate([shared[:1], shared[rng.integers(0, 4, 2)], DOCUMENTS[i % 7][:2]]) for i in range(n)]


@pytest.mark.parametrize("by", CANDIDATES)
@pytest.mark.parametrize("names", ["integers", "strings"])
def test_equal_vectors_are_found_alike_in_any_segments(by, names, monkeypatch):
    documents = with_equal_tokens(120)
    numbers = np.random.default_rng(7).permutation(120) * 3
    ids = numbers if names == "integers" else np.array([f"d{number}" for number in numbers])
    made = recipe(by, "fp32" if by != "centroids" else "pq")
    whole = MultiVectorIndex.build(documents, made, ids=ids)
    queries = [QUERIES[0], np.concatenate([documents[0][:1], QUERIES[1][:2]]), documents[5]]
    wanted = {"candidates": 9, "nprobe": 2}
    expected = whole.search(queries, 5, **wanted)
    for order, cuts in ((np.arange(120), (1, 50, 90)), (np.arange(120)[::-1], (30,)), (numbers.argsort(), (7, 8, 100))):
        parts = np.split(order, cuts)
        grown = MultiVectorIndex.build(documents, made, ids=ids)  # codebooks are those of the whole
        grown.remove(list(ids[np.concatenate(parts[1:])]))
        for part in parts[1:]:
            grown.add([documents[i] for i in part], ids=ids[part])
        for _ in range(2):
            found = grown.search(queries, 5, **wanted)
            assert np.array_equal(found.ids, expected.ids)
            assert np.array_equal(found.scores, expected.scores)
            grown.compact()
    for threads in (1, 3):
        singly = [whole.search(one, 5, threads=threads, **wanted).ids[0] for one in queries]
        assert np.array_equal(singly, expected.ids)
    monkeypatch.setattr(finding, "_BLOCK", 16)  # vectors that are looked at together
    assert np.array_equal(whole.search(queries, 5, **wanted).ids, expected.ids)


def test_bytes_are_said_by_part(index):
    stats = index.stats()
    assert stats["tokens"] == sum(len(one) for one in DOCUMENTS)
    assert stats["bytes_per_document"]["tokens"] >= 4 * D * stats["tokens"] / 300
    assert stats["recipe"] == "tried"
    assert stats["candidates"] == 60


@pytest.mark.parametrize(("scale", "error"), [(1e-7, ParameterError), (1e6, NonFiniteError)])
def test_tokens_that_float16_cannot_keep_are_refused(tmp_path, scale, error):
    documents = [*DOCUMENTS[:20], DOCUMENTS[20] * np.float32(scale)]
    with pytest.raises(error, match="float16"):
        MultiVectorIndex.build(documents, recipe(kind="fp16"), path=tmp_path / "a")
    assert not (tmp_path / "a").exists()
    zero = np.zeros_like(DOCUMENTS[20])
    assert len(MultiVectorIndex.build([*DOCUMENTS[:20], zero], recipe(kind="fp16"))) == 21
    assert len(MultiVectorIndex.build(documents, recipe(kind="fp32"))) == 21


def test_bad_documents_and_queries_are_refused(index, tmp_path):
    with pytest.raises(ShapeError, match="number 1 has no vectors"):
        MultiVectorIndex.build([DOCUMENTS[0], np.empty((0, D), np.float32)], recipe(), path=tmp_path / "a")
    with pytest.raises(NonFiniteError, match="number 3"):
        MultiVectorIndex.build(iter([DOCUMENTS[:3], [np.full((1, D), np.nan)]]), recipe(), path=tmp_path / "a")
    assert not (tmp_path / "a").exists()
    with pytest.raises(ShapeError, match="no documents"):
        MultiVectorIndex.build([], recipe())
    with pytest.raises(ShapeError, match="2 ids for 3"):
        MultiVectorIndex.build(DOCUMENTS[:3], recipe(), ids=[1, 2])
    with pytest.raises(DuplicateIdError):
        MultiVectorIndex.build(DOCUMENTS[:3], recipe(), ids=[1, 2, 1])
    with pytest.raises(ShapeError, match="dimension 3, expected 24"):
        index.search([np.ones((2, 3))])
    with pytest.raises(ShapeError, match="queries: number 0 has no vectors"):
        index.search([np.empty((0, D), np.float32)])
    with pytest.raises(NonFiniteError):
        index.search(np.full((2, D), np.inf))
    for wrong in ({"k": 0}, {"candidates": 0}, {"nprobe": 0}, {"k": 1.5}):
        with pytest.raises(ParameterError):
            index.search(QUERIES, **wrong)


def test_an_index_of_documents_is_not_one_of_vectors(index, tmp_path):
    index.save(tmp_path / "documents")
    with annvq.open(tmp_path / "documents", "rw") as opened, pytest.raises(StateError, match="MultiVectorIndex"):
        opened.add(np.zeros((1, opened.dim), np.float32))
    annvq.build(np.concatenate(DOCUMENTS), "flat").save(tmp_path / "vectors")
    with pytest.raises(StateError, match=r"annvq\.open"):
        MultiVectorIndex.open(tmp_path / "vectors")


def test_shipped_recipes_can_be_read_and_built():
    assert set(names()) >= {"muvera", "muvera-4bit", "chamfer-exact", "single-vector-heuristic", "centroid-interaction"}
    for name in names():
        assert load(name).name == name
    built = MultiVectorIndex.build(DOCUMENTS, "chamfer-exact")
    assert np.array_equal(built.search(QUERIES, 3).ids, exact_ids([one.astype(np.float16) for one in DOCUMENTS], 3))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("candidates = 3", "index missing"), ("[index.codebook]\nkind='fp16'\n[tokens]\nkind='pg'", "'pg'"),
        ("[index.codebook]\nkind='fp16'\n[tokens]\nkind='fp16'\nbits=2", "bits"),
        ("[index.codebook]\nkind='fp16'\n[encoder]\nrepetition=2", "repetitions"), ("x", "not TOML"),
        ("candidates_by='centroids'\n[index.codebook]\nkind='fp16'\n[tokens]\nkind='fp16'", "needs tokens"),
        ("[index]\nrefine='fp16'\n[index.codebook]\nkind='sq8'", "refine"),
    ],
)  # fmt: skip
def test_wrong_recipes_say_what_is_wrong(text, message):
    with pytest.raises(RecipeError, match=message):
        MultiVectorRecipe.from_toml(text)


def test_damaged_sections_are_refused(index, tmp_path):
    from annvq.index.versions import persist

    now = index.rows.current
    sections = persist.segment_sections(now.snapshot.segments[0])
    for name, wrong in (
        ("array.tokens.offsets", sections["array.tokens.offsets"][::-1]),
        ("array.tokens.offsets", sections["array.tokens.offsets"][1:]),
        ("array.tokens.rows", sections["array.tokens.rows"][1:]),
        ("array.tokens.rows", sections["array.tokens.rows"].astype(np.float64)),
    ):
        with pytest.raises(CorruptIndexError):
            persist.segment_from_sections({**sections, name: wrong}, now.trained, "segment")
    without = {name: array for name, array in sections.items() if name != "array.tokens.rows"}
    with pytest.raises(CorruptIndexError):
        persist.segment_from_sections(without, now.trained, "segment")


def test_labels_beyond_the_centroids_are_refused():
    from annvq.index.versions import persist

    built = MultiVectorIndex.build(DOCUMENTS, recipe())
    now = built.rows.current
    sections = persist.segment_sections(now.snapshot.segments[0])
    labels = sections["array.tokens.labels"].copy()
    labels[3] = 1 << 20
    with pytest.raises(CorruptIndexError, match="centroid 1048576"):
        persist.segment_from_sections({**sections, "array.tokens.labels": labels}, now.trained, "segment")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("repetitions = -1", "encoder.repetitions = -1"),
        ("repetitions = 'x'", "encoder.repetitions = 'x'"),
        ("seed = -1", "encoder.seed"),
        ("fill_empty = 1", "encoder.fill_empty"),
    ],
)
def test_encoders_that_cannot_be_are_refused(change, message):
    with pytest.raises(RecipeError, match=message):
        MultiVectorRecipe.from_toml(f"[index.codebook]\nkind='fp16'\n[encoder]\n{change}")
    with pytest.raises(RecipeError, match="expected Recipe"):
        MultiVectorRecipe(index="flat")


@pytest.mark.parametrize("change", [dict(k="a"), dict(k=None), dict(recall=2)])
def test_wrong_tuning_is_refused(index, change):
    with pytest.raises(ParameterError):
        index.tune(QUERIES, **change)


def test_wrong_candidates_are_called_so(index):
    with pytest.raises(ParameterError, match="candidates must be"):
        index.search(QUERIES, 3, candidates=0)


def test_ragged_sets_build_as_flat_vectors_do():
    sets = Ragged.of(DOCUMENTS)
    one = MultiVectorIndex.build(sets.vectors, recipe(), offsets=sets.offsets)
    other = MultiVectorIndex.build(sets, recipe())
    assert np.array_equal(one.search(QUERIES).scores, other.search(QUERIES).scores)


@pytest.mark.parametrize("by", CANDIDATES)
def test_removed_documents_leave_as_many_candidates(by):
    index = MultiVectorIndex.build(DOCUMENTS, recipe(by), ids=np.arange(len(DOCUMENTS)))
    index.remove(np.arange(240))
    everything = [np.ones(60, bool), np.arange(240, 300), index.prepare_filter(np.ones(60, bool))]
    plain = index.search(QUERIES, 10, candidates=40, nprobe=1)
    candidates = index.find_candidates(QUERIES, 40, nprobe=1)
    for given in everything:
        hits = index.search(QUERIES, 10, candidates=40, nprobe=1, filter=given)
        assert hits.ids.tolist() == plain.ids.tolist()
        assert hits.scores.tobytes() == plain.scores.tobytes()
        found = index.find_candidates(QUERIES, 40, nprobe=1, filter=given)
        assert [ids.tolist() for ids in found] == [ids.tolist() for ids in candidates]
    if by in ("encoding", "centroids"):
        assert [len(ids) for ids in candidates] == [40] * len(QUERIES)
    index.compact()
    hits = index.search(QUERIES, 10, candidates=40, nprobe=1)
    assert hits.ids.tolist() == plain.ids.tolist()
