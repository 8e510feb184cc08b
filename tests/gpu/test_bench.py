"""Recipes measured on a device: a whole run of the benchmark, in the interpreter."""

import numpy as np
import pytest

from annvq.bench import ann
from annvq.errors import DeviceError
from annvq.progress import Progress


def test_annvq_is_measured_on_the_device(tmp_path, monkeypatch):
    monkeypatch.setattr(ann, "BATCHES", (1, 4, 1_000))
    base = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    np.savez(tmp_path / "data.npz", base=base, query=base[:8] + 0.01, metric=np.array("l2"))
    modes = ann.device_modes(1)
    asked = ann.AnnBench(("flat",), ("faiss-gpu", "cuvs"), k=2, modes=modes, device="interpreter")
    result = ann.run(tmp_path / "data.npz", asked, Progress(), lambda result: None)
    assert [(point.recipe, str(point.mode), point.recall) for point in result.points] == [
        ("flat", "one query per call, threads 1", 1.0),
        ("flat", "batches of 4, threads 1", 1.0),
    ]
    assert (result.config["device"], set(result.skipped)) == ("interpreter", {"faiss-gpu", "cuvs"})


def test_kernels_that_are_interpreted_are_not_measured_as_a_gpu():
    with pytest.raises(DeviceError, match="TRITON_INTERPRET"):
        ann.AnnBench(device="cuda")
