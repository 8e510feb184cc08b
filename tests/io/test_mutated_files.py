"""Mutated files end in vectors or in an error of annvq's: no other error, no crash, no hang, little memory."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "mutations.py"


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet", ".arrow", ".fvecs", ".bvecs", ".fbin", ".hdf5"])
def test_mutated_files(suffix, tmp_path):
    if suffix == ".hdf5":
        pytest.importorskip("h5py")
    command = [sys.executable, str(SCRIPT), str(tmp_path), "100", "5", suffix]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{done.returncode}: {done.stdout[-3000:]}{done.stderr[-1000:]}"
