"""The nearest code on a device: that of the CPU, and that of float64 where distances differ."""

import numpy as np
import pytest
import torch

from annvq.gpu.nearest import nearest
from annvq.kernels.clusters.assign import assign


@pytest.fixture
def where(device):
    return "cpu" if device == "interpreter" else device


@pytest.mark.parametrize("metric", ["l2", "ip"])
@pytest.mark.parametrize(("n", "k", "d"), [(1, 1, 1), (33, 65, 7), (70, 2100, 12), (3, 64, 17)])
def test_codes_are_those_of_the_cpu(where, metric, n, k, d):
    rng = np.random.default_rng(n)
    rows, codes = rng.normal(size=(n, d)).astype(np.float32), rng.normal(size=(k, d)).astype(np.float32)
    codes[k // 2] = codes[0]  # a tie, which the lower code wins
    rows[0] = 3 * codes[0]
    found = nearest(torch.from_numpy(rows).to(where), torch.from_numpy(codes).to(where), metric).cpu().numpy()
    wanted, _ = assign(rows, codes, metric=metric, threads=1)
    np.testing.assert_array_equal(found, wanted)
    products = rows.astype(np.float64) @ codes.astype(np.float64).T
    scores = products if metric == "ip" else 2 * products - np.square(codes, dtype=np.float64).sum(axis=1)
    best = scores.max(axis=1)
    np.testing.assert_allclose(scores[np.arange(n), found], best, atol=1e-4)


@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_no_rows_equal_codes_and_zeros(where, metric):
    codes = torch.ones(5, 3, device=where)
    assert nearest(torch.empty(0, 3, device=where), codes, metric).tolist() == []
    assert nearest(torch.zeros(2, 3, device=where), codes, metric).tolist() == [0, 0]
    assert nearest(-torch.ones(2, 3, device=where), codes, metric).tolist() == [0, 0]
    far = torch.tensor([[1e6, 1e6, 1e6], [1e6 + 1, 1e6, 1e6]], device=where)
    assert nearest(far, far, "l2").tolist() == [0, 1]
