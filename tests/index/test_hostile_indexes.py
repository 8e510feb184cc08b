"""Random damage with right checksums, taken through everything that reads and writes an index of every kind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_indexes import KINDS

SCRIPT = Path(__file__).with_name("hostile_indexes.py")
ROOT = Path(__file__).parents[2]
_SEEDS = 12  # `make soak` tries others
_GROUPS = [KINDS[start::4] for start in range(4)]  # a process for each kind would take as long to start as to try it


@pytest.mark.parametrize("kinds", _GROUPS, ids=",".join)
def test_nothing_that_files_hold_crashes_what_reads_or_writes_them(kinds, tmp_path):
    """And what `verify` accepts can be searched, changed, merged and saved."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    said = tmp_path / "said"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), ",".join(kinds), "0", str(_SEEDS), str(said)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{said.read_text()[:300]}\n{done.stdout}\n{done.stderr[-2000:]}"
    for kind in kinds:
        assert f"{kind}: {_SEEDS} attempts, 0 faults" in done.stdout
