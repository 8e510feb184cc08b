"""Every instruction set returns the same bits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from annvq.errors import ParameterError
from annvq.kernels.compile import isa

DIGEST = Path(__file__).with_name("digest_of_kernels.py")


def digest(name):
    environment = {**os.environ, "ANNVQ_ISA": name}
    done = subprocess.run([sys.executable, str(DIGEST)], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize("name", [name for name in isa.supported() if name != isa.ACTIVE])
def test_results_are_bit_identical(name):
    ours, theirs = digest(isa.ACTIVE), digest(name)
    assert ours[0] == isa.ACTIVE
    assert theirs[0] == name
    assert ours[1:] == theirs[1:]


def test_portable_runs_everywhere():
    assert isa.supported()[-1] == "portable"


def test_an_unknown_name_is_refused(monkeypatch):
    monkeypatch.setenv("ANNVQ_ISA", "mmx")
    with pytest.raises(ParameterError, match="mmx"):
        isa._choose()
