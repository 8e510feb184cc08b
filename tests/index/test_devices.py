"""Where an index can be moved, and what is said where it cannot: there is no GPU here, and nothing runs elsewhere."""

import os
import subprocess
import sys

import numpy as np
import pytest

import annvq
from annvq.errors import DeviceError, MissingExtraError, ParameterError

VECTORS = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)


@pytest.fixture
def index():
    return annvq.build(VECTORS, "flat")


def test_the_cpu_is_a_device(index, tmp_path):
    assert index.to("cpu") is index
    index.save(tmp_path / "index")
    assert annvq.open(tmp_path / "index", device="cpu").search(VECTORS[:1], 1).ids.shape == (1, 1)


@pytest.mark.parametrize("given", [{"device_bytes": 10**9}, {"split": "lists"}, {"split": "halves"}])
def test_what_is_for_gpus_is_not_passed_over(index, given, tmp_path):
    (named, value) = given.popitem()
    index.save(tmp_path / "index")
    for move in (index.to, lambda device, **options: annvq.open(tmp_path / "index", device=device, **options)):
        with pytest.raises(ParameterError, match=f"{named}={value!r} is for GPUs, and the device is 'cpu'"):
            move("cpu", **{named: value})


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "", 0, None, "cpu:0", "mps"])
def test_what_is_no_device(index, device):
    with pytest.raises(ParameterError, match="expected 'cpu', 'cuda', or 'cuda:1'"):
        index.to(device)


def ran(code, **environment):
    """Run code in a process of its own, in which ``index`` is one; return what it prints."""
    start = "import annvq, numpy as np; index = annvq.build(np.eye(8), 'flat')\n"
    done = subprocess.run(
        [sys.executable, "-c", start + code], capture_output=True, text=True, env={**os.environ, **environment}
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(("absent", "named"), [("torch", "torch"), ("triton", "triton")])
def test_an_extra_that_is_missing_is_named(index, absent, named, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(MissingExtraError, match=rf"{named} is not installed; .*annvq\[gpu\]"):
        index.to("cuda")


def test_without_a_gpu_nothing_runs_elsewhere(index, tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("triton")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(DeviceError, match="'cuda'"):
        index.to("cuda")
    index.save(tmp_path / "index")
    with pytest.raises(DeviceError, match="'cuda:1'"):
        annvq.open(tmp_path / "index", "rw", device="cuda:1")
    annvq.open(tmp_path / "index", "rw").close()  # the lock was released


def test_the_interpreter_is_asked_for_by_name(index):
    pytest.importorskip("triton")
    if os.environ.get("TRITON_INTERPRET") != "1":
        with pytest.raises(DeviceError, match="TRITON_INTERPRET=1"):
            index.to("interpreter")
    assert "kernels would not run on cuda" in ran("index.to('cuda')", TRITON_INTERPRET="1")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            RuntimeError("The NVIDIA driver on your system is too old (found version 11040)."),
            "too old \\(found version",
        ),
        ((7, 5), "compute capability 7.5, 8.0 or newer"),
        (0, "there are 0 GPUs"),
    ],
    ids=["driver", "capability", "none"],
)
def test_a_gpu_or_driver_that_is_too_old(index, found, message, monkeypatch):
    torch = pytest.importorskip("torch")
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.version, "cuda", "13.0")

    def init():
        if isinstance(found, Exception):
            raise found

    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0 if found == 0 else 1)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda number: found)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "Tesla T4")
    with pytest.raises(DeviceError, match=message):
        index.to("cuda")


def test_importing_annvq_loads_nothing_of_it():
    loaded = ran(
        "import sys; print([name for name in sys.modules if 'annvq.gpu' in name or name in ('torch', 'triton')])"
    )
    assert loaded.split("\n")[0] == "[]"
