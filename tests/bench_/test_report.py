import json
import os
import platform

import pytest

from annvq.bench import machine
from annvq.bench.report import check_place, write_json


def test_the_object_has_the_published_keys(tmp_path):
    path = tmp_path / "new" / "result.json"
    write_json(path, "bench ann", {"k": 10}, [{"recall": 1.0}])
    result = json.loads(path.read_text())
    assert list(result) == ["command", "config", "machine", "rows"]
    assert (result["command"], result["config"], result["rows"]) == ("bench ann", {"k": 10}, [{"recall": 1.0}])
    assert os.listdir(path.parent) == ["result.json"]


def test_what_is_not_json_leaves_the_old_file(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, "bench ann", {}, [])
    before = path.read_text()
    with pytest.raises(ValueError):
        write_json(path, "bench ann", {}, [{"recall": float("nan")}])
    assert path.read_text() == before
    assert os.listdir(tmp_path) == ["result.json"]


def test_a_place_is_checked_without_a_trace(tmp_path):
    check_place(tmp_path / "new" / "folder" / "result.json")
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "result.json"):
        with pytest.raises(OSError) as caught:
            check_place(path)
        assert caught.value.filename == str(path)
    assert os.listdir(tmp_path) == ["file"]


def test_the_machine_is_described_without_names():
    described = machine.describe()
    assert described["cores"] >= 1
    assert described["python"] == platform.python_version()
    assert {"cpu", "memory_gib", "numpy", "numba", "isa"} <= set(described)
    text = json.dumps(described)
    assert platform.node() == "" or platform.node() not in text
    assert os.getcwd() not in text
