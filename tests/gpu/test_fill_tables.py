"""Look-up tables made on a device: those of the CPU, to the bit, in floats and in bytes."""

import numpy as np
import pytest
import torch
from alike import same_search

import annvq
from annvq.gpu.codes.kind import ResidentProbes
from annvq.kernels.registers.tiles import readonly
from annvq.kernels.scan.lookup_tables import quantize_lookup_tables


@pytest.fixture(scope="module")
def vectors():
    made = np.random.default_rng(3).normal(size=(150, 13)).astype(np.float32)
    made[:, 5] = 1.0  # one table, at least, has equal entries
    return made


@pytest.mark.parametrize(
    ("recipe", "metric"),
    [("PQ4x4fs", "l2"), ("IVF2,PQ4x4fsr", "l2"), ("PQ3", "ip"), ("PQ1", "l2"), ("RQ2x4", "l2"), ("SQ4", "l2")],
)
def test_tables_are_those_of_the_cpu(device, recipe, metric, vectors):
    index = annvq.build(vectors, recipe, metric=metric)
    codes = index.to(device)._on_devices(index.rows.current)[0][0].codes
    asked = np.vstack([vectors[:2] * np.float32(1e4), vectors[:1] * np.float32(1e-25), np.zeros((1, 13), np.float32)])
    queries = index.rows.current.trained.turn(asked)
    there = torch.from_numpy(queries).to(codes.device)
    nlist = torch.zeros((len(asked), 2 if "IVF" in recipe else 0), device=codes.device)
    made = codes.prepare(there, ResidentProbes(torch.zeros((len(asked), 1), dtype=torch.int64), nlist))
    tables = codes.codes.codebook.lookup_tables_trusted(queries, metric, residual=codes.codes.residual)
    assert made.tables.cpu().numpy().tobytes() == tables.tobytes()
    for q, of_query in enumerate(tables):
        M, ksub = of_query.shape
        levels = np.zeros((M + 1, ksub), np.uint8)
        step, bias = quantize_lookup_tables(readonly(of_query), levels.reshape(-1))
        assert np.float32(step).tobytes() == made.steps[q].cpu().numpy().tobytes()
        assert np.float32(bias).tobytes() == made.biases[q].cpu().numpy().tobytes()
        found = made.quantized[q].cpu().numpy()
        if ksub == 16:
            pairs = levels[: M + M % 2].astype(np.int16).reshape(-1, 2, 16)
            levels = (pairs[:, 1, :, None] + pairs[:, 0, None, :]).reshape(-1, 256)
        np.testing.assert_array_equal(found[: len(levels)], levels[: len(found)])
        assert not found[len(levels) :].any()


@pytest.mark.parametrize("recipe", ["IVF2,PQ3x4fsr", "PQ3", "RQ2x4"])
@pytest.mark.parametrize("n", [0, 1, 31, 33])
def test_small_indexes(device, recipe, n, vectors):
    index = annvq.build(vectors, recipe, metric="l2")
    index.remove(np.arange(n, 150))
    index = index.copy()
    index.compact()
    same_search(index.to(device), index, vectors[:1], 33)
