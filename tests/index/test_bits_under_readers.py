"""Bits that change in the files of an open index make wrong answers or errors of annvq, never a crash."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("bits_under_readers.py")
ROOT = Path(__file__).parents[2]


KINDS = [("spill", "pq4", "fp32"), ("tokens-pq", "tokens-fp32", "rabitq")]


@pytest.mark.parametrize("kinds", KINDS)
def test_searching_survives_files_that_change(kinds):
    survives(*kinds)


@pytest.mark.slow
@pytest.mark.parametrize("kinds", KINDS)
def test_searching_survives_files_that_change_more_often(kinds):
    survives("--thorough", *kinds)


def survives(*arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split("\n")[:-1] == [f"{kind}: alive" for kind in arguments if not kind.startswith("-")]
