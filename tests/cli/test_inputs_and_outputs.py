"""Several files, ids of queries, attributes, formats by suffix, standard input and output, what is said aloud."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import annvq
from annvq.multivector import MultiVectorIndex


@pytest.fixture
def parts(tmp_path, vectors):
    """A folder of three Parquet files: url, lang, year, title, vector."""
    folder = tmp_path / "parts"
    folder.mkdir()
    for number, rows in enumerate(np.split(np.arange(500), [200, 350])):
        columns = {
            "doc_id": [f"d{row}" for row in rows],
            "lang": ["de" if row % 2 else "en" for row in rows],
            "year": 1900 + rows % 100,
            "title": ["x"] * len(rows),
            "vector": pa.FixedSizeListArray.from_arrays(vectors[rows].ravel(), 16),
        }
        pq.write_table(pa.table(columns), folder / f"{number}.parquet")
    return folder


@pytest.fixture
def index(parts, tmp_path, annvq_command):
    """An index of the three files, flat, L2, with lang and year."""
    made = tmp_path / "index"
    arguments = ("--recipe", "flat", "--metric", "l2", "--id-column", "doc_id", "--attributes", "lang, year")
    code, _, err = annvq_command("build", parts, "-o", made, *arguments)
    assert code == 0, err
    return made


@pytest.fixture
def stdin(monkeypatch):
    """Return a function that sets what comes from standard input."""

    def give(content):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))

    return give


def lines(out):
    return [json.loads(line) for line in out.splitlines()]


def test_a_folder_a_pattern_and_several_files_are_one_input(parts, tmp_path, vectors, annvq_command):
    for given in ([parts], [parts / "*.parquet"], sorted(parts.iterdir())):
        code, out, err = annvq_command("build", *given, "-o", tmp_path / "made", "--recipe", "flat", "--metric", "l2")
        assert code == 0, err
        assert "500 vectors of 16 dimensions, recipe flat, metric l2" in out
        assert "0.0384 MB" in out
        with annvq.open(tmp_path / "made") as made:
            assert np.array_equal(made.reconstruct(np.arange(500)), vectors)
    code, _, err = annvq_command("build", tmp_path / "*.npy", "-o", tmp_path / "made")
    assert (code, "no file with vectors" in err) == (1, True)


def test_columns_that_are_left_out_are_named(parts, tmp_path, annvq_command):
    build = ("build", parts, "-o", tmp_path / "made", "--recipe", "flat")
    err = annvq_command(*build)[2]
    assert "column 'doc_id' looks like ids: --id-column doc_id" in err
    assert "columns that are not kept: doc_id, lang, year, title" in err
    err = annvq_command(*build, "--id-column", "doc_id", "--attributes", "all")[2]
    assert "not kept" not in err
    assert "looks like" not in err
    with annvq.open(tmp_path / "made") as made:
        assert made.to_arrow(vectors=False).schema.names == ["id", "lang", "year", "title"]
    code, _, err = annvq_command(*build, "--attributes", "nope")
    assert (code, "no column 'nope'" in err) == (1, True)


def test_inner_products_of_vectors_that_are_not_normalized_are_said_aloud(tmp_path, vectors, annvq_command):
    np.save(tmp_path / "long.npy", vectors)
    np.save(tmp_path / "unit.npy", vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    for name, metric, is_said in (("long", None, True), ("unit", None, False), ("long", "ip", False)):
        given = () if metric is None else ("--metric", metric)
        code, out, err = annvq_command("build", tmp_path / f"{name}.npy", "-o", tmp_path / "i", *given)
        assert code == 0, err
        assert "metric ip" in out
        assert ("longer ones come first" in err) == is_said


def test_queries_keep_their_ids(index, tmp_path, vectors, annvq_command):
    queries = pa.table({"id": ["q-b", "q-a"], "v": pa.FixedSizeListArray.from_arrays(vectors[[3, 7]].ravel(), 16)})
    pq.write_table(queries, tmp_path / "queries.parquet")
    code, out, err = annvq_command("search", index, tmp_path / "queries.parquet", "-k", 2)
    assert code == 0, err
    hits = lines(out)
    assert [(hit["query"], hit["query_id"], hit["rank"]) for hit in hits] == [
        (0, "q-b", 1), (0, "q-b", 2), (1, "q-a", 1), (1, "q-a", 2),
    ]  # fmt: skip
    assert [hit["id"] for hit in hits if hit["rank"] == 1] == ["d3", "d7"]


def test_queries_come_from_standard_input(index, vectors, annvq_command, stdin):
    rows = [json.dumps({"id": "x", "vector": vectors[3].tolist()}), json.dumps({"id": "y", "vector": [0] * 16})]
    stdin("\n".join(rows).encode())
    code, out, err = annvq_command("search", index, "-", "-k", 1)
    assert code == 0, err
    assert [hit["query_id"] for hit in lines(out)] == ["x", "y"]
    stdin(json.dumps(vectors[4].tolist()).encode())
    assert [hit["id"] for hit in lines(annvq_command("search", index, "-", "-k", 1)[1])] == ["d4"]
    npy = io.BytesIO()
    np.save(npy, vectors[5:7])
    stdin(npy.getvalue())
    assert [hit["id"] for hit in lines(annvq_command("search", index, "-", "-k", 1)[1])] == ["d5", "d6"]
    for wrong in (b"", b"nonsense", b'{"id": 1}', b'{"id": true, "vector": [1]}', b"\x93NUMPY"):
        stdin(wrong)
        code, out, err = annvq_command("search", index, "-")
        assert (code, out, err.count("\n")) == (1, "", 1), err
        assert "standard input" in err


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".csv", ".json", ".jsonl"])
def test_hits_have_the_format_of_their_suffix(index, tmp_path, vectors, annvq_command, suffix):
    np.save(tmp_path / "queries.npy", vectors[:3])
    path = tmp_path / f"hits{suffix}"
    code, out, err = annvq_command("search", index, tmp_path / "queries.npy", "-k", 2, "-o", path)
    assert (code, "hits of 3 queries" in out) == (0, True), err
    piped = lines(annvq_command("search", index, tmp_path / "queries.npy", "-k", 2, "-o", "-")[1])
    if suffix == ".parquet":
        rows = pq.read_table(path).to_pylist()
    elif suffix == ".arrow":
        rows = pa.ipc.open_file(path).read_all().to_pylist()
    elif suffix == ".csv":
        rows = pa.csv.read_csv(path).to_pylist()
    else:
        text = path.read_text()
        rows = json.loads(text) if suffix == ".json" else lines(text)
    assert [row["id"] for row in rows] == [row["id"] for row in piped]
    assert [row["score"] for row in rows] == pytest.approx([row["score"] for row in piped], rel=1e-5)


def test_a_search_is_filtered_by_an_expression(index, tmp_path, vectors, annvq_command):
    np.save(tmp_path / "queries.npy", vectors[:1])
    search = ("search", index, tmp_path / "queries.npy", "-k", 500, "--filter")
    code, out, err = annvq_command(*search, 'lang == "de" and 1990 <= year')
    assert code == 0, err
    rows = [int(hit["id"][1:]) for hit in lines(out)]
    assert sorted(rows) == [row for row in range(500) if row % 2 and row % 100 >= 90]
    code, _, err = annvq_command(*search, "yeer > 1")
    assert (code, "attributes: lang: string, year: int64" in err) == (1, True)


def test_an_index_is_changed(index, parts, tmp_path, vectors, annvq_command, stdin):
    more = pa.table({"id": ["new"], "year": [2024], "v": pa.FixedSizeListArray.from_arrays(vectors[0], 16)})
    pq.write_table(more, tmp_path / "more.parquet")
    code, out, err = annvq_command("add", index, tmp_path / "more.parquet", "--attributes", "year", "--json", "-")
    assert code == 0, err
    assert (json.loads(out)["added"], json.loads(out)["n"]) == (1, 501)
    code, _, err = annvq_command("add", index, tmp_path / "more.parquet")
    assert (code, "already holds id 'new'" in err) == (1, True)
    assert "2 removed, 499 left" in annvq_command("remove", index, "d1", "d2")[1]
    assert "249 removed, 250 left" in annvq_command("remove", index, "--filter", 'lang == "en"')[1]
    (tmp_path / "ids.txt").write_text("d3\nd5\n")
    assert "2 removed" in annvq_command("remove", index, "--from", tmp_path / "ids.txt")[1]
    stdin(b"d7\n")
    assert "1 removed" in annvq_command("remove", index, "--from", "-")[1]
    code, _, err = annvq_command("remove", index, "d9", "nope")
    assert (code, "'nope'" in err) == (1, True)
    assert "2 segments to 1" in annvq_command("compact", index)[1]
    with annvq.open(index) as opened:
        assert (len(opened), opened.stats()["deleted"]) == (247, 0)


def test_attributes_come_with_hits_and_rows_are_replaced(index, tmp_path, vectors, annvq_command):
    np.save(tmp_path / "queries.npy", vectors[[3, 9]])
    found = lines(annvq_command("search", index, tmp_path / "queries.npy", "-k", 1, "--columns", "year")[1])
    assert [(hit["id"], hit["year"]) for hit in found] == [("d3", 1903), ("d9", 1909)]
    code, _, err = annvq_command("search", index, tmp_path / "queries.npy", "--columns", "years")
    assert (code, "it has: lang, year" in err) == (1, True)
    columns = {"doc_id": ["d3", "new"], "lang": ["it", "fr"], "year": [2003, 2004]}
    vector = pa.FixedSizeListArray.from_arrays(vectors[[9, 3]].ravel() + 5, 16)
    pq.write_table(pa.table({**columns, "vector": vector}), tmp_path / "more.parquet")
    add = ("add", index, tmp_path / "more.parquet", "--id-column", "doc_id", "--attributes", "all")
    assert annvq_command(*add)[0] == 1
    assert annvq_command(*add, "--replace")[0] == 0
    with annvq.open(index) as opened:
        assert (len(opened), opened.get(["d3", "new"], columns=["year"])["year"].to_pylist()) == (501, [2003, 2004])


def test_integer_ids_are_removed_by_their_digits(tmp_path, vectors, annvq_command):
    annvq.build(vectors, "flat").save(tmp_path / "index")
    assert "2 removed" in annvq_command("remove", tmp_path / "index", 3, 499)[1]
    code, _, err = annvq_command("remove", tmp_path / "index", "d5")
    assert (code, "the ids of the index are integers" in err) == (1, True)


def test_rows_are_exported_and_built_again(index, tmp_path, vectors, annvq_command):
    rows = tmp_path / "rows.parquet"
    assert annvq_command("export", index, "-o", rows)[1] == f"{rows}: 500 rows\n"
    table = pq.read_table(rows)
    assert table.column_names == ["id", "vector", "lang", "year"]
    assert np.array_equal(np.array(table["vector"].to_pylist(), np.float32), vectors)
    build = ("build", rows, "-o", tmp_path / "again", "--recipe", "flat", "--metric", "l2", "--attributes", "all")
    assert annvq_command(*build)[0] == 0
    np.save(tmp_path / "queries.npy", vectors[:3])
    found = [annvq_command("search", made, tmp_path / "queries.npy")[1] for made in (index, tmp_path / "again")]
    assert found[0] == found[1]
    piped = lines(annvq_command("export", index, "--no-vectors", "--filter", "year == 1903")[1])
    assert piped[0] == {"id": "d3", "lang": "de", "year": 1903}
    assert annvq_command("export", index, "--no-vectors", "-o", tmp_path / "rows.csv")[0] == 0
    code, _, err = annvq_command("export", index, "-o", tmp_path / "all.csv")
    assert (code, "CSV cannot hold lists" in err, (tmp_path / "all.csv").exists()) == (1, True, False)


def test_an_index_of_documents_is_opened_too(tmp_path, annvq_command, stdin):
    rng = np.random.default_rng(0)
    documents = [rng.normal(size=(rng.integers(2, 6), 8)).astype(np.float32) for _ in range(60)]
    documents = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in documents]
    MultiVectorIndex.build(documents, "chamfer-exact", ids=[f"d{row}" for row in range(60)]).save(tmp_path / "index")
    pq.write_table(pa.table({"q": [documents[3].tolist(), documents[9].tolist()]}), tmp_path / "queries.parquet")
    code, out, err = annvq_command("search", tmp_path / "index", tmp_path / "queries.parquet", "-k", 1)
    assert code == 0, err
    assert [hit["id"] for hit in lines(out)] == ["d3", "d9"]
    stdin(json.dumps(documents[4].tolist()).encode())
    assert [hit["id"] for hit in lines(annvq_command("search", tmp_path / "index", "-", "-k", 1)[1])] == ["d4"]
    assert "60 documents" in annvq_command("verify", tmp_path / "index")[1]
    assert json.loads(annvq_command("info", tmp_path / "index", "--json")[1])["tokens"] == sum(map(len, documents))
    assert "1 removed, 59 left" in annvq_command("remove", tmp_path / "index", "d4")[1]
    assert annvq_command("compact", tmp_path / "index")[0] == 0
    tuned = annvq_command("tune", tmp_path / "index", tmp_path / "queries.parquet", "-k", 3)
    assert (tuned[0], "candidates" in tuned[1], "rerank" in tuned[1]) == (0, True, False)


def test_a_benchmark_on_standard_output_is_json_alone(tmp_path, vectors, annvq_command):
    np.savez(tmp_path / "data.npz", base=vectors, query=vectors[:8], metric=np.array("l2"))
    code, out, err = annvq_command("bench", "ann", tmp_path / "data.npz", "--recipe", "flat", "--json", "-")
    assert code == 0, err
    assert json.loads(out)["rows"][0]["recipe"] == "flat"
    assert "recall >= 0.95" in err


def test_a_shell_can_complete(annvq_command, monkeypatch):
    monkeypatch.setenv("_ANNVQ_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "annvq ver")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert annvq_command()[1].split() == ["verify"]
