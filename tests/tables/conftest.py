"""A trained table that looks like one: clusters, a spectrum that falls, Zipf's frequencies."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

import torch


def made_weight(n=2000, d=32, seed=0):
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(40, d))
    rows = centers[rng.integers(0, 40, n)] + 0.3 * rng.normal(size=(n, d))
    return (rows * np.linspace(1.0, 0.2, d) @ np.linalg.qr(rng.normal(size=(d, d)))[0]).astype(np.float32)


@pytest.fixture(scope="session")
def weight():
    return made_weight()


@pytest.fixture(scope="session")
def frequencies():
    counts = 1e4 / (1.0 + np.arange(2000)) ** 1.1
    return np.random.default_rng(1).permutation(counts)


@pytest.fixture
def embedding(weight):
    return torch.nn.Embedding.from_pretrained(torch.from_numpy(weight.copy()), freeze=False)
