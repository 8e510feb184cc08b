"""SimVQ: codes through one linear layer."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from annvq.errors import ParameterError
from annvq.tokenizers import Gradient, Learning, SimVQ, VectorQuantizer
from annvq.tokenizers.choosing.nearest import nearest


def test_codes_are_the_basis_through_the_layer():
    torch.manual_seed(0)
    quantizer, z = SimVQ(5, 40), torch.randn(100, 5)
    codes = quantizer.basis @ quantizer.layer.weight.T + quantizer.layer.bias
    found = quantizer(z)
    assert torch.equal(found.codes, nearest(z, codes))
    torch.testing.assert_close(found.z_q, codes[found.codes])
    np.testing.assert_allclose(quantizer.to_codebook().centroids, codes.detach().numpy(), rtol=1e-6)
    np.testing.assert_array_equal(quantizer.to_codebook().assign(z.numpy())[0], found.codes.numpy())


def test_the_loss_passes_gradcheck():
    torch.manual_seed(0)
    quantizer = SimVQ(3, 10, commitment=0.5).double()
    z = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    codes = quantizer.assign(z)

    def error(z, weight):
        return (z - quantizer.basis[codes] @ weight.T - quantizer.layer.bias).square().mean()

    assert torch.autograd.gradcheck(error, (z, quantizer.layer.weight))
    found = torch.autograd.grad(quantizer(z).loss, (z, quantizer.layer.weight))
    expected = torch.autograd.grad(error(z, quantizer.layer.weight), (z, quantizer.layer.weight))
    torch.testing.assert_close(found[0], 0.5 * expected[0])
    torch.testing.assert_close(found[1], expected[1])


def used_after_training(quantizer, steps=150):
    """Return the share of codes used, after following vectors far from where the codes started."""
    torch.manual_seed(0)
    mix = torch.randn(4, 4) * 3
    optimizer = torch.optim.Adam([p for p in quantizer.parameters() if p.requires_grad], 0.03)
    for _ in range(steps):
        optimizer.zero_grad()
        quantizer(torch.randn(256, 4) @ mix).loss.backward()
        optimizer.step()
    return quantizer.eval()(torch.randn(20000, 4) @ mix).stats["utilization"].item()


def test_no_code_is_left_behind():
    torch.manual_seed(1)
    plain = used_after_training(VectorQuantizer(4, 500, Learning(update=Gradient())))
    sim = used_after_training(SimVQ(4, 500))
    assert sim > 0.9
    assert sim > plain


def test_codes_start_spread_as_vectors_are():
    torch.manual_seed(0)
    mix, mean = torch.randn(5, 5), torch.tensor([3.0, 0.0, -2.0, 0.0, 100.0])
    z = torch.randn(4000, 5) @ mix + mean
    quantizer = SimVQ(5, 4000, start=True)
    before = quantizer.layer.weight.detach().clone()
    quantizer.eval()(z)
    quantizer.train()(z[:5])
    quantizer(z[:1].expand(100, 5))
    assert torch.equal(quantizer.layer.weight, before)  # eval mode, too few and equal vectors start nothing
    found = quantizer(z)
    codes = torch.tensor(quantizer.to_codebook().centroids)
    torch.testing.assert_close(codes.mean(0), z.mean(0), rtol=0, atol=0.2)
    torch.testing.assert_close(codes.T.cov(), z.T.cov(), rtol=0.1, atol=0.2)
    found.loss.backward()
    assert quantizer.layer.weight.grad.abs().sum() > 0
    other = SimVQ(5, 4000, start=True)
    other.load_state_dict(quantizer.state_dict())
    assert torch.equal(other(z * 2).codes, quantizer(z * 2).codes)  # it has started, and does not again
    assert SimVQ(5, 4000)(z).stats["utilization"] < 0.1 * found.stats["utilization"]


def test_bad_parameters_are_refused():
    for bad in ({"commitment": -1}, {"estimator": "rotation"}, {"exact": 1}, {"start": 1}):
        with pytest.raises(ParameterError):
            SimVQ(4, 8, **bad)


def test_a_batch_of_one_vector_starts_nothing():
    quantizer = SimVQ(5, 64, start=True)
    quantizer(torch.randn(1, 5, dtype=torch.float64).expand(60, 5) * 10)
    assert not quantizer.started


def test_state_passes_between_quantizers_that_start_and_those_that_do_not():
    plain, other = SimVQ(8, 16), SimVQ(8, 16, start=True)
    other(torch.randn(50, 8))
    plain.load_state_dict(other.state_dict())
    vectors = torch.randn(20, 8)
    assert torch.equal(plain(vectors).codes, other.eval()(vectors).codes)
