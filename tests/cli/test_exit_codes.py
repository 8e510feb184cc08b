import os
import re
import subprocess
import sys

import numpy as np
import pytest

import annvq

PROGRESS = re.compile(r"annvq: +[\d.]+ s  ")


def fails(result):
    """Check exit code 1 and a last line on stderr that says why, after progress only; return that line."""
    code, _, err = result
    assert code == 1
    said = [line for line in err.strip().splitlines() if not PROGRESS.match(line)]
    assert len(said) == 1, err
    assert err.strip().endswith(said[0])
    assert said[0].startswith("annvq: ")
    return said[0]


def test_failures_are_one_line(tmp_path, vectors, annvq_command):
    np.save(tmp_path / "base.npy", vectors)
    out = tmp_path / "index"
    assert "absent.npy" in fails(annvq_command("build", tmp_path / "absent.npy", "-o", out))
    assert "nonsense" in fails(annvq_command("build", tmp_path / "base.npy", "-o", out, "--recipe", "nonsense"))
    (tmp_path / "text.npy").write_text("not numpy")
    fails(annvq_command("build", tmp_path / "text.npy", "-o", out))
    fails(annvq_command("info", tmp_path / "absent"))
    fails(annvq_command("verify", tmp_path))
    fails(annvq_command("bench", "ann", tmp_path / "absent.npz"))
    fails(annvq_command("bench", "beir", tmp_path, "--model", "m", "--out", tmp_path / "o"))
    fails(annvq_command("bench", "beir", tmp_path, "--model", "m", "--split", "dev", "--recipe", "nonsense"))
    assert not out.exists()


def test_vectors_that_cannot_be_indexed_fail_and_leave_nothing(tmp_path, vectors, annvq_command):
    np.save(tmp_path / "nan.npy", np.where(vectors > 2, np.nan, vectors))
    fails(annvq_command("build", tmp_path / "nan.npy", "-o", tmp_path / "index", "--recipe", "flat"))
    assert not (tmp_path / "index").exists()


def test_what_cannot_be_written_is_named_before_anything_is_measured(tmp_path, vectors, annvq_command):
    np.savez(tmp_path / "data.npz", base=vectors, query=vectors[:8], metric=np.array("l2"))
    np.save(tmp_path / "base.npy", vectors)
    (tmp_path / "file").touch()
    annvq_command("build", tmp_path / "base.npy", "-o", tmp_path / "index", "--recipe", "flat")
    search = ("search", tmp_path / "index", tmp_path / "base.npy", "-o")
    bench = ("bench", "ann", tmp_path / "data.npz", "--recipe", "flat")
    (tmp_path / "folder.parquet").mkdir()
    for command, place in (
        (search, tmp_path / "folder.parquet"),
        (search, tmp_path / "file" / "hits.parquet"),
        ((*bench, "--json"), tmp_path),
        ((*bench, "--json"), tmp_path / "file" / "result.json"),
        ((*bench, "--out"), tmp_path / "file"),
        (("build", tmp_path / "base.npy", "-o"), tmp_path / "file"),
    ):
        said = fails(annvq_command(*command, place))
        assert said.startswith(f"annvq: {place}")
        assert ".tmp" not in said
    # Also a recipe after one that would be measured first.
    assert "nonsense" in fails(annvq_command(*bench, "--recipe", "nonsense"))


def test_queries_of_another_dimension_fail(tmp_path, vectors, annvq_command):
    np.save(tmp_path / "base.npy", vectors)
    np.save(tmp_path / "queries.npy", vectors[:, :5])
    annvq_command("build", tmp_path / "base.npy", "-o", tmp_path / "index", "--recipe", "flat")
    fails(annvq_command("search", tmp_path / "index", tmp_path / "queries.npy"))


def test_more_hits_than_memory_holds_fail(tmp_path, vectors, annvq_command):
    annvq.build(vectors, recipe="flat").save(tmp_path / "index")
    np.save(tmp_path / "queries.npy", vectors[:2])
    fails(annvq_command("search", tmp_path / "index", tmp_path / "queries.npy", "-k", 10**14))


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["build"],
        ["build", "x.npy"],
        ["build", "x.npy", "-o", "i", "--metric", "dot"],
        ["search", "i", "q.npy", "-k", "0"],
        ["tune", "i", "q.npy", "--recall", "2"],
        ["tune", "i", "q.npy", "--recall", "0"],
        ["tune", "i", "q.npy", "--recall", "nan"],
        ["bench", "beir", "d", "--model", "m", "--tune", "0"],
        ["bench", "beir", "d"],
        ["bench", "ann", "x.npz", "--peers", "annoy"],
        ["bench", "ann", "x.npz", "--threads", "0"],
        ["build", "x.npy", "-o", "i", "--seed", "-1"],
        ["search", "i", "q.npy", "-o", "hits.txt"],
        ["search", "i", "q.npy", "--filter", "lang == "],
        ["export", "i", "-o", "rows.txt"],
        ["remove", "i"],
        ["remove", "i", "a", "--from", "f.txt"],
        ["bench", "tokenizers", "d", "--quantizer", "XYZ"],
        ["info", "i", "--unknown"],
    ],
)
def test_usage_errors_are_2(arguments, annvq_command):
    code, out, err = annvq_command(*arguments)
    assert code == 2
    assert out == ""
    assert "Usage" in err


def test_help_and_version_succeed(annvq_command):
    for arguments in (["--help"], ["--version"], ["build", "--help"], ["bench", "ann", "--help"]):
        code, out, err = annvq_command(*arguments)
        assert (code, err) == (0, "")
        assert out


COMMANDS = "build search tune info add remove compact export verify warmup demo train".split()


GROUPS = ["", "bench", "table"]
OF_GROUPS = [f"bench {name}" for name in ("ann", "beir", "tables", "tokenizers")]
OF_GROUPS += [f"table {name}" for name in ("compress", "info", "export", "verify")]


@pytest.mark.parametrize("command", [*GROUPS, *COMMANDS, *OF_GROUPS])
def test_every_help_has_examples_and_neither_types_nor_ranges(command, annvq_command):
    code, out, _ = annvq_command(*command.split(), "--help")
    assert code == 0
    assert f"annvq {command}" in out.split("Examples:")[1]
    assert not re.findall(r"<\w[^>]*>|\bPath\b|\bbool\b|\brange\b|Usage: .*[{}]", out)
    assert ">=" not in out.replace("year >= 2000", "")


def test_python_m_annvq_is_the_command(tmp_path):
    done = subprocess.run([sys.executable, "-m", "annvq", "info", tmp_path / "absent"], capture_output=True, text=True)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("module", ["annvq", "annvq.cli"])
def test_an_instruction_set_that_is_none_is_a_usage_error(module):
    command = [sys.executable, "-m", module, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "ANNVQ_ISA": "mmx"})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("annvq: ANNVQ_ISA='mmx': this CPU can run ")
    assert done.stderr.count("\n") == 1


def test_a_pipe_is_not_waited_for(tmp_path, annvq_command):
    os.mkfifo(tmp_path / "fifo.npy")
    assert "named pipe" in fails(annvq_command("build", tmp_path / "fifo.npy", "-o", tmp_path / "index"))
    assert "fifo" in fails(annvq_command("build", tmp_path / "fifo", "-o", tmp_path / "index"))
