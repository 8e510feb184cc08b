"""No kernel reads or writes a byte outside its arrays: they lie against pages that may be neither read nor written."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
TOO_FAR = """
import ctypes, numpy as np, sys
from guard_pages import Guard
Guard(sys.argv[1] == "behind").install()
array = np.ones(1000, np.uint8)
place = array.ctypes.data + (1000 if sys.argv[1] == "behind" else -1)
ctypes.string_at(array.ctypes.data, 1000)
print("so far", flush=True)
ctypes.string_at(place, 1)
"""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pages are made as on Linux")


def run(*command):
    found = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(FOLDER)])}
    return subprocess.run([sys.executable, *command], env=found, capture_output=True, text=True, timeout=900)


@pytest.mark.parametrize("side", ["behind", pytest.param("before", marks=pytest.mark.slow)])
def test_a_byte_too_far_ends_a_process(side):
    ended = run("-c", TOO_FAR, side)
    assert (ended.stdout, ended.returncode) == ("so far\n", -signal.SIGSEGV), ended.stderr


@pytest.fixture(scope="module")
def as_usual():
    ended = run(str(FOLDER / "guard_pages.py"), "none")
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("side", ["behind", "before"])
def test_every_kernel_stays_within_its_arrays(as_usual, side):
    ended = run(str(FOLDER / "guard_pages.py"), side)
    assert ended.returncode == 0, f"{ended.stdout[-200:]} {ended.stderr[-2000:]}"
    assert ended.stdout == as_usual
