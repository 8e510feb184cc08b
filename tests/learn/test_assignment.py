"""Soft, straight-through and balanced assignment against what defines them."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from annvq.errors import NonFiniteError, ParameterError
from annvq.learn.codes.assignment import hardened, sinkhorn, soft


def plain_sinkhorn(distances, epsilon, iterations):
    """Sinkhorn's scaling in float64, one sub-space."""
    spread = distances.max() - distances.min()
    plan = np.exp(-(distances - distances.min()) / (spread * epsilon))
    for _ in range(iterations):
        plan /= plan.sum(0, keepdims=True)
        plan /= plan.sum(1, keepdims=True)
    return plan


@pytest.fixture
def distances():
    return torch.from_numpy(np.random.default_rng(0).random((64, 3, 16))).double()


def test_sinkhorn_agrees_with_plain_scaling(distances):
    plan = sinkhorn(distances, 0.2, 50).numpy()
    for m in range(3):
        np.testing.assert_allclose(plan[:, m], plain_sinkhorn(distances[:, m].numpy(), 0.2, 50), rtol=1e-4)


@pytest.mark.parametrize("epsilon", [0.5, 0.05])
def test_rows_sum_to_one_and_columns_are_alike(distances, epsilon):
    plan = sinkhorn(distances, epsilon, 300).numpy()
    np.testing.assert_allclose(plan.sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(plan.sum(0), 64 / 16, rtol=1e-2)


def test_balanced_assignment_uses_what_nearest_leaves():
    rng = np.random.default_rng(1)
    crowd = torch.from_numpy(rng.normal(size=(256, 2)) * 0.1)  # all near the first of four centroids
    centroids = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    distances = torch.cdist(crowd, centroids).square()
    assert set(distances.argmin(1).tolist()) == {0}
    counts = np.bincount(sinkhorn(distances, 0.01, 500).argmax(1).numpy(), minlength=4)
    assert counts.min() >= 48
    assert counts.max() <= 80


def test_a_small_epsilon_does_not_underflow(distances):
    plan = sinkhorn(distances.float(), 0.002, 50)
    assert torch.isfinite(plan).all()
    np.testing.assert_allclose(plan.sum(-1).numpy(), 1, rtol=1e-4)


def test_equal_distances_make_an_even_plan():
    np.testing.assert_allclose(sinkhorn(torch.zeros(8, 4)).numpy(), 0.25)


def test_bad_input_is_refused(distances):
    with pytest.raises(ParameterError, match="epsilon"):
        sinkhorn(distances, 0.0)
    with pytest.raises(ParameterError, match="iterations"):
        sinkhorn(distances, 0.1, 0)
    with pytest.raises(NonFiniteError):
        sinkhorn(torch.tensor([[float("nan"), 1.0]]))
    with pytest.raises(ParameterError, match="temperature"):
        soft(distances, 0.0)


def test_hardened_weights_are_hard_forward_and_soft_backward(distances):
    given = distances.clone().requires_grad_()
    weights = soft(given, 0.1)
    hard = hardened(weights, weights.argmax(-1))
    picked = hard.detach().numpy()
    np.testing.assert_array_equal(picked.argmax(-1), distances.numpy().argmin(-1))
    np.testing.assert_allclose(np.sort(picked, -1)[..., -1], 1, atol=1e-12)
    slope = torch.from_numpy(np.random.default_rng(2).normal(size=weights.shape))
    (through,) = torch.autograd.grad((hard * slope).sum(), given, retain_graph=True)
    (expected,) = torch.autograd.grad((weights * slope).sum(), given)
    np.testing.assert_allclose(through.numpy(), expected.numpy())
