"""Kernels run in Triton's interpreter here; what was launched is noted, for `cubins.py` to compile."""

import json
import os
from pathlib import Path

import pytest

if os.environ.get("TRITON_INTERPRET") != "1":
    collect_ignore_glob = ["test_*.py"]


def signature(kernel, arguments, constants):
    """Return what a launch asks the compiler for, as JSON: types of arguments and values of constants."""
    import torch

    types = []
    for one in arguments:
        if isinstance(one, torch.Tensor):
            types.append("*" + str(one.dtype).removeprefix("torch."))
        elif isinstance(one, float):
            types.append("fp32")
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
