"""The same results under other instruction sets of annvq, torch, NumPy and its BLAS.

What one machine's libraries choose says nothing about another's: each case runs `code_paths` in a process of its own.
Off by default, since instruction sets of annvq are compiled first: ``make test-paths``.
"""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from annvq.kernels.compile.isa import supported

pytest.importorskip("torch")

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("code_paths.py")
LIBRARIES = {
    "torch, plain": {"ATEN_CPU_CAPABILITY": "default"},
    "torch, AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "MKL, SSE4.2": {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    "MKL, AVX2": {"MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "MKL, compatible": {"MKL_CBWR": "COMPATIBLE"},
    "NumPy, AVX2": {"NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512F AVX512_SKX AVX512_ICL AVX512_SPR"},
    "NumPy, plain": {"NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX2 FMA3 AVX512F AVX512_SKX AVX512_ICL AVX512_SPR"},
    "OpenBLAS, Haswell": {"OPENBLAS_CORETYPE": "Haswell"},
    "OpenBLAS, Zen": {"OPENBLAS_CORETYPE": "Zen"},
    "OpenBLAS, Prescott": {"OPENBLAS_CORETYPE": "Prescott"},
    "one thread": {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    "three threads": {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3"},
}


@cache
def digests(parts, **variables):
    environment = {**os.environ, **variables}
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", SCRIPT, *parts], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize("case", LIBRARIES)
def test_libraries(case):
    parts = ("exact", "tokenizers", "tables", "documents")
    assert digests(parts, **LIBRARIES[case]) == digests(parts)


@pytest.mark.parametrize("name", supported())
def test_instruction_sets(name):
    parts = ("tokenizers", "indexes")
    assert digests(parts, ANNVQ_ISA=name) == digests(parts)
