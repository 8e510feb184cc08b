"""VectorQuantizer and its parts against the formulas that define them."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from annvq.codebooks import KMeans
from annvq.errors import ParameterError
from annvq.tokenizers import (
    EMA,
    Balanced,
    Entropy,
    Gradient,
    KMeansStart,
    Learning,
    Nearest,
    Revival,
    Stochastic,
    VectorQuantizer,
    rotation_trick,
    straight_through,
)
from annvq.tokenizers.choosing.nearest import nearest


@pytest.fixture
def rows():
    return torch.from_numpy(np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32))


def quantizer_of(codes, **parts):
    made = VectorQuantizer(codes.shape[1], len(codes), Learning(**parts))
    made.set_codes(np.asarray(codes, np.float32))
    return made


def test_moving_averages_are_those_of_numpy(rows):
    codes = np.random.default_rng(1).normal(size=(9, 6)).astype(np.float32)
    quantizer = quantizer_of(codes, update=EMA(decay=0.8, epsilon=1e-3))
    counts, sums, expected = np.ones(9), codes.astype(np.float64), codes.astype(np.float64)
    for batch in rows.split(50):
        x = batch.double().numpy()
        labels = np.square(x[:, None] - expected).sum(2).argmin(1)
        assert quantizer(batch).codes.tolist() == labels.tolist()
        one_hot = np.eye(9)[labels]
        counts = 0.8 * counts + 0.2 * one_hot.sum(0)
        sums = 0.8 * sums + 0.2 * one_hot.T @ x
        smooth = (counts + 1e-3) / (counts.sum() + 9e-3) * counts.sum()
        expected = sums / smooth[:, None]
        np.testing.assert_allclose(quantizer.codebook.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_z_q_is_of_the_codes_before_they_move(rows):
    quantizer = quantizer_of(rows[:5], update=EMA(0.5))
    before = quantizer.codebook.clone()
    found = quantizer(rows)
    assert torch.equal(found.z_q, before[found.codes])
    assert not torch.equal(quantizer.codebook, before)


def test_losses_are_commitment_and_codebook(rows):
    z = rows.double().requires_grad_()
    quantizer = quantizer_of(rows[:5].numpy(), update=Gradient(0.5), commitment=2.0).double()
    found = quantizer(z)
    error = (z - quantizer.codebook[found.codes]).square().mean()
    assert found.loss.item() == pytest.approx(2.5 * error.item())
    of_z, of_codes = torch.autograd.grad(found.loss, (z, quantizer.codebook))
    torch.testing.assert_close(of_z, 2.0 * 2 * (z - found.z_q).detach() / z.numel())
    pulls = torch.zeros_like(quantizer.codebook).index_add_(0, found.codes, (found.z_q - z).detach())
    torch.testing.assert_close(of_codes, 0.5 * 2 * pulls / z.numel())


def test_losses_pass_gradcheck():
    torch.manual_seed(0)
    learning = Learning(update=Gradient(), entropy=Entropy(temperature=1.0))
    quantizer = VectorQuantizer(3, 4, learning, code_dim=2).double()
    z = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    weights = [quantizer.projection.inward.weight, quantizer.codebook]

    def loss(z, *parameters):  # stop-gradients lie between numbers and slopes: the sum of both sides has none
        x = quantizer.projection.down(z)
        error = (x - quantizer.codebook[quantizer.assign(z)]).square().mean()
        return error + quantizer.learning.entropy.of_codes(x, quantizer.codebook)

    assert torch.autograd.gradcheck(loss, (z, *weights))
    found = torch.autograd.grad(quantizer(z).loss, (quantizer.codebook,))
    torch.testing.assert_close(found, torch.autograd.grad(loss(z), (quantizer.codebook,)))


def test_straight_through_is_exact_and_passes_the_gradient():
    z, q = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3) * 1e-4
    slope = torch.randn(5, 3)
    found = straight_through(z, q)
    assert torch.equal(found, q)
    (gradient,) = torch.autograd.grad((found * slope).sum(), z)
    assert torch.equal(gradient, slope)


def rotation_of(z, q):
    """The paper's matrix: turns z's direction into q's, and scales."""
    a, b = z / np.linalg.norm(z), q / np.linalg.norm(q)
    middle = (a + b) / np.linalg.norm(a + b)
    turn = np.eye(len(z)) - 2 * np.outer(middle, middle) + 2 * np.outer(b, a)
    return np.linalg.norm(q) / np.linalg.norm(z) * turn


