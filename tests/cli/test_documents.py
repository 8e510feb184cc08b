"""Indexes of documents of several vectors, from files and back, by the command alone."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import annvq
from annvq.multivector import MultiVectorIndex

NAMES = [f"d{row}" for row in range(120)]


@pytest.fixture(scope="module")
def documents():
    """120 documents of 3 vectors (8) of length one."""
    rng = np.random.default_rng(0)
    made = rng.normal(size=(120, 3, 8)).astype(np.float32)
    made /= np.linalg.norm(made, axis=2, keepdims=True)
    return list(made)


def table_of(documents, rows, kind=None, **more):
    lists = pa.array([documents[row].tolist() for row in rows], kind or pa.list_(pa.list_(pa.float32())))
    return pa.table({"id": [NAMES[row] for row in rows], "tokens": lists, **more})


def written(path, documents, rows):
    """Write some documents in the format of a suffix."""
    sets = [documents[row] for row in rows]
    if path.suffix == ".parquet":
        pq.write_table(table_of(documents, rows), path, row_group_size=50)
    elif path.suffix == ".arrow":
        table = table_of(documents, rows, pa.large_list(pa.list_(pa.float32(), 8)))
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=50)
    elif path.suffix == ".npz":
        offsets = np.cumsum([0, *map(len, sets)])
        np.savez(path, vectors=np.concatenate(sets), offsets=offsets, ids=[NAMES[row] for row in rows])
    else:
        np.save(path, np.stack(sets))
    return path


def lines(out):
    return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def index(tmp_path, documents, annvq_command):
    """An index of all documents with lang and year, which Parquet files in a folder hold."""
    folder = tmp_path / "parts"
    folder.mkdir()
    for number, rows in enumerate(np.split(np.arange(120), [70])):
        more = {"lang": ["de" if row % 2 else "en" for row in rows], "year": 1900 + rows}
        pq.write_table(table_of(documents, rows, **more), folder / f"{number}.parquet")
    build = ("build", folder, "-o", tmp_path / "index", "--recipe", "chamfer-exact", "--attributes", "all")
    code, out, err = annvq_command(*build)
    assert code == 0, err
    assert "120 documents with 360 vectors of 8 dimensions, recipe chamfer-exact" in out
    assert "MB" in out
    return tmp_path / "index"


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".npz", ".npy"])
def test_every_format_makes_the_index_that_python_makes(tmp_path, documents, annvq_command, suffix):
    parts = [written(tmp_path / f"{n}{suffix}", documents, rows) for n, rows in enumerate((range(70), range(70, 120)))]
    code, _, err = annvq_command("build", *parts, "-o", tmp_path / "index", "--recipe", "muvera-4bit")
    assert code == 0, err
    ids = None if suffix == ".npy" else NAMES
    expected = MultiVectorIndex.build(documents, "muvera-4bit", ids=ids).search(documents[:9], 5)
    with MultiVectorIndex.open(tmp_path / "index") as opened:
        found = opened.search(documents[:9], 5)
    assert np.array_equal(found.ids, expected.ids)
    assert np.array_equal(found.scores, expected.scores)
    queries = written(tmp_path / f"queries{suffix}", documents, range(9))
    code, out, err = annvq_command("search", tmp_path / "index", queries, "-k", 5)
    assert code == 0, err
    assert [hit["id"] for hit in lines(out)] == expected.ids.ravel().tolist()
    assert ("query_id" in lines(out)[0]) == (ids is not None)


def test_documents_are_found_without_naming_a_recipe(tmp_path, documents, annvq_command):
    code, out, err = annvq_command("build", written(tmp_path / "d.npz", documents, range(120)), "-o", tmp_path / "i")
    assert code == 0, err
    assert "recipe muvera," in out
    assert json.loads(annvq_command("info", tmp_path / "i", "--json")[1])["tokens"] == 360


def test_an_index_of_documents_is_changed(index, tmp_path, documents, annvq_command):
    more = table_of(documents, [3], year=[2024]).set_column(0, "id", [["new"]])
    pq.write_table(more, tmp_path / "more.parquet")
    code, out, err = annvq_command("add", index, tmp_path / "more.parquet", "--attributes", "year", "--json", "-")
    assert code == 0, err
    assert "1 documents added, 121 in all" in err
    assert (json.loads(out)["added"], json.loads(out)["tokens"]) == (1, 363)
    code, _, err = annvq_command("add", index, tmp_path / "more.parquet")
    assert (code, "already holds id 'new'" in err) == (1, True)
    assert "60 removed, 61 left" in annvq_command("remove", index, "--filter", 'lang == "en"')[1]
    assert "1 removed" in annvq_command("remove", index, "d1")[1]
    assert "2 segments to 1" in annvq_command("compact", index)[1]
    assert "intact, 60 documents" in annvq_command("verify", index)[1]
    query = written(tmp_path / "query.npy", documents, [3])
    found = lines(annvq_command("search", index, query, "-k", 2, "--filter", "year > 1902")[1])
    assert [hit["id"] for hit in found] == ["d3", "new"]


def test_documents_are_exported_and_built_again(index, tmp_path, documents, annvq_command):
    rows = tmp_path / "rows.parquet"
    assert annvq_command("export", index, "-o", rows)[1] == f"{rows}: 120 rows\n"
    table = pq.read_table(rows)
    assert table.column_names == ["id", "vectors", "lang", "year"]
    assert np.allclose(table["vectors"].to_pylist(), documents, atol=2e-3)  # kept as float16
    build = ("build", rows, "-o", tmp_path / "again", "--recipe", "chamfer-exact", "--attributes", "all")
    assert annvq_command(*build)[0] == 0
    found = [annvq_command("search", made, rows, "-k", 3)[1] for made in (index, tmp_path / "again")]
    assert found[0] == found[1]
    piped = lines(annvq_command("export", index, "--filter", "year == 1903")[1])
    assert (piped[0]["id"], np.shape(piped[0]["vectors"])) == ("d3", (3, 8))
    assert lines(annvq_command("export", index, "--no-vectors", "--filter", "year == 1903")[1]) == [
        {"id": "d3", "lang": "de", "year": 1903}
    ]
    code, _, err = annvq_command("export", index, "-o", tmp_path / "rows.csv")
    assert (code, "CSV cannot hold lists" in err) == (1, True)


def test_what_does_not_fit_is_said(index, tmp_path, documents, vectors, annvq_command):
    tokens = written(tmp_path / "tokens.parquet", documents, range(120))
    np.save(tmp_path / "single.npy", vectors)
    np.savez(tmp_path / "single.npz", vectors=vectors)
    annvq.build(vectors, "flat").save(tmp_path / "plain")
    made = ("-o", tmp_path / "made")
    for command, code, reason in (
        (("build", tokens, *made, "--recipe", "flat"), 1, "holds documents of several vectors: expected one of"),
        (("build", tokens, *made, "--metric", "l2"), 2, "--metric is for single vectors"),
        (
            ("build", tmp_path / "single.npy", *made, "--recipe", "muvera"),
            1,
            "expected (documents, vectors",
        ),
        (("build", tmp_path / "single.npz", *made, "--recipe", "muvera"), 1, 'documents need "offsets"'),
        (("build", tokens, *made, "--vector-column", "nope"), 1, "'nope'"),
        (("add", tmp_path / "plain", tokens), 1, "columns that can hold vectors: none"),
        (("add", index, tmp_path / "single.npz"), 1, 'documents need "offsets"'),
        (("search", index, tmp_path / "single.npy"), 1, "dimension 16, expected 8"),
        (("search", tmp_path / "plain", tokens), 1, "columns that can hold vectors: none"),
    ):
        result = annvq_command(*command)
        assert (result[0], reason in " ".join(result[2].split())) == (code, True), result
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".npz", ".npy"])
def test_documents_that_are_damaged_fail_and_leave_nothing(tmp_path, documents, annvq_command, suffix):
    path = written(tmp_path / f"d{suffix}", documents, range(120))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code, out, err = annvq_command("build", path, "-o", tmp_path / "index", "--recipe", "muvera")
    assert (code, out, str(path) in err.splitlines()[-1]) == (1, "", True), err
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize(
    ("documents", "reason"),
    [
        ([[[1.0, 2.0]], [[1.0, float("nan")]]], "number 1, vector 0 holds NaN"),
        ([[[1.0, 2.0]], []], "number 1 has no vectors"),
        ([[[1.0, 2.0]], None], "null"),
        ([[[1.0, 2.0]], [[1.0]]], "length 1"),
    ],
)
def test_documents_that_are_none_are_named(tmp_path, annvq_command, documents, reason):
    pq.write_table(pa.table({"v": pa.array(documents, pa.list_(pa.list_(pa.float32())))}), tmp_path / "d.parquet")
    code, _, err = annvq_command("build", tmp_path / "d.parquet", "-o", tmp_path / "index")
    assert (code, reason in err) == (1, True), err
    assert not (tmp_path / "index").exists()
