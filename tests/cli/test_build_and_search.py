import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import annvq
from annvq.evaluation import exact_neighbors


@pytest.fixture
def index(tmp_path, vectors, annvq_command):
    np.save(tmp_path / "base.npy", vectors)
    code, out, err = annvq_command(
        "build", tmp_path / "base.npy", "-o", tmp_path / "index", "--recipe", "flat", "--metric", "l2"
    )
    assert code == 0, err
    assert "500 vectors of 16 dimensions, recipe flat" in out
    return tmp_path / "index"


def test_hits_are_written_as_parquet(index, tmp_path, vectors, annvq_command):
    np.save(tmp_path / "queries.npy", vectors[:7])
    code, out, err = annvq_command("search", index, tmp_path / "queries.npy", "-k", 4, "-o", tmp_path / "hits.parquet")
    assert code == 0, err
    assert "hits of 7 queries" in out
    hits = pq.read_table(tmp_path / "hits.parquet")
    assert hits.column_names == ["query", "rank", "id", "score"]
    assert hits["query"].to_pylist() == [q for q in range(7) for _ in range(4)]
    assert hits["rank"].to_pylist() == [1, 2, 3, 4] * 7
    truth, scores = exact_neighbors(vectors, vectors[:7], 4, "l2")
    assert np.array_equal(np.array(hits["id"]).reshape(7, 4), truth)
    assert np.allclose(np.array(hits["score"]).reshape(7, 4), scores, atol=1e-3)