def test_the_rotation_trick_turns_gradients_back():
    rng = np.random.default_rng(0)
    z, q, slope = rng.normal(size=(3, 20, 5))
    given = torch.from_numpy(z).requires_grad_()
    found = rotation_trick(given, torch.from_numpy(q))
    assert torch.equal(found, torch.from_numpy(q))
    (gradient,) = torch.autograd.grad((found * torch.from_numpy(slope)).sum(), given)
    for row in range(20):
        matrix = rotation_of(z[row], q[row])
        np.testing.assert_allclose(matrix @ z[row], q[row])
        np.testing.assert_allclose(gradient[row], matrix.T @ slope[row], atol=1e-12)


def test_the_rotation_trick_without_a_direction():
    z = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    q = torch.tensor([[1.0, 2.0], [0.0, 0.0], [-2.0, 0.0]])
    (gradient,) = torch.autograd.grad(rotation_trick(z, q).sum(), z)
    assert torch.isfinite(gradient).all()
    assert torch.equal(gradient[:2], torch.ones(2, 2))


def test_stochastic_codes_come_as_often_as_the_softmax_says():
    torch.manual_seed(0)
    codes = torch.tensor([[0.0], [1.0], [3.0]])
    quantizer = quantizer_of(codes, update=Gradient(), choice=Stochastic(2.0))
    z = torch.full((20000, 1), 0.8)
    found = quantizer(z)
    expected = torch.softmax(-(0.8 - codes[:, 0]).square() / 2.0, 0)
    shares = torch.bincount(found.codes, minlength=3) / 20000
    torch.testing.assert_close(shares, expected, rtol=0, atol=0.015)
    assert found.z_q.mean().item() == pytest.approx((expected @ codes).item(), abs=0.04)
    assert (quantizer.eval()(z).codes == 1).all()


def test_balanced_codes_are_used_alike():
    torch.manual_seed(0)
    rows = torch.randn(256, 2) * 0.1
    codes = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    plain = quantizer_of(codes, update=Gradient(), choice=Nearest())(rows).codes
    balanced = quantizer_of(codes, update=Gradient(), choice=Balanced(0.01, 500))
    assert plain.unique().tolist() == [0]
    assert torch.bincount(balanced(rows).codes, minlength=4).min() >= 48
    assert balanced.eval()(rows).codes.unique().tolist() == [0]


@pytest.mark.parametrize("update", [EMA(0.9), Gradient()])
def test_dead_codes_are_revived_at_rows(update, rows):
    codes = torch.cat([rows[:3], torch.full((5, 6), 100.0)])
    quantizer = quantizer_of(codes, update=update, revival=Revival(share=0.5, decay=0.9))
    for _ in range(30):
        quantizer(rows)
    assert len(quantizer.eval()(rows).codes.unique()) == 8
    assert quantizer.codebook.abs().max() < 10


def test_without_revival_dead_codes_stay(rows):
    quantizer = quantizer_of(torch.cat([rows[:3], torch.full((5, 6), 100.0)]), update=EMA(0.9))
    for _ in range(30):
        quantizer(rows)
    assert len(quantizer.eval()(rows).codes.unique()) <= 3


def test_revived_codes_are_rows_and_the_living_stay(rows):
    quantizer = quantizer_of(torch.cat([rows[:2], torch.full((2, 6), 50.0)]), update=Gradient(), revival=Revival())
    quantizer.counts.copy_(torch.tensor([5.0, 5.0, 0.1, 0.0]))
    quantizer._prepare(rows)
    assert torch.equal(quantizer.codebook[:2], rows[:2])
    for code in quantizer.codebook[2:]:
        assert (rows == code).all(1).any()
    assert quantizer.counts.tolist() == pytest.approx([5.0, 5.0, 2.525, 2.525])


def test_codes_start_at_the_first_batchs_k_means(rows):
    quantizer = VectorQuantizer(6, 7, Learning(update=Gradient(), start=KMeansStart(niter=5, seed=3)))
    assert not quantizer.started
    quantizer.eval()(rows)
    assert not quantizer.started  # eval mode changes nothing
    quantizer.train()(rows)
    expected = KMeans.train(rows.numpy(), 7, niter=5, seed=3).centroids
    np.testing.assert_array_equal(quantizer.codebook.detach().numpy(), expected)
    before = quantizer.codebook.detach().clone()
    quantizer(rows * 2)
    assert torch.equal(quantizer.codebook, before)


