"""``annvq bench tables``: table, picture, JSON, exit codes."""

import gzip
import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("matplotlib")

from annvq.cli.__main__ import main


@pytest.fixture
def pairs(tmp_path):
    folder = tmp_path / "pairs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("train", "test"):
        lines = [" ".join(map(str, [user, *rng.choice(50, 8, replace=False)])) for user in range(30)]
        with gzip.open(folder / f"{name}.txt.gz", "wt") as file:
            file.write("\n".join(lines) + "\n")
    return folder


def test_a_run_writes_everything(pairs, tmp_path, capsys):
    command = ["bench", "tables", str(pairs), "--method", "Hash", "--method", "INT8", "--ratio", "4", "--ratio", "20"]
    command += ["--model", "bpr-mf", "--seeds", "2", "--epochs", "1", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--json", str(tmp_path / "result.json")])
    assert ended.value.code in (0, None)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["command"] == "bench tables"
    assert result["config"]["refused"].keys() == {"INT8 20x"}
    assert len(result["rows"]) == 4
    assert {"method", "ratio", "bytes", "recall@20", "ndcg@20", "params"} <= set(result["rows"][0])
    assert (tmp_path / "out" / "tables-pairs-bpr-mf.png").stat().st_size > 5000
    assert len((tmp_path / "out" / "tables-pairs.jsonl").read_text().splitlines()) == 10
    shown = capsys.readouterr().out
    assert "uncompressed" in shown
    assert "too small" in shown
    hashed = next(row["bytes"] for row in result["rows"] if (row["method"], row["ratio"]) == ("Hash", 4))
    line = next(line for line in shown.splitlines() if "Hash" in line and "4x" in line)
    assert f"{hashed / 1e6:.4f} MB" in line


def test_wrong_names_are_usage_errors_and_what_does_not_fit_the_data_fails(pairs, tmp_path, capsys):
    for more, code in ((["--method", "Zip"], 2), (["--ratio", "0"], 2), (["--model", "dlrm"], 1)):
        with pytest.raises(SystemExit) as ended:
            main(["bench", "tables", str(pairs), "--out", str(tmp_path), *more])
        assert ended.value.code == code
        err = capsys.readouterr().err
        assert "Usage" in err if code == 2 else err.count("\n") == 1
