"""FSQ, LFQ, BSQ, Bernoulli codes and latent quantization against their formulas."""

import math

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from annvq.errors import ParameterError
from annvq.tokenizers import BSQ, FSQ, LFQ, BinaryQuantizer, Entropy, LatentQuantizer
from annvq.tokenizers.codes.bits import bit_entropies, bits_of_number, number_of


@pytest.fixture
def rows():
    return torch.from_numpy(np.random.default_rng(0).normal(size=(500, 4)) * 2)


def test_fsq_has_its_levels_and_no_others(rows):
    levels = [8, 5, 3, 4]
    quantizer = FSQ(4, levels=levels)
    assert quantizer.codebook_size == 480
    z_q, codes, loss, _ = quantizer(rows)
    assert loss == 0
    for column, level in zip(z_q.T, levels):
        expected = (torch.arange(level, dtype=torch.float64) - level // 2) / (level // 2)
        assert column.unique().tolist() == expected.tolist()  # all are reached
    every = quantizer.decode(torch.arange(480))
    assert len(every.unique(dim=0)) == 480
    torch.testing.assert_close(every[codes].double(), z_q)
    numbers = sum((z_q[:, i] * (levels[i] // 2) + levels[i] // 2).long() * math.prod(levels[:i]) for i in range(4))
    assert torch.equal(numbers, codes)


def test_fsq_rounds_to_the_nearest_level(rows):
    quantizer = FSQ(4, levels=[8, 5, 3, 4])
    bounded = quantizer.bound(rows)
    whole = quantizer(rows).z_q * torch.tensor([4, 2, 1, 2])
    assert (whole - bounded).abs().max() <= 0.5 + 1e-9
    assert (bounded.amax(0) - bounded.amin(0) < torch.tensor([8, 5, 3, 4])).all()


def test_fsqs_gradient_is_that_of_the_bound(rows):
    quantizer = FSQ(4, levels=[8, 5, 3, 4])
    z = rows[:20].clone().requires_grad_()
    assert torch.autograd.gradcheck(quantizer.bound, z)
    slope = torch.randn(20, 4, dtype=torch.float64)
    (found,) = torch.autograd.grad((quantizer(z).z_q * slope).sum(), z)
    (expected,) = torch.autograd.grad((quantizer.bound(z) / torch.tensor([4, 2, 1, 2]) * slope).sum(), z)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("size", "levels"), [(256, (8, 8, 4)), (1024, (8, 8, 4, 4)), (1000, (5, 5, 5, 8)), (7, (7,)), (60, (5, 4, 3))]
)
def test_fsq_finds_levels_of_a_product(size, levels):
    assert sorted(FSQ(3, size).levels) == sorted(levels)
    assert FSQ(3, size).codebook_size == size


@pytest.mark.parametrize("arguments", [{}, {"codebook_size": 11}, {"levels": []}, {"levels": [2, 3]}, {"levels": 5}])
def test_fsq_refuses_what_has_no_levels(arguments):
    with pytest.raises(ParameterError):
        FSQ(4, **arguments)
    with pytest.raises(ParameterError, match="make 12 codes"):
        FSQ(4, 8, levels=[4, 3])


def test_bits_and_numbers():
    codes = torch.tensor([0, 5, (1 << 62) - 1])
    bits = bits_of_number(codes, 62)
    assert bits[1, :4].tolist() == [True, False, True, False]
    assert torch.equal(number_of(bits), codes)


@pytest.mark.parametrize("make", [LFQ, BSQ, BinaryQuantizer])
def test_sizes_are_powers_of_two(make):
    for size in (1, 3, 1 << 63, 8.0):
        with pytest.raises(ParameterError):
            make(4, size)


@pytest.mark.parametrize(("make", "corner"), [(LFQ, 1.0), (BSQ, 0.5)])
def test_signs_are_the_code(make, corner, rows):
    rows[0] = 0  # counts as negative
    z_q, codes, _, _ = make(4, 16)(rows.clone().requires_grad_())
    expected = np.where(rows.numpy() > 0, corner, -corner)
    np.testing.assert_array_equal(z_q.detach().numpy(), expected)
    np.testing.assert_array_equal(codes, ((rows > 0).long() * torch.tensor([1, 2, 4, 8])).sum(1))


@pytest.mark.parametrize(("make", "unit"), [(LFQ, False), (BSQ, True)])
@pytest.mark.parametrize("group", [4, 1, 3])
def test_entropies_are_those_of_all_corners(make, unit, group, rows):
    entropy = Entropy(weight=1.0, diversity=0.5, temperature=1.3)
    quantizer = make(4, 16, entropy=entropy, commitment=0.0, group=group)
    z = rows.clone().requires_grad_()
    found = quantizer(z)
    x = torch.nn.functional.normalize(z, dim=1) if unit else z
    corners = quantizer.lookup(torch.arange(16)).double()
    p = torch.softmax(-torch.cdist(x, corners).square() / 1.3, 1)
    rows_entropy = -(p * p.log()).sum(1).mean()
    bits = bits_of_number(torch.arange(16), 4)
    mean_entropy = 0.0
    for part in torch.arange(4).split(group):  # the marginal distribution of each group of bits
        names = (bits[:, part].long() << torch.arange(len(part))).sum(1)
        shares = torch.zeros(1 << len(part), dtype=torch.float64).index_add(0, names, p.mean(0))
        mean_entropy = mean_entropy - (shares * shares.log()).sum()
    expected = rows_entropy - 0.5 * mean_entropy
    torch.testing.assert_close(found.loss, expected, rtol=1e-5, atol=1e-6)
    slopes = torch.autograd.grad(found.loss, z)[0], torch.autograd.grad(expected, z)[0]
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-7)


def test_bit_entropies_pass_gradcheck():
    torch.manual_seed(0)
    logits = torch.randn(5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda logits: bit_entropies(logits, 2), logits)


def test_bernoulli_bits_are_right_in_expectation(rows):
    torch.manual_seed(0)
    z = rows[:6].clone().requires_grad_()
    quantizer = BinaryQuantizer(4, 16)
    repeated = z.repeat(8000, 1)
    found = quantizer(repeated)
    bits = found.z_q.reshape(8000, 6, 4)
    assert set(bits.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(bits.mean(0), z.sigmoid(), rtol=0, atol=0.03)
    weights = torch.randn(4, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((found.z_q @ weights).sum() / 8000, z)
    (expected,) = torch.autograd.grad((z.sigmoid() @ weights).sum(), z)
    torch.testing.assert_close(gradient, expected)  # of the expectation, exactly
    certain = quantizer.eval()(z)
    assert torch.equal(certain.z_q.bool(), z > 0)


def test_latent_values_are_the_nearest_and_ties_the_first():
    quantizer = LatentQuantizer(2, 5)
    with torch.no_grad():
        quantizer.values.copy_(torch.tensor([[0.0, 1.0, 2.0, 3.0, 1.0], [5.0, -5.0, 0.0, 0.0, 9.0]]))
    z = torch.tensor([[0.5, 0.0], [1.1, -7.0], [2.6, 8.0]], requires_grad=True)
    z_q, codes, _, _ = quantizer(z)
    assert codes.tolist() == [[0, 2], [1, 1], [3, 4]]
    assert z_q.tolist() == [[0.0, 0.0], [1.0, -5.0], [3.0, 9.0]]
    assert quantizer.bits_per_vector == pytest.approx(2 * math.log2(5))


def test_latent_values_follow_their_numbers():
    quantizer = LatentQuantizer(3, 4, quantization=2.0, commitment=0.5).double()
    z = torch.randn(10, 3, dtype=torch.float64, requires_grad=True)
    z_q, codes, loss, _ = quantizer(z)
    assert loss.item() == pytest.approx(2.5 * (z - z_q).square().mean().item())
    of_z, of_values = torch.autograd.grad(loss, (z, quantizer.values))
    torch.testing.assert_close(of_z, 0.5 * 2 * (z - z_q).detach() / 30)
    expected = torch.zeros(3, 4, dtype=torch.float64)
    for i in range(3):
        expected[i].index_add_(0, codes[:, i], 2.0 * 2 * (z_q - z).detach()[:, i] / 30)
    torch.testing.assert_close(of_values, expected)