def test_fewer_rows_than_codes_start_a_codebook(rows):
    quantizer = VectorQuantizer(6, 32, Learning(start=KMeansStart()))
    quantizer(rows[:0])
    assert not quantizer.started
    quantizer(rows[:5])
    quantizer.eval()
    assert (quantizer(rows[:5]).z_q - rows[:5]).abs().max() < 0.2


def test_cosine_codes_have_norm_one(rows):
    for update in (EMA(0.9), Gradient()):
        quantizer = quantizer_of(rows[:9] * 7, update=update, cosine=True)
        found = quantizer(rows)
        torch.testing.assert_close(found.z_q.norm(dim=1), torch.ones(200))
        unit = torch.nn.functional.normalize(rows[:9], dim=1)
        assert torch.equal(found.codes, (rows @ unit.T).argmax(1))
        assert torch.equal(found.codes, quantizer_of(rows[:9], update=update, cosine=True)(rows * 3).codes)


def test_the_entropy_loss_is_the_papers(rows):
    entropy = Entropy(weight=0.3, diversity=0.7, temperature=2.0)
    quantizer = quantizer_of(rows[:9].numpy(), update=Gradient(), commitment=0.0, entropy=entropy).double()
    p = torch.softmax(-torch.cdist(rows.double(), rows[:9].double()).square() / 2.0, 1)
    expected = 0.3 * (-(p * p.log()).sum(1).mean() + 0.7 * (p.mean(0) * p.mean(0).log()).sum())
    assert quantizer(rows.double()).stats["entropy"].item() == pytest.approx(expected.item(), abs=1e-6)


def test_a_k_means_codebook_comes_back(rows):
    codebook = KMeans.train(rows.numpy(), 8)
    quantizer = VectorQuantizer.from_codebook(codebook)
    back = quantizer.to_codebook()
    np.testing.assert_array_equal(back.centroids, codebook.centroids)
    np.testing.assert_array_equal(quantizer.encode(rows).numpy(), codebook.assign(rows.numpy())[0])
    with pytest.raises(ParameterError, match="projection"):
        VectorQuantizer(6, 8, code_dim=2).to_codebook()
    with pytest.raises(ParameterError, match="shape"):
        quantizer.set_codes(np.zeros((8, 5), np.float32))


def test_a_lower_code_dimension_is_between_linear_maps(rows):
    quantizer = VectorQuantizer(6, 8, code_dim=2).eval()
    found = quantizer(rows)
    down = quantizer.projection.inward(rows)
    assert torch.equal(found.codes, nearest(down, quantizer.codebook))
    torch.testing.assert_close(found.z_q, quantizer.projection.outward(quantizer.codebook[found.codes]))
    assert quantizer.bits_per_vector == 3


@pytest.mark.parametrize(
    "make",
    [
        lambda: EMA(1.0),
        lambda: EMA(0.0),
        lambda: EMA(epsilon=0),
        lambda: Gradient(0),
        lambda: Revival(0),
        lambda: Revival(decay=1.0),
        lambda: Stochastic(0),
        lambda: Balanced(-1),
        lambda: Balanced(0.001),
        lambda: Entropy(temperature=0),
        lambda: Entropy(diversity=-1),
        lambda: KMeansStart(0),
        lambda: Learning(update="ema"),
        lambda: Learning(commitment=-1),
        lambda: Learning(choice=None),
        lambda: Learning(estimator="straight-through"),
        lambda: Learning(revival=True),
        lambda: VectorQuantizer(0, 4),
        lambda: VectorQuantizer(4, 0),
        lambda: VectorQuantizer(4, 2.5),
        lambda: VectorQuantizer(4, 4, code_dim=0),
        lambda: VectorQuantizer(4, 4, "ema"),
        lambda: VectorQuantizer(4, 4, Learning(exact="no")),
        lambda: VectorQuantizer.from_codebook("codes"),
    ],
)
def test_bad_parameters_are_refused(make):
    with pytest.raises(ParameterError):
        make()
