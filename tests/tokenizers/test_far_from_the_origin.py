"""Vectors and codes that share a large offset: choices and losses are those at the origin."""

import pytest

pytest.importorskip("torch")

import torch

from annvq.tokenizers import Balanced, Entropy, GaussianMixtureVQ, Stochastic
from annvq.tokenizers.choosing.nearest import CodeSearch, nearest

OFFSET = 4096.0


@pytest.fixture
def grid():
    """Rows and codes that float32 holds exactly, here and at the offset."""
    torch.manual_seed(0)
    return tuple(torch.randint(-256, 257, (m, 8)) / 128 for m in (200, 40))


@pytest.mark.parametrize("choice", [Stochastic(0.05), Balanced(), Balanced(epsilon=0.01)])
def test_choices(grid, choice):
    rows, codes = grid
    found = []
    for offset in (0.0, OFFSET):
        torch.manual_seed(1)
        found.append(choice.choose(rows + offset, codes + offset, CodeSearch()))
    assert (found[0] == found[1]).float().mean() > 0.98


def test_nearest(grid):
    rows, codes = grid
    assert torch.equal(nearest(rows, codes), nearest(rows + OFFSET, codes + OFFSET))
    assert torch.equal(nearest(rows, codes), nearest(rows.double() + OFFSET, codes.double() + OFFSET))


def test_entropies_and_their_gradients(grid):
    found = []
    for offset in (0.0, OFFSET):
        rows, codes = ((one + offset).requires_grad_() for one in grid)
        loss = Entropy(temperature=0.1).of_codes(rows, codes)
        found.append((loss, *torch.autograd.grad(loss, (rows, codes))))
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-5)


def test_mixtures(grid):
    rows, means = grid
    found = []
    for offset in (0.0, OFFSET):
        torch.manual_seed(0)
        quantizer = GaussianMixtureVQ(8, 40).eval()
        with torch.no_grad():
            quantizer.parts[0].means.copy_(means + offset)
        made = quantizer(rows + offset)
        found.append(made.codes)
        found.append(made.stats["unlikelihood"])
    assert torch.equal(found[0], found[2])
    torch.testing.assert_close(found[1], found[3], rtol=1e-4, atol=1e-4)