@pytest.mark.parametrize("suffix", [".npy", ".npz", "_z.npz", ".h5", ".parquet", ".arrow", ".stream.arrow"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_one_query_may_be_saved_as_one_axis(index, tmp_path, vectors, annvq_command, suffix, dtype):
    path, one = tmp_path / f"query{suffix}", vectors[7].astype(dtype)
    table = pa.table({"query": one})
    if suffix == ".npy":
        np.save(path, one)
    elif suffix.endswith(".npz"):
        (np.savez if suffix == ".npz" else np.savez_compressed)(path, one)
    elif suffix == ".h5":
        with pytest.importorskip("h5py").File(path, "w") as file:
            file["query"] = one
    elif suffix == ".parquet":
        pq.write_table(table, path)
    else:
        kind = pa.ipc.new_stream if "stream" in suffix else pa.ipc.new_file
        with pa.OSFile(str(path), "wb") as sink, kind(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=5)
    code, out, err = annvq_command("search", index, path, "-k", 4, "-o", tmp_path / "hits.parquet")
    assert code == 0, err
    assert "hits of 1 queries" in out
    truth, _ = exact_neighbors(vectors, one[None].astype(np.float32), 4, "l2")
    assert pq.read_table(tmp_path / "hits.parquet")["id"].to_pylist() == truth[0].tolist()
    code, out, err = annvq_command("tune", index, path, "-k", 4)
    assert code == 0, err
    code, _, err = annvq_command("build", path, "-o", tmp_path / "other")
    assert code == 1  # what is indexed is (n, d)


def test_columns_of_numbers_beside_others_are_no_query(index, tmp_path, vectors, annvq_command, on_terminal):
    table = pa.table(
        {"query": vectors[7], "weight": vectors[8], "ids": np.arange(16), "with_null": [None, *vectors[9, 1:]]}
    )
    pq.write_table(table, tmp_path / "query.parquet")
    code, _, err = annvq_command("search", index, tmp_path / "query.parquet")
    assert (code, "columns that can hold vectors: none" in err) == (1, True)
    named = ("search", index, tmp_path / "query.parquet", "-k", 1, "--vector-column")
    code, out, err = annvq_command(*named, "query")
    assert code == 0, err
    assert "first 1 of 1 queries" in out
    for name, message in (("ids", "expected lists of numbers"), ("with_null", "null")):
        code, _, err = annvq_command(*named, name)
        assert (code, message in err) == (1, True), err
    np.save(tmp_path / "short.npy", vectors[7, :5])
    code, _, err = annvq_command("search", index, tmp_path / "short.npy")
    assert (code, "16" in err) == (1, True)


def test_hits_are_shown_on_a_terminal(index, tmp_path, vectors, annvq_command, on_terminal):
    np.save(tmp_path / "queries.npy", vectors[:7])
    code, out, _ = annvq_command("search", index, tmp_path / "queries.npy", "-k", 2)
    assert code == 0
    assert "first 5 of 7 queries" in out
    assert len([line for line in out.splitlines() if line.startswith("│")]) == 10


def test_ids_come_from_a_column(tmp_path, vectors, annvq_command):
    names = [f"doc {row}" for row in range(len(vectors))]
    column = pa.FixedSizeListArray.from_arrays(vectors.ravel(), 16)
    pq.write_table(pa.table({"key": names, "emb": column}), tmp_path / "base.parquet")
    build = ("build", tmp_path / "base.parquet", "-o", tmp_path / "index", "--recipe", "IVF8,Flat")
    code, _, err = annvq_command(*build, "--id-column", "key", "--vector-column", "emb", "--seed", 3, "--threads", 1)
    assert code == 0, err
    np.save(tmp_path / "queries.npy", vectors[41:42])
    hits = tmp_path / "hits.parquet"
    code, _, err = annvq_command(
        "search", tmp_path / "index", tmp_path / "queries.npy", "-k", 600, "-o", hits, "--nprobe", 8
    )
    assert code == 0, err
    found = pq.read_table(hits)
    assert found["id"].type == pa.string()
    assert sorted(found["id"].to_pylist()) == sorted(names)  # missing places are left out


def test_names_are_shown_as_they_are(tmp_path, vectors, annvq_command, on_terminal):
    names = ["[/b]", ":smile:", "two\nlines", "\x1b[31mred", "long " * 60 + "end"]
    annvq.build(vectors[:5], recipe="flat", ids=names, metric="cosine").save(tmp_path / "index[x]")
    np.save(tmp_path / "queries.npy", vectors[:5])
    code, out, err = annvq_command("search", tmp_path / "index[x]", tmp_path / "queries.npy", "-k", 1)
    assert code == 0, err
    for name in ("[/b]", ":smile:", r"'two\nlines'", r"'\x1b[31mred'", "long end"):
        assert name in out
    code, out, err = annvq_command("info", tmp_path / "index[x]")
    assert code == 0, err
    assert "index[x]" in out


def test_info_and_verify(index, tmp_path, annvq_command):
    code, out, _ = annvq_command("info", index, "--json")
    stats = json.loads(out)
    assert code == 0
    assert (stats["n"], stats["dim"], stats["metric"], stats["recipe"]) == (500, 16, "l2", "flat")
    code, out, _ = annvq_command("info", index)
    assert code == 0
    assert "bytes per vector" in out
    assert "codes 0.0320 MB" in out
    assert json.loads(annvq_command("info", "--json", index)[1]) == stats
    code, out, _ = annvq_command("info", index, "--json", tmp_path / "info.json")
    assert (code, out, json.loads((tmp_path / "info.json").read_text())) == (0, "", stats)
    code, out, _ = annvq_command("verify", index)
    assert code == 0
    assert "intact, 500 vectors" in out
    out = annvq_command("verify", index, "--json", "-")[1]
    assert json.loads(out) == {"path": str(index), "n": 500, "intact": True}


def test_verify_fails_on_a_changed_byte(index, annvq_command):
    segment = max((path for path in index.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(bytes(content))
    code, out, err = annvq_command("verify", index)
    assert code == 1
    assert out == ""
    assert len(err.strip().splitlines()) == 1


def test_tune_stores_what_it_finds(tmp_path, vectors, annvq_command):
    annvq.build(vectors, recipe="IVF16,Flat", metric="ip").save(tmp_path / "index")
    np.save(tmp_path / "queries.npy", vectors[::10])
    code, out, err = annvq_command("tune", tmp_path / "index", tmp_path / "queries.npy", "--recall", 1.0, "-k", 5)
    assert code == 0, err
    assert "stored nprobe" in out
    marked = [line.split("│") for line in out.splitlines() if "│" in line and "stored" in line]
    assert len(marked) == 1
    assert f"stored nprobe {marked[0][1].strip()}, rerank {marked[0][2].strip()}:" in out
    with annvq.open(tmp_path / "index") as index:
        found = index.search(vectors[::10], k=5).ids
    assert (found == exact_neighbors(vectors, vectors[::10], 5, "ip")[0]).mean() == 1.0


def test_zero_vectors_are_refused_or_kept(tmp_path, vectors, annvq_command):
    vectors = vectors.copy()
    vectors[17] = 0
    np.save(tmp_path / "base.npy", vectors)
    given = ("build", tmp_path / "base.npy", "-o", tmp_path / "index", "--metric", "cosine")
    code, _, err = annvq_command(*given)
    assert code != 0
    assert "row 17 is zero" in err
    code, _, err = annvq_command(*given, "--zero", "score-0")
    assert code == 0, err
    with annvq.open(tmp_path / "index") as index:
        assert np.all(index.reconstruct([17]) == 0)


def test_build_grants_a_wish_and_says_why(tmp_path, vectors, annvq_command):
    np.save(tmp_path / "base.npy", vectors)
    build = ("build", tmp_path / "base.npy", "-o", tmp_path / "index", "--metric", "l2")
    code, out, err = annvq_command(*build, "--prefer", "memory", "--bytes-per-vector", 16)
    assert code == 0, err
    assert "recipe ivf-sq8: memory matters most for 500 vectors of 16 dimensions" in " ".join(out.split())
    code, out, err = annvq_command("info", tmp_path / "index")
    assert code == 0, err
    assert "memory matters most" in out
    code, out, err = annvq_command(*build, "--bytes-per-vector", 16)
    assert code == 0, err
    assert "matters most" not in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--prefer", "size"), "'size' is not one of"),
        (("--prefer", "speed", "--recipe", "flat"), "go with --recipe auto"),
        (("--bytes-per-vector", 300, "--recipe", "flat"), "go with --recipe auto"),
        (("--bytes-per-vector", 0), "less than 1"),
    ],
)
def test_a_wish_that_cannot_be_granted_is_a_usage_error(options, message, tmp_path, vectors, annvq_command):
    np.save(tmp_path / "base.npy", vectors)
    code, out, err = annvq_command("build", tmp_path / "base.npy", "-o", tmp_path / "index", *options)
    assert (code, out) == (2, "")
    assert message in err
    assert not (tmp_path / "index").exists()


def test_a_wish_for_documents_is_a_usage_error(tmp_path, vectors, annvq_command):
    np.save(tmp_path / "documents.npy", vectors.reshape(250, 2, 16))
    code, out, err = annvq_command("build", tmp_path / "documents.npy", "-o", tmp_path / "index", "--prefer", "speed")
    assert (code, out) == (2, "")
    assert "are for single vectors" in " ".join(err.split())


def test_info_without_an_index_names_devices(tmp_path, annvq_command, monkeypatch):
    from annvq.gpu.device import DeviceInfo

    reason = "device 'cuda': there are 0 GPUs that torch can use"
    monkeypatch.setattr("annvq.bench.machine.devices", lambda: ([], reason))
    code, out, err = annvq_command("info", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert list(found) == ["cpu", "gpus", "no_gpu"]
    assert (found["gpus"], found["no_gpu"]) == ([], reason)
    assert found["cpu"]["threads"] >= 1
    assert found["cpu"]["instruction_set"] in ("avx512", "avx2", "neon", "portable")
    code, out, _ = annvq_command("info")
    assert code == 0
    assert reason in out
    assert f"{found['cpu']['instruction_set']}, threads {found['cpu']['threads']}" in out

    gpus = [DeviceInfo(f"cuda:{i}", "NVIDIA H200", 150_000_000_000, 149_000_000_000, (9, 0)) for i in range(2)]
    monkeypatch.setattr("annvq.bench.machine.devices", lambda: (gpus, ""))
    code, out, _ = annvq_command("info", "--json", tmp_path / "devices.json")
    assert (code, out) == (0, "")
    found = json.loads((tmp_path / "devices.json").read_text())
    assert list(found) == ["cpu", "gpus"]
    assert found["gpus"][1] == {
        "device": "cuda:1", "name": "NVIDIA H200", "memory_free": 149_000_000_000, "memory_total": 150_000_000_000,
        "compute_capability": "9.0",
    }  # fmt: skip
    out = annvq_command("info")[1]
    for cell in ("cuda:0", "cuda:1", "149,000.00 MB of 150,000.00 MB free, compute capability 9.0"):
        assert cell in out
