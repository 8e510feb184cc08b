"""Warming up: whatever a recipe, it runs, and afterwards nothing that an index does compiles anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import annvq
from annvq import multivector
from annvq.errors import ParameterError, StateError
from annvq.index import recipe as recipes
from annvq.index.warmup import warmup
from annvq.multivector import recipe as multivector_recipes

OPERATIONS = Path(__file__).with_name("every_operation.py")
FACTORIES = ["RQ8x8", "IVF16,RaBitQ4", "SQ4", "PCA16,IVF,PQ8x4fsr", "QG32x8SQ8"]
NAMES = [name for name in recipes.names() if recipes.load(name).learn is None]  # vectors alone build them


def needed_after_warmup(*arguments):
    """Return what a process prints that warms up and then does everything, see `every_operation.py`."""
    done = subprocess.run([sys.executable, str(OPERATIONS), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_warming_up_covers_all_that_an_index_does():
    assert needed_after_warmup("balanced", "l2") == ["needed: 0"]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [*NAMES, *FACTORIES, *multivector_recipes.names()])
def test_warming_up_covers_every_recipe(recipe):
    assert needed_after_warmup(recipe) == ["needed: 0"]


def test_an_index_says_what_to_warm_up_for():
    rows = np.eye(8, 4, dtype=np.float32)
    index = annvq.build(rows, "IVF2,SQ8", metric="l2")
    annvq.warmup(index)
    assert len(index) == 8
    documents = multivector.MultiVectorIndex.build(rows.reshape(4, 2, 4), "chamfer-exact")
    multivector.warmup(documents)
    assert len(documents) == 4
    with pytest.raises(StateError, match="MultiVectorIndex"):
        annvq.warmup(annvq.Index(documents.rows))
    with pytest.raises(ParameterError, match="dot"):
        annvq.warmup("flat", metric="dot")


@pytest.mark.parametrize(
    "recipe", [*recipes.names(), "auto", "IVF4096,PQ96x4fs,RFlat", "RQ64x8", "PCA64,IVF,PQ32x4fsr", "OPQ64,IVF256,PQ64"]
)
def test_every_recipe_can_be_warmed_up(recipe):
    warmup(recipe, metric="cosine")


@pytest.mark.slow
def test_after_warming_up_a_new_process_compiles_nothing(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    warm = [sys.executable, "-m", "annvq", "warmup", "--recipe", "ivf-sq8"]
    done = subprocess.run(warm, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"compiled: ivf-sq8\nkept in {tmp_path}")
    assert done.stderr.count("once on this machine") == 1
    assert re.search(r"annvq: compiled \d+ kernels for warmup in \d+\.\d s\n", done.stderr)
    use = [sys.executable, str(OPERATIONS), "ivf-sq8", "l2"]
    after = subprocess.run(use, env=environment, capture_output=True, text=True, check=True)
    assert after.stderr == ""
