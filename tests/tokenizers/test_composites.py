"""Quantizers made of several: residual, grouped, product, factorized, low rank."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from annvq.errors import ParameterError
from annvq.tokenizers import (
    EMA,
    FactorizedVQ,
    Gradient,
    GroupedResidualVQ,
    KMeansStart,
    Learning,
    LowRankVQ,
    ProductVQ,
    ResidualVQ,
    rotation_trick,
)
from annvq.tokenizers.choosing.nearest import nearest

GRADIENT = Learning(update=Gradient())


@pytest.fixture
def rows():
    return torch.from_numpy(np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32))


def test_stages_quantize_what_is_left(rows):
    quantizer = ResidualVQ(6, 16, 3, GRADIENT)
    found = quantizer(rows)
    left = rows.double().numpy()
    for m, stage in enumerate(quantizer.stages):
        codes = stage.codebook.detach().double().numpy()
        labels = np.square(left[:, None] - codes).sum(2).argmin(1)
        assert found.codes[:, m].tolist() == labels.tolist()
        left = left - codes[labels]
    np.testing.assert_allclose(rows - found.z_q.detach(), left, atol=1e-5)


def test_more_stages_leave_less(rows):
    quantizer = ResidualVQ(6, 16, 4, Learning(update=EMA(0.8), start=KMeansStart()))
    for _ in range(20):
        quantizer(rows)
    codes = quantizer.eval().encode(rows)
    errors = []
    for stages in range(1, 5):
        part = codes.clone()
        part[:, stages:] = -1
        errors.append((quantizer.decode(part) - rows).square().mean().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.25 * errors[0]


@pytest.mark.parametrize("estimator", [None, rotation_trick])
def test_the_gradient_passes_the_sum_once(rows, estimator):
    learning = GRADIENT if estimator is None else Learning(update=Gradient(), estimator=estimator)
    z, quantizer = rows[:9].clone().requires_grad_(), ResidualVQ(6, 16, 3, learning)
    slope = torch.randn(9, 6)
    found = quantizer(z)
    (gradient,) = torch.autograd.grad((found.z_q * slope).sum(), z)
    expected = slope
    if estimator is not None:
        (expected,) = torch.autograd.grad((estimator(z, found.z_q) * slope).sum(), z)
    torch.testing.assert_close(gradient, expected)


def test_losses_of_stages_add_up(rows):
    quantizer = ResidualVQ(6, 16, 2, Learning(update=Gradient(), commitment=0.5))
    first = quantizer.stages[0](rows)
    second = quantizer.stages[1](rows - first.z_q)
    assert quantizer(rows).loss.item() == pytest.approx((first.loss + second.loss).item(), rel=1e-5)


def test_dropout_leaves_out_last_stages(rows):
    torch.manual_seed(0)
    quantizer = ResidualVQ(6, 16, 4, GRADIENT, quantizer_dropout=0.8)
    depths = []
    for _ in range(400):
        found = quantizer(rows[:5])
        kept = (found.codes >= 0).sum(1)
        assert (kept == kept[0]).all()
        assert (found.codes[:, : kept[0]] >= 0).all()
        torch.testing.assert_close(found.z_q, quantizer.decode(found.codes))
        depths.append(int(kept[0]))
    shares = np.bincount(depths, minlength=5)[1:] / 400
    np.testing.assert_allclose(shares, [0.2, 0.2, 0.2, 0.4], atol=0.07)
    assert (quantizer.eval()(rows).codes >= 0).all()


def test_projected_stages_learn_their_maps(rows):
    z, quantizer = rows.clone().requires_grad_(), ResidualVQ(6, 16, 2, GRADIENT, code_dim=2)
    quantizer(z).z_q.square().sum().backward()
    assert all(stage.projection.outward.weight.grad.abs().sum() > 0 for stage in quantizer.stages)
    assert z.grad.abs().sum() > 0


def test_groups_are_residual_quantizers_side_by_side(rows):
    quantizer = GroupedResidualVQ(6, 16, 2, 3, GRADIENT)
    found = quantizer(rows)
    for group, part in enumerate(quantizer.parts):
        own = part(rows[:, 2 * group : 2 * group + 2])
        assert torch.equal(found.codes[:, 2 * group : 2 * group + 2], own.codes)
        assert torch.equal(found.z_q[:, 2 * group : 2 * group + 2], own.z_q)
    assert quantizer.bits_per_vector == 24


def test_heads_share_a_codebook_or_do_not(rows):
    apart, shared = ProductVQ(6, 16, 3, GRADIENT), ProductVQ(6, 16, 3, GRADIENT, shared=True)
    assert len(apart.parts) == 3
    assert len(shared.parts) == 1
    for quantizer in (apart, shared):
        found = quantizer(rows)
        for head in range(3):
            codes = quantizer.parts[head % len(quantizer.parts)].codebook
            part = rows[:, 2 * head : 2 * head + 2]
            assert torch.equal(found.codes[:, head], nearest(part, codes))
    one = ProductVQ(6, 16, 1, shared=True)
    assert one(rows).codes.shape == (300, 1)


def test_factors_see_the_whole_vector(rows):
    quantizer = FactorizedVQ(6, 16, 2, GRADIENT, disentanglement=0.3)
    z = rows.clone().requires_grad_()
    found = quantizer(z)
    for head, (adapter, part) in enumerate(zip(quantizer.adapters, quantizer.parts)):
        assert torch.equal(found.codes[:, head], nearest(adapter(rows), part.codebook))
    one, other = found.z_q.chunk(2, 1)
    overlap = (one * other).sum(1).square().mean()
    assert found.stats["disentanglement"].item() == pytest.approx(overlap.item(), rel=1e-5)
    without = FactorizedVQ(6, 16, 2, GRADIENT, disentanglement=0.0)
    without.load_state_dict(quantizer.state_dict())
    assert (found.loss - without(rows).loss).item() == pytest.approx(0.3 * overlap.item(), rel=1e-4)


def test_disentanglement_pulls_factors_apart(rows):
    overlaps = {}
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        quantizer = FactorizedVQ(6, 16, 2, Learning(update=EMA(0.8)), disentanglement=weight)
        optimizer = torch.optim.Adam(quantizer.parameters(), 0.02)
        for _ in range(100):
            optimizer.zero_grad()
            quantizer(rows).loss.backward()
            optimizer.step()
        overlaps[weight] = quantizer.eval()(rows).stats["disentanglement"].item()
    assert overlaps[1.0] < 0.3 * overlaps[0.0] + 1e-6


def test_a_low_rank_codebook_finds_the_subspace():
    torch.manual_seed(0)
    plane = torch.linalg.qr(torch.randn(6, 2)).Q
    quantizer = LowRankVQ(6, 64, 2, Learning(update=EMA(0.9), start=KMeansStart()))
    optimizer = torch.optim.Adam(quantizer.parameters(), 0.03)
    for _ in range(300):
        optimizer.zero_grad()
        quantizer(torch.randn(256, 2) @ plane.T * 2 + 1.0).loss.backward()
        optimizer.step()
    basis = quantizer.basis().detach()
    torch.testing.assert_close(basis.T @ basis, torch.eye(2), rtol=0, atol=1e-5)
    assert torch.linalg.svdvals(plane.T @ basis).min() > 0.99
    z = torch.randn(500, 2) @ plane.T * 2 + 1.0
    found = quantizer.eval()(z)
    assert (found.z_q - z).square().mean() < 0.1 * z.var()
    whole = quantizer.decode(torch.arange(64))
    assert torch.linalg.matrix_rank(whole - whole.mean(0), atol=1e-3) == 2
    agreed = (nearest(z, whole.detach()) == found.codes).float().mean()
    assert agreed > 0.99  # nearest in the subspace is nearest in the whole


def test_a_low_rank_loss_passes_gradcheck():
    torch.manual_seed(0)
    quantizer = LowRankVQ(4, 8, 2, Learning(update=Gradient(), commitment=0.0)).double()
    z = torch.randn(5, 4, dtype=torch.float64)
    codes = quantizer.assign(z)

    def outside(directions, center):
        basis = torch.linalg.qr(directions).Q
        moved = z - center
        return (moved - moved @ basis @ basis.T).square().mean()

    inputs = quantizer.directions, quantizer.center
    assert torch.autograd.gradcheck(outside, inputs)
    found = torch.autograd.grad(quantizer(z).loss, inputs)
    torch.testing.assert_close(found, torch.autograd.grad(outside(*inputs), inputs))
    assert torch.equal(quantizer(z).codes, codes)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ProductVQ(6, 16, 4),
        lambda: ProductVQ(6, 16, 0),
        lambda: FactorizedVQ(6, 16, 5),
        lambda: FactorizedVQ(6, 16, 2, disentanglement=-1),
        lambda: GroupedResidualVQ(6, 16, 2, 4),
        lambda: GroupedResidualVQ(6, 16, 0, 2),
        lambda: ResidualVQ(6, 16, 0),
        lambda: ResidualVQ(6, 16, 2, quantizer_dropout=1.5),
        lambda: LowRankVQ(6, 16, 7),
        lambda: LowRankVQ(6, 16, 2, subspace=-1),
        lambda: LowRankVQ(6, 16, 2, "ema"),
        lambda: ResidualVQ(6, 16, 2, "ema"),
        lambda: ResidualVQ.from_codebook("codes"),
        lambda: ProductVQ.from_codebook("codes"),
    ],
)
def test_bad_parameters_are_refused(make):
    with pytest.raises(ParameterError):
        make()
