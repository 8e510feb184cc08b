"""Tests of kernels and indexes on a GPU (``pytest -m gpu``) or, where TRITON_INTERPRET=1, in Triton's interpreter.

What was launched is noted, for `cubins.py` to compile.
"""

import json
import os
from pathlib import Path

import pytest

from annvq.gpu.device import devices

DEVICE = "interpreter" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
MISSING = "" if DEVICE == "interpreter" else devices()[1]
if MISSING:
    collect_ignore_glob = ["test_*.py"]  # which import Triton, and torch with a GPU


def pytest_report_header():
    """Say why nothing is tested."""
    return f"tests/gpu: left out, {MISSING}" if MISSING else f"tests/gpu: on {DEVICE}"


def pytest_collection_modifyitems(items):
    """Mark all tests here, so that the tests of the CPU leave them out."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session")
def device():
    """Return the device that indexes are moved to."""
    return DEVICE


def signature(kernel, arguments, constants):
    """Return what a launch asks the compiler for, as JSON: types of arguments and values of constants."""
    import torch

    types = []
    for one in arguments:
        if isinstance(one, torch.Tensor):
            types.append("*" + str(one.dtype).removeprefix("torch."))
        elif isinstance(one, float):
            types.append("fp32")
        elif one == 1:
            types.append("1")  # of which Triton makes a constant
        else:
            types.append("i32" if -(1 << 31) <= one < 1 << 31 else "i64")
    function = kernel.fn
    return json.dumps([function.__module__, function.__name__, types, constants])


@pytest.fixture(autouse=True, scope="session")
def launches(worker_id):
    """Note the launches of a session in the folder that ANNVQ_LAUNCHES names, if it does."""
    from annvq.gpu import launch

    noted, run = set(), launch.run

    def noting(kernel, grid, arguments, warps, constants):
        noted.add(signature(kernel, arguments, {**constants, "num_warps": warps}))
        run(kernel, grid, arguments, warps, constants)

    launch.run = noting
    yield
    launch.run = run
    if folder := os.environ.get("ANNVQ_LAUNCHES"):
        Path(folder, f"{worker_id}.jsonl").write_text("\n".join(sorted(noted)) + "\n")
