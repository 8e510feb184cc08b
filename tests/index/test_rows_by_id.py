"""Rows that come back and change: get, count, upsert, update, remove, and what a search brings along."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

import annvq
from annvq.errors import (
    CorruptIndexError,
    DtypeError,
    DuplicateIdError,
    FilterError,
    ParameterError,
    ShapeError,
    StateError,
    UnknownIdError,
)
from annvq.multivector import MultiVectorIndex

RNG = np.random.default_rng(5)
ROWS = RNG.normal(size=(300, 24)).astype(np.float32)
NAMES = [f"d{i}" for i in range(300)]


def attributes(numbers) -> list[dict]:
    return [{"n": int(i), "lang": ["de", "en", None][i % 3], "tags": ["x"] * (i % 4)} for i in numbers]


@pytest.fixture
def index():
    return annvq.build(ROWS, "IVF8,PQ12x4fs,Refine(SQ8)", ids=NAMES, attributes=attributes(range(300)), metric="l2")


@pytest.fixture
def grown(index):
    """Rows in several segments, some removed, a column that is new."""
    index.remove(["d5", "d7", "d250"])
    index.add(ROWS[:40] + 9, [f"e{i}" for i in range(40)], [{"n": i, "more": 0.5} for i in range(40)])
    index.remove(["e1"])
    return index


def test_ids_and_membership(grown):
    expected = [name for name in NAMES if name not in ("d5", "d7", "d250")] + [f"e{i}" for i in range(40) if i != 1]
    assert grown.ids.tolist() == expected
    assert all(name in grown for name in ("d4", "e0"))
    assert all(name not in grown for name in ("d5", "e1", "nothing", 4, None, 2.5, b"d4", ["d4"]))
    numbers = annvq.build(ROWS[:9], "Flat", ids=range(7, 16))
    assert numbers.ids.tolist() == list(range(7, 16))
    assert (np.int32(7) in numbers, 16 in numbers, "7" in numbers, True in numbers, 7.0 in numbers) == (
        True, False, False, False, False,
    )  # fmt: skip


def test_get_by_ids_is_in_their_order(grown):
    table = grown.get(["e3", "d9", "e3", "d0"], columns=["more", "n"], vectors=True)
    assert table.schema.names == ["id", "vector", "more", "n"]
    assert table.drop_columns(["vector"]).to_pylist() == [
        {"id": "e3", "more": 0.5, "n": 3},
        {"id": "d9", "more": None, "n": 9},
        {"id": "e3", "more": 0.5, "n": 3},
        {"id": "d0", "more": None, "n": 0},
    ]
    vectors = np.array(table.column("vector").to_pylist(), np.float32)
    np.testing.assert_array_equal(vectors, grown.reconstruct(["e3", "d9", "e3", "d0"]))


def test_get_by_filter_pages_and_counts(grown):
    import pyarrow.compute as pc

    german = pc.field("lang") == "de"
    expected = [f"d{i}" for i in range(0, 300, 3)]
    assert grown.get(filter=german).column("id").to_pylist() == expected
    assert grown.get(filter=german, limit=5, offset=90).column("id").to_pylist() == expected[90:95]
    assert grown.get(filter=german, offset=1000).num_rows == 0
    assert grown.get(["d1", "d3", "d6", "d2"], filter=german).column("id").to_pylist() == ["d3", "d6"]
    assert (grown.count(), grown.count(german), grown.count(filter=["d3", "d5", "q"])) == (len(grown), 100, 1)
    assert grown.get().column("id").to_pylist() == grown.ids.tolist()
    assert grown.get(columns=[]).schema.names == ["id"]
    assert grown.get([]).num_rows == 0


def test_get_refuses_what_it_does_not_know(grown):
    with pytest.raises(UnknownIdError, match="'d5' and 1 more"):
        grown.get(["d5", "d6", "d7"])
    assert grown.get(["d5", "d6", "d7"], missing="ignore").column("id").to_pylist() == ["d6"]
    with pytest.raises(ParameterError, match="no 'langs', it has: n, lang, tags, more"):
        grown.get(columns=["langs"])
    with pytest.raises(ParameterError, match="list of names"):
        grown.get(columns="lang")
    for wrong in ({"limit": -1}, {"offset": -1}, {"limit": 1.5}, {"missing": "skip"}):
        with pytest.raises(ParameterError):
            grown.get(["d6"], **wrong)
    clash = annvq.build(ROWS[:3], "Flat", attributes={"id": [1, 2, 3]})
    with pytest.raises(StateError, match="'id'"):
        clash.get()
    assert clash.get(columns=[]).column("id").to_pylist() == [0, 1, 2]


def test_attributes_come_with_hits(grown):
    hits = grown.search(ROWS[:2], 3, columns=["n", "more"], nprobe=8)
    assert hits.ids[:, 0].tolist() == ["d0", "d1"]
    assert hits.attributes.num_rows == 6
    of_ids = grown.get(hits.ids.reshape(-1).tolist(), columns=["n", "more"]).drop_columns(["id"])
    assert hits.attributes.to_pylist() == of_ids.to_pylist()
    few = grown.search(ROWS[0], 4, columns=["n"], filter=["d0", "e0"])
    assert few.attributes.to_pylist() == [{"n": 0}, {"n": 0}, {"n": None}, {"n": None}]
    assert few.to_arrow().drop_columns(["score"]).to_pylist() == [
        {"query": 0, "rank": 0, "id": "d0", "n": 0},
        {"query": 0, "rank": 1, "id": "e0", "n": 0},
    ]
    assert grown.search(ROWS[0], 3).attributes is None
    with pytest.raises(ParameterError, match="no 'z'"):
        grown.search(ROWS[0], 3, columns=["z"])


@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
def test_pages_are_pieces_of_the_whole(metric):
    index = annvq.build(ROWS, "Flat", metric=metric)
    whole = index.search(ROWS[:3], 300)
    for offset, k in ((0, 7), (7, 5), (290, 10), (295, 10), (400, 3)):
        page = index.search(ROWS[:3], k, offset=offset)
        assert page.ids.shape == (3, k)
        held = max(0, min(k, 300 - offset))
        np.testing.assert_array_equal(page.ids[:, :held], whole.ids[:, offset : offset + k])
        np.testing.assert_array_equal(page.scores[:, :held], whole.scores[:, offset : offset + k])
        assert (page.ids[:, held:] == -1).all()
        assert (page.scores[:, held:] == -np.inf).all()


@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
def test_distances_and_similarities(metric):
    index = annvq.build(ROWS, "Flat", metric=metric)
    hits = index.search(ROWS[:5], 400)
    exact = ROWS[:5].astype(np.float64) @ ROWS.T
    if metric == "cosine":
        exact = 1 - exact / np.linalg.norm(ROWS[:5], axis=1)[:, None] / np.linalg.norm(ROWS, axis=1)
    elif metric == "l2":
        exact = ((ROWS[:5, None].astype(np.float64) - ROWS) ** 2).sum(axis=2)
    else:
        exact = -exact
    np.testing.assert_allclose(hits.distances[:, :300], np.sort(exact, axis=1), atol=1e-4)
    assert np.isposinf(hits.distances[:, 300:]).all()
    similar = hits.similarities
    assert similar.min() == 0
    assert similar.max() <= 1
    assert (np.diff(similar[:, :300], axis=1) <= 0).all()
    assert (similar[:, 300:] == 0).all()
    if metric != "ip":
        np.testing.assert_allclose(similar[:, 0], 1, atol=1e-5)


def test_hits_of_nobody_have_no_metric():
    hits = annvq.Hits(np.zeros((1, 1), np.int64), np.ones((1, 1), np.float32))
    with pytest.raises(StateError, match="no search"):
        hits.distances  # noqa: B018
    ids, scores = hits
    assert (ids.tolist(), scores.tolist(), hits.to_arrow().num_rows) == ([[0]], [[1.0]], 1)


def test_upsert_is_one_version_and_replaces_whole_rows(tmp_path, index):
    index.save(tmp_path / "x")
    with annvq.open(tmp_path / "x", "rw") as writer:
        writer.upsert(ROWS[10:13] * 2, ["d1", "new", "d2"], [{"n": -1}, {"n": -2}, {"n": -3, "more": True}])
        assert (writer.version, len(writer)) == (2, 301)
        assert writer.ids.tolist()[-3:] == ["d1", "new", "d2"]
    with annvq.open(tmp_path / "x", verify=True) as reader:
        assert reader.get(["d1", "d2", "d3"], columns=["n", "lang", "more"]).to_pylist() == [
            {"id": "d1", "n": -1, "lang": None, "more": None},
            {"id": "d2", "n": -3, "lang": None, "more": True},
            {"id": "d3", "n": 3, "lang": "de", "more": None},
        ]
        hits = reader.search(ROWS[10:13] * 2, 1, nprobe=8)
        assert hits.ids[:, 0].tolist() == ["d1", "new", "d2"]


def test_upsert_refuses_and_changes_nothing(index):
    before = index.to_bytes()
    for error, call in (
        (ParameterError, lambda: index.upsert(ROWS[:1])),
        (DuplicateIdError, lambda: index.upsert(ROWS[:2], ["d1", "d1"])),
        (ShapeError, lambda: index.upsert(ROWS[:2], ["d1"])),
        (DtypeError, lambda: index.upsert(ROWS[:1], [1])),
        (DtypeError, lambda: index.upsert(ROWS[:1], ["d1"], [{"n": "text"}])),
        (DuplicateIdError, lambda: index.add(ROWS[:1], ["d1"])),
    ):
        with pytest.raises(error):
            call()
    assert len(index) == 300
    assert annvq.from_bytes(before).get().equals(index.get())


def test_update_changes_attributes_alone(grown):
    vectors = grown.reconstruct(["d9", "e0", "d10"])
    hits = grown.search(ROWS, 10, nprobe=8)
    grown.update(["e0", "d9", "d10"], {"lang": ["fr", None, "it"], "new": [1, 2, 3]})
    np.testing.assert_array_equal(grown.reconstruct(["d9", "e0", "d10"]), vectors)
    after = grown.search(ROWS, 10, nprobe=8)
    np.testing.assert_array_equal(hits.ids, after.ids)
    np.testing.assert_array_equal(hits.scores, after.scores)
    assert grown.get(["d9", "e0", "d10", "d11"]).to_pylist() == [
        {"id": "d9", "n": 9, "lang": None, "tags": ["x"], "more": None, "new": 2},
        {"id": "e0", "n": 0, "lang": "fr", "tags": None, "more": 0.5, "new": 1},
        {"id": "d10", "n": 10, "lang": "it", "tags": ["x", "x"], "more": None, "new": 3},
        {"id": "d11", "n": 11, "lang": None, "tags": ["x", "x", "x"], "more": None, "new": None},
    ]
    for error, call in (
        (UnknownIdError, lambda: grown.update(["d9", "zz"], {"n": [1, 2]})),
        (DuplicateIdError, lambda: grown.update(["d9", "d9"], {"n": [1, 2]})),
        (ShapeError, lambda: grown.update(["d9"], {"n": [1, 2]})),
        (DtypeError, lambda: grown.update(["d9"], {"n": ["a"]})),
    ):
        version = grown.version
        with pytest.raises(error):
            call()
        assert grown.version == version


def test_remove_returns_how_many(grown):
    import pyarrow.compute as pc

    n = len(grown)
    with pytest.raises(UnknownIdError):
        grown.remove(["d0", "d5"])
    assert grown.remove(["d0", "d5", "d0"], missing="ignore") == 1
    assert grown.remove(filter=pc.field("more") == 0.5) == 39
    assert grown.remove(["d1", "d2", "d3"], filter=pc.field("lang") == "en") == 1
    assert len(grown) == n - 41
    assert ("d1" in grown, "d2" in grown) == (False, True)
    with pytest.raises(ParameterError, match="ids, a filter"):
        grown.remove()
    assert grown.remove([]) == 0


def test_columns_of_every_type_come_back(tmp_path):
    from datetime import date, datetime, timezone
    from decimal import Decimal

    n = 70
    table = pa.table(
        {
            "text": pa.array([None if i % 5 == 0 else "ä" * i for i in range(n)]),
            "large": pa.array(["b" * (i % 3) for i in range(n)], pa.large_string()),
            "bytes": pa.array([bytes([i]) * (i % 4) for i in range(n)]),
            "flag": pa.array([None if i % 7 == 0 else i % 2 == 0 for i in range(n)]),
            "date": pa.array([date(2020, 1, 1 + i % 28) for i in range(n)]),
            "time": pa.array([datetime(2020, 1, 1, 0, i % 60, tzinfo=timezone.utc) for i in range(n)]),
            "price": pa.array([Decimal(i) / 4 for i in range(n)], pa.decimal128(8, 2)),
            "list": pa.array([[i] * (i % 3) for i in range(n)]),
            "struct": pa.array([{"a": i, "b": {"c": str(i)}} for i in range(n)]),
            "words": pa.array([["x", "y"][i % 2] for i in range(n)]).dictionary_encode(),
            "none": pa.nulls(n),
        }
    )
    index = annvq.build(ROWS[:n], "IVF4,Flat", ids=range(n), attributes=table)
    index.save(tmp_path / "x")
    order = RNG.permutation(n)[:33]
    expected = table.take(pa.array(order)).to_pylist()
    for opened in (index, annvq.open(tmp_path / "x")):
        assert opened.get(order).drop_columns(["id"]).to_pylist() == expected
        hits = opened.search(ROWS[:2], 2, columns=table.schema.names)
        assert hits.attributes.to_pylist() == table.take(pa.array(hits.ids.reshape(-1))).to_pylist()


def test_texts_are_read_where_they_lie(tmp_path):
    """A few texts do not bring the whole column into memory."""
    import tracemalloc

    texts = ["t" * 100_000 for _ in range(300)]
    annvq.build(ROWS, "Flat", attributes={"text": texts, "n": range(300)}).save(tmp_path / "x")
    del texts
    with annvq.open(tmp_path / "x") as reader:
        reader.get([1], columns=["n"])
        before = pa.total_allocated_bytes()
        tracemalloc.start()
        assert reader.get([7, 3], columns=["text"]).column("text").to_pylist() == ["t" * 100_000] * 2
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
        tracemalloc.stop()
        assert pa.total_allocated_bytes() - before < 4_000_000


RECIPES = [
    "flat", "ivf-flat", "ivf-sq8", "small", "ivf-pq-fastscan", "ivf-rabitq", "opq-ivf-pq8", "exact-refine", "fast",
    "balanced",
]  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES)
def test_shards_merged_are_the_whole(recipe, tmp_path):
    trained = annvq.train(ROWS, recipe, n=300, metric="cosine")
    parts = [annvq.build(ROWS[a:b], trained=trained, ids=range(a, b)) for a, b in ((0, 90), (90, 91), (91, 300))]
    merged = annvq.merge(parts, path=tmp_path / "merged")
    whole = annvq.build(ROWS, trained=trained)
    (one,), (other,) = merged.rows.current.snapshot.segments, whole.rows.current.snapshot.segments
    assert one.arrays.keys() == other.arrays.keys()
    for name in one.arrays:
        np.testing.assert_array_equal(one.arrays[name], other.arrays[name])
    np.testing.assert_array_equal(one.ids.values, other.ids.values)
    np.testing.assert_array_equal(one.positions, other.positions)
    alone = annvq.build(ROWS, recipe, metric="cosine")
    for name in other.arrays:
        np.testing.assert_array_equal(other.arrays[name], alone.rows.current.snapshot.segments[0].arrays[name])
    empty = annvq.build(np.empty((0, 24), np.float32), trained=trained)
    assert (len(empty), empty.search(ROWS[:1], 2).ids.tolist()) == (0, [[-1, -1]])
    empty.add(ROWS[:50])
    np.testing.assert_array_equal(
        empty.search(ROWS[:5], 3).scores, annvq.build(ROWS[:50], trained=empty).search(ROWS[:5], 3).scores
    )


def test_merge_refuses_what_does_not_belong_together():
    trained = annvq.train(ROWS, "IVF8,Flat")
    a = annvq.build(ROWS[:10], trained=trained)
    with pytest.raises(DuplicateIdError):
        annvq.merge([a, annvq.build(ROWS[10:20], trained=trained)])
    with pytest.raises(StateError, match="centroids"):
        annvq.merge([a, annvq.build(ROWS[10:200], "IVF8,Flat", ids=range(10, 200))])
    with pytest.raises(StateError, match="metric"):
        annvq.merge([a, annvq.build(ROWS[10:200], "IVF8,Flat", metric="l2")])
    with pytest.raises(StateError, match="strings"):
        annvq.merge([a, annvq.build(ROWS[10:20], trained=trained, ids=NAMES[:10])])
    for nothing in ([], [a, "b"], [5]):
        with pytest.raises(ParameterError):
            annvq.merge(nothing)
    with pytest.raises(ParameterError, match="no"):
        annvq.build(ROWS, "Flat", trained=trained)
    with pytest.raises(ShapeError, match="24"):
        annvq.build(ROWS[:, :20], trained=trained)
    with pytest.raises(ParameterError, match="str"):
        annvq.build(ROWS, trained="fast")


def test_bytes_hold_the_whole_index(grown):
    content = grown.to_bytes()
    other = annvq.from_bytes(content)
    assert other.get(vectors=True).equals(grown.get(vectors=True))
    for given in (bytearray(content), memoryview(content)):
        assert len(annvq.from_bytes(given)) == len(grown)
    one, two = grown.search(ROWS, 10), other.search(ROWS, 10)
    assert one.ids.tolist() == two.ids.tolist()
    np.testing.assert_array_equal(one.scores, two.scores)
    with pytest.raises(DtypeError):
        annvq.from_bytes("text")
    for damaged in (b"", content[:100], content[:-1], content + b"x", b"x" * 1000):
        with pytest.raises(CorruptIndexError):
            annvq.from_bytes(damaged)
    places = RNG.integers(0, len(content), 60)
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(place % 8)
        with pytest.raises(CorruptIndexError):
            annvq.from_bytes(flipped)


def test_a_copy_changes_in_memory_and_the_folder_stays(tmp_path, grown):
    grown.save(tmp_path / "x")
    files = {path.name: path.read_bytes() for path in (tmp_path / "x").iterdir()}
    with annvq.open(tmp_path / "x", "copy") as copied:
        copied.upsert(ROWS[:2], ["d0", "zz"])
        copied.update(["d1"], {"lang": ["xx"]})
        copied.remove(["d2"])
        copied.compact()
        copied.save(tmp_path / "y")
        assert copied.rows.path is None
        assert (copied.is_current(), copied.refresh()) == (True, False)
        expected = copied.get(vectors=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "x").iterdir()} == files
    assert annvq.open(tmp_path / "y").get(vectors=True).equals(expected)
    other = grown.copy()
    other.remove(["d0"])
    assert "d0" in grown


def test_documents_come_back_and_change():
    documents = [RNG.normal(size=(2 + i % 3, 16)).astype(np.float32) for i in range(40)]
    index = MultiVectorIndex.build(documents, ids=NAMES[:40], attributes={"n": list(range(40))})
    index.upsert([documents[0] * 3], ["d1"], {"n": [100]})
    index.update(["d2"], {"n": [200]})
    assert (len(index), index.count(filter=["d1", "x"]), "d39" in index) == (40, 1, True)
    assert index.get(["d1", "d2", "d3"]).to_pylist() == [
        {"id": "d1", "n": 100},
        {"id": "d2", "n": 200},
        {"id": "d3", "n": 3},
    ]
    got = index.get(["d3", "d2"], columns=[], vectors=True).column("vectors").to_pylist()
    kept = index.reconstruct(["d3", "d2"])
    np.testing.assert_array_equal(np.array(got[0], np.float32), kept.vectors[: kept.offsets[1]])
    hits = index.search(documents[0] * 3, 2, columns=["n"])
    assert hits.ids[0, 0] == "d1"
    assert hits.attributes.to_pylist()[0] == {"n": 100}
    page = index.search(documents[0] * 3, 1, offset=1)
    assert page.ids[0, 0] == hits.ids[0, 1]
    other = MultiVectorIndex.from_bytes(index.to_bytes())
    assert other.get().equals(index.get())
    with pytest.raises(StateError):
        annvq.from_bytes(index.to_bytes())
    assert index.remove(filter=["d1", "d2"]) == 2


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".jsonl", ".json", ".csv"])
def test_exported_rows(suffix, tmp_path, grown):
    import json

    import pyarrow.csv  # noqa: F401
    import pyarrow.parquet as pq

    path = tmp_path / f"rows{suffix}"
    assert grown.export(path, filter={"n": {"$lt": 5}}, columns=["n", "more"], vectors=False) == 9
    expected = grown.get(filter={"n": {"$lt": 5}}, columns=["n", "more"]).to_pylist()
    read = {
        ".parquet": lambda: pq.read_table(path).to_pylist(),
        ".arrow": lambda: pa.ipc.open_file(path).read_all().to_pylist(),
        ".jsonl": lambda: [json.loads(line) for line in path.read_text().splitlines()],
        ".json": lambda: json.loads(path.read_text()),
        ".csv": lambda: pa.csv.read_csv(path).to_pylist(),
    }
    assert read[suffix]() == expected
    with pytest.raises(ParameterError, match="suffix"):
        grown.export(tmp_path / "rows.xlsx")
    if suffix == ".csv":
        with pytest.raises(ParameterError, match="lists"):
            grown.export(path)
        assert read[suffix]() == expected


def test_shown_in_notebooks(grown):
    html = grown._repr_html_()
    assert f"<td>{len(grown)}</td>" in html
    assert "n, lang, tags, more" in html
    named = annvq.build(ROWS[:3], "Flat", attributes={"<b>": [1, 2, 3]})
    assert "&lt;b&gt;" in named._repr_html_()
    named.close()
    assert "closed" in named._repr_html_()


def test_updated_rows_are_inserted_in_the_order_given(grown):
    """Whatever segments they lie in: masks and pages follow this order."""
    given = ["e3", "d9", "e0", "d200", "d1"]
    grown.update(given, {"lang": ["fr"] * 5})
    assert grown.ids[-5:].tolist() == given
    assert grown.get(filter={"lang": "fr"}).column("id").to_pylist() == given
    mask = np.zeros(len(grown), bool)
    mask[-4] = True
    assert grown.get(filter=mask, columns=["lang"]).to_pylist() == [{"id": "d9", "lang": "fr"}]
    grown.compact()
    assert grown.ids[-5:].tolist() == given


def test_hits_without_columns_keep_their_number(index):
    hits = index.search(ROWS[:2], 3, columns=[])
    assert (hits.attributes.num_rows, hits.attributes.num_columns) == (6, 0)
    assert hits.to_arrow().num_rows == 6


def test_columns_are_names(index):
    assert index.get(["d1"], columns=iter(["n", "lang"])).schema.names == ["id", "n", "lang"]
    for wrong in (5, 2.5, True, object(), "n", [b"n"], [None], [["n"]]):
        with pytest.raises(ParameterError, match="list of names"):
            index.get(columns=wrong)
        with pytest.raises(ParameterError, match="list of names"):
            index.search(ROWS[:1], columns=wrong)
    for call in (index.get, lambda **given: index.remove(filter=["d1"], **given)):
        with pytest.raises(ParameterError, match="missing"):
            call(missing="skip")
    for name in (None, 5):
        with pytest.raises(FilterError, match="expected str"):
            index.update(["d1"], {name: [1]})
    assert len(index) == 300


def test_long_ids_are_shortened_in_messages(index):
    long = "k" * 100_000
    for call in (
        lambda: index.get([long]),
        lambda: index.upsert(ROWS[:2], [long, long]),
        lambda: index.update([long], {"n": [1]}),
    ):
        with pytest.raises((UnknownIdError, DuplicateIdError)) as raised:
            call()
        assert len(str(raised.value)) < 200
    index.upsert(ROWS[:1], [long], {"n": [1], "text": ["t" * 1_000_000]})
    assert long in annvq.from_bytes(index.to_bytes())
    assert index.get([long], columns=["text"]).column("text")[0].as_py() == "t" * 1_000_000


def test_many_columns():
    """An index may have very many columns; the time does not grow with the square of their number."""
    index = annvq.build(ROWS[:5], "Flat", attributes={"n": range(5)})
    index.upsert(ROWS[:1], [0], [{f"c{number}": number for number in range(10_000)}])
    index.update([1], {"c7": [5]})
    assert index.get([0, 1, 2], columns=["c9999", "n", "c7"]).to_pylist() == [
        {"id": 0, "c9999": 9999, "n": None, "c7": 7},
        {"id": 1, "c9999": None, "n": 1, "c7": 5},
        {"id": 2, "c9999": None, "n": 2, "c7": None},
    ]
    assert index.get().num_columns == 10_002


@pytest.mark.parametrize("names", [["a.b", 'q"x', "n\nl", "", "日", " ", "$and", "'; DROP", "a" * 10_000, "\t", "[0]"]])
def test_columns_of_any_name(tmp_path, names):
    rows = [{name: 10 * i + place for place, name in enumerate(names)} for i in range(3)]
    annvq.build(ROWS[:3], "Flat", attributes=rows[:1] * 3).save(tmp_path / "x")
    with annvq.open(tmp_path / "x", "rw") as index:
        index.update([1], rows[1:2])
        index.upsert(ROWS[2:3], [2], rows[2:])
        index.compact()
        assert index.get(columns=names).drop_columns(["id"]).to_pylist() == [rows[0], rows[1], rows[2]]
        hits = index.search(ROWS[:1], 3, columns=names)
        assert hits.attributes.to_pylist() == [rows[i] for i in hits.ids[0]]


def test_unchanged_segments_stay_as_they_are(tmp_path, index):
    """What was made of ids and attributes, such as their order, is not made again after every change."""
    index.save(tmp_path / "x")
    with annvq.open(tmp_path / "x", "rw") as writer:
        before = writer.rows.current.snapshot.segments[0]
        writer.upsert(ROWS[:1], ["d5"])
        writer.update(["d6"], {"n": [1]})
        after = writer.rows.current.snapshot.segments[0]
        assert after.ids is before.ids
        assert after.attributes is before.attributes
        assert after.live_count == 298
    with annvq.open(tmp_path / "x") as reader:
        np.testing.assert_array_equal(reader.rows.current.snapshot.segments[0].live, after.live)


def test_a_few_ids_find_their_places_among_many():
    from annvq.index.rows.ids import IdColumn, rank_across

    letters = ["", "a", "aa", "b", "é", "日", "𝄞", "z" * 50, "\0"]
    many = sorted({x + y + z for x in letters for y in letters for z in letters})
    shuffled = [many[i] for i in RNG.permutation(len(many))]
    few = [["", many[3]], [many[-1] + "z"], [many[40] + "!", many[40], many[40] + '"']]
    columns = [IdColumn.of(names) for names in (few[0], shuffled, *few[1:])]
    held = [*few[0], *shuffled, *few[1], *few[2]]
    keys = np.concatenate(rank_across(columns))
    by_key, by_text = np.argsort(keys, kind="stable"), sorted(range(len(held)), key=lambda row: held[row])
    assert [held[row] for row in by_key] == [held[row] for row in by_text]
    assert len(set(keys.tolist())) == len(set(held))  # equal ids have equal keys
