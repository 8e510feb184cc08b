"""Warming up: whatever a recipe, it runs, and a process with the cache then compiles nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from annvq.index import recipe as recipes
from annvq.index.warmup import warm_up

# Prints what a new process has to compile itself when it builds and searches.
USE = """
import numpy as np, annvq
vectors = np.random.default_rng(1).normal(size=(3000, 24)).astype(np.float32)
index = annvq.build(vectors, "IVF16,SQ8", metric="l2")
index.search(vectors[0]); index.search(vectors[:100])
"""


@pytest.mark.parametrize(
    "recipe", [*recipes.names(), "auto", "IVF4096,PQ96x4fs,RFlat", "RQ64x8", "PCA64,IVF,PQ32x4fsr", "OPQ64,IVF256,PQ64"]
)
def test_every_recipe_can_be_warmed_up(recipe):
    warm_up(recipe, "cosine")


@pytest.mark.slow
def test_after_warming_up_a_new_process_compiles_nothing(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    warm = [sys.executable, "-m", "annvq", "warmup", "--recipe", "ivf-sq8"]
    done = subprocess.run(warm, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"compiled: ivf-sq8\nkept in {tmp_path}")
    assert done.stderr.count("once on this machine") == 1
    assert re.search(r"annvq: compiled \d+ kernels for warm_up in \d+\.\d s\n", done.stderr)
    after = subprocess.run([sys.executable, "-c", USE], env=environment, capture_output=True, text=True, check=True)
    assert after.stderr == ""
