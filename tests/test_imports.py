"""What a process loads and where it writes: nothing that was not asked for, and any folder will do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

USE = """
import sys
import numpy as np
import annvq
rows = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
index = annvq.build(rows, "PQ4x4,Refine(Flat)", metric="l2", threads=2)
index.add(rows + 1)
index.remove([3])
index.compact()
index.save(sys.argv[1])
with annvq.open(sys.argv[1], "rw") as opened:
    opened.add(rows[:1] + 2)
    opened.verify()
    assert opened.search(rows[:1], 1, filter=np.arange(60)).ids.tolist() == [[0]]
    assert opened.search(rows[:1], 1, filter=np.ones(120, bool)).ids.tolist() == [[0]]
    opened.range_search(rows[:1], 1.0)
    opened.reconstruct([7])
with annvq.build(iter([rows, rows]), "Flat", path=sys.argv[1]) as streamed:
    streamed.search(rows)
found = {name.partition(".")[0] for name, module in sys.modules.items() if module is not None}
import json
print(json.dumps(sorted(found - sys.stdlib_module_names)))
"""
NOT_NEEDED = (
    "pyarrow torch pandas matplotlib faiss sentence_transformers transformers rich typer click h5py pytrec_eval "
    "sklearn hnswlib usearch tqdm requests"
)


def ran(code, *arguments, **environment):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_building_searching_and_saving_load_numpy_and_numba_only(tmp_path):
    loaded = set(json.loads(ran(USE, tmp_path / "index")))
    assert {"annvq", "numpy", "numba"} <= loaded
    assert not loaded & set(NOT_NEEDED.split())
    assert {name for name in loaded if name.startswith("annvq")} == {"annvq"}


def test_str_ids_and_attributes_load_pyarrow_and_nothing_else(tmp_path):
    code = USE.replace('metric="l2"', 'metric="l2", ids=[str(i) for i in range(60)]').split("index.add")[0]
    code += "\nprint(*(set(sys.argv[2].split()) & set(sys.modules)))"
    others = NOT_NEEDED.replace("pandas", "")  # pyarrow itself looks at pandas where it is installed
    assert ran(code, tmp_path / "index", others).split() == ["pyarrow"]


@pytest.mark.parametrize(
    "name",
    [
        "with space",
        "übung",
        "日本語",
        "𝄞",
        "e\u0301",
        "quote'\"$HOME",
        "-rf",
        "%s{0}\\n",
        "a" * 255,
        "deep/" * 40 + "end",
    ],
)
def test_any_folder_name_will_do(name, tmp_path):
    import numpy as np

    import annvq

    path = tmp_path / name
    rows = np.eye(4, 3, dtype=np.float32)
    annvq.build(rows, "Flat").save(path)
    annvq.build(rows, "Flat", ids=["a", "b", "c", "d"], path=str(path)).close()
    with annvq.open(os.fspath(path), "rw") as index:
        index.add(rows, ids=["e", "f", "g", "h"])
        index.verify()
        assert index.stats()["path"] == str(path)
    assert path.is_dir()


# Where compiled kernels are kept

KERNEL = """
import sys, types
import numpy as np
{before}
sys.modules["annvq"] = annvq = types.ModuleType("annvq")  # the kernels alone, which load faster
annvq.__path__ = ["annvq"]
from annvq.kernels.vectors.finite import first_non_finite
assert first_non_finite(np.array([[1, 2], [np.nan, 0]], np.float32)) == 1
print(first_non_finite.stats.cache_hits.total())
"""


def compiled(before="", **environment):
    """Return how often a process found a compiled kernel."""
    return int(ran(KERNEL.format(before=before), **environment))


@pytest.mark.slow
def test_a_damaged_cache_is_compiled_anew(tmp_path):
    assert compiled(NUMBA_CACHE_DIR=str(tmp_path)) == 0
    for suffix, content in ((".nbi", b""), (".nbc", b"\x80garbage")):
        (file,) = (file for file in tmp_path.rglob("*first_non_finite*") if file.suffix == suffix)
        file.write_bytes(content)
        assert compiled(NUMBA_CACHE_DIR=str(tmp_path)) == 0
        assert compiled(NUMBA_CACHE_DIR=str(tmp_path)) == 1  # what was compiled anew is kept


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "file").touch()
    compiled(NUMBA_CACHE_DIR=str(tmp_path / "file" / "folder"))  # no folder can be made in a file, even by root
    nowhere = "from numba.core import caching; caching.CacheImpl._locator_classes = []"
    disabled = ran(KERNEL.format(before=nowhere).replace("print(", "hits = ("))
    assert disabled == ""
