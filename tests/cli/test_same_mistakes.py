"""One mistake has one exit code, whichever command makes it: 1 with one line on stderr, 2 with the usage."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import annvq
from annvq.multivector import MultiVectorIndex

CHANGING = ("add {index} {vectors}", "remove {index} 3", "compact {index}", "tune {index} {vectors}")
READING = ("search {index} {vectors}", "info {index}", "export {index}", "verify {index}")
OF_TABLES = ("table info {table}", "table export {table}", "table verify {table}")
ALL = (
    "build {vectors} -o {out}", *CHANGING, *READING, *OF_TABLES, "table compress {vectors} -o {out} --ratio 4",
    "warmup", "demo", "train jpq {folder} --model m -o {out}", "bench ann {data}", "bench beir {folder} --model m",
    "bench tables {folder}", "bench tokenizers {folder}",
)  # fmt: skip


@pytest.fixture
def places(tmp_path, vectors):
    """What commands are given, by name; ``absent`` and ``locked`` are a missing file and a file that is no folder."""
    annvq.build(vectors, "flat").save(tmp_path / "index")
    MultiVectorIndex.build(list(vectors.reshape(250, 2, 16)), "chamfer-exact").save(tmp_path / "documents")
    np.save(tmp_path / "vectors.npy", vectors)
    np.save(tmp_path / "narrow.npy", vectors[:, :5])
    np.save(tmp_path / "narrow-sets.npy", vectors[:, :5].reshape(250, 2, 5))
    np.savez(tmp_path / "data.npz", base=vectors, query=vectors[:8], metric=np.array("l2"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    names = ("index", "documents", "folder", "out", "absent")
    files = {
        "vectors": "vectors.npy", "narrow": "narrow.npy", "sets": "narrow-sets.npy", "data": "data.npz",
        "table": "table.safetensors", "locked": "file/below", "absent_npy": "absent.npy",
    }  # fmt: skip
    return {name: tmp_path / files.get(name, name) for name in (*names, *files)}


@pytest.fixture
def table(places, vectors):
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    import torch

    from annvq import tables

    embedding = torch.nn.Embedding.from_pretrained(torch.from_numpy(vectors))
    tables.compress(embedding, "PQ", ratio=8).export(places["table"])


def fails(result, named=""):
    """Check exit code 1, nothing on stdout and one line on stderr, besides those of progress, that names something."""
    code, out, err = result
    said = [line for line in err.splitlines() if " s  " not in line]
    assert (code, out, len(said)) == (1, "", 1), result
    assert said[0].startswith("annvq: ")
    assert str(named) in said[0]


def words(command, places):
    return command.format(**places).split()


@pytest.mark.parametrize("command", ALL)
def test_an_unknown_option(command, places, annvq_command):
    code, out, err = annvq_command(*words(command, places), "--no-such-option")
    assert (code, out) == (2, "")
    assert "Usage: annvq" in err
    assert "--no-such-option" in err


@pytest.mark.parametrize(
    "command",
    [
        "build {absent_npy} -o {out}",
        *(command.replace("{index}", "{absent}") for command in (*CHANGING, *READING)),
        *(f"{verb} {{index}} {{absent_npy}}" for verb in ("search", "tune", "add")),
        "remove {index} --from {absent}",
        *(command.replace("{table}", "{absent}") for command in OF_TABLES),
        "table compress {absent_npy} -o {out} --ratio 4",
        "bench ann {absent_npy}z",
        "bench beir {absent} --model m -o {out}",
        "bench tables {absent} -o {out}",
        "bench tokenizers {absent} -o {out}",
        "train jpq {absent} --model m -o {out}",
    ],
)
def test_a_missing_file(command, places, annvq_command):
    if "tables" in command or "table " in command or "tokenizers" in command or "train" in command:
        pytest.importorskip("torch")
    fails(annvq_command(*words(command, places)), places["absent"].name)


@pytest.mark.parametrize("kind", ["index", "documents"])
@pytest.mark.parametrize("command", [*CHANGING, *READING])
def test_a_corrupt_index(command, kind, places, annvq_command):
    for file in places[kind].rglob("*"):
        if file.is_file():
            os.truncate(file, file.stat().st_size // 2)
    fails(annvq_command(*words(command.replace("{index}", f"{{{kind}}}"), places)))


@pytest.mark.parametrize("command", OF_TABLES)
def test_a_corrupt_table(command, places, table, annvq_command):
    os.truncate(places["table"], 100)
    fails(annvq_command(*words(command, places)), places["table"])


@pytest.mark.parametrize("verb", ["search", "tune", "add"])
@pytest.mark.parametrize(("kind", "given"), [("index", "narrow"), ("documents", "sets")])
def test_a_wrong_dimension(verb, kind, given, places, annvq_command):
    fails(annvq_command(verb, places[kind], places[given]), "5")


@pytest.mark.parametrize(
    "command",
    [
        "build {vectors} -o {locked}",
        "build {vectors} -o {out} --json {locked}",
        "search {index} {vectors} -o {locked}.parquet",
        "export {index} -o {locked}.parquet",
        *(f"{command} --json {{locked}}" for command in (*CHANGING, "info {index}", "verify {index}")),
        "table compress {vectors} -o {locked} --ratio 4",
        "table info {table} --json {locked}",
        "table verify {table} --json {locked}",
        "table export {table} -o {locked}.npy",
        "table export {table} -o {locked}.parquet",
        "demo -o {locked}",
        "demo --json {locked}",
        "bench ann {data} --json {locked}",
        "bench ann {data} -o {locked}",
        "bench beir {folder} --model m --json {locked}",
        "bench tables {folder} --json {locked}",
        "bench tokenizers {folder} --json {locked}",
        "train jpq {folder} --model m -o {locked}",
    ],
)
def test_an_output_that_cannot_be_written(command, places, annvq_command, request):
    if "{table}" in command:
        request.getfixturevalue("table")
    elif "table" in command or "tokenizers" in command or "train" in command:
        pytest.importorskip("torch")
    fails(annvq_command(*words(command.replace("info {index} --json {locked}", "info {index} --json {locked}.json"),
                               places)), places["locked"])  # fmt: skip


@pytest.mark.parametrize("kind", ["index", "documents"])
def test_nothing_is_changed_if_the_report_cannot_be_written(kind, places, annvq_command):
    copy = shutil.copytree(places[kind], places["out"])
    for command in CHANGING:
        annvq_command(*words(command.replace("{index}", f"{{{kind}}}"), places), "--json", places["locked"])
    before, after = ({file.name for file in folder.rglob("*")} for folder in (copy, places[kind]))
    assert before == after


@pytest.mark.parametrize("command", ["info {index}", "info {index} --json -", "export {index}", "--help", "--version"])
def test_a_pipe_that_nobody_reads(command, places):
    reader, writer = os.pipe()
    os.close(reader)
    asked = [sys.executable, "-m", "annvq", *words(command, places)]
    done = subprocess.run(asked, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")
