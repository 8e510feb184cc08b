"""IBQ and Gaussian mixtures against dense formulas, and their draws against probabilities."""

import math

import pytest

pytest.importorskip("torch")

import torch

from annvq.errors import ParameterError
from annvq.tokenizers import IBQ, Entropy, GaussianMixtureVQ


@pytest.fixture
def z():
    torch.manual_seed(0)
    return torch.randn(20, 4, dtype=torch.float64, requires_grad=True)


def test_index_backpropagation_is_the_dense_formula(z):
    entropy = Entropy(weight=0.2, temperature=0.5)
    quantizer = IBQ(4, 11, temperature=0.7, commitment=0.3, entropy=entropy).double()
    codebook = quantizer.codebook
    found = quantizer(z)
    logits = z @ codebook.T / 0.7
    soft = logits.softmax(1)
    one_hot = torch.nn.functional.one_hot(logits.argmax(1), 11) + soft - soft.detach()
    q = one_hot @ codebook
    p = (z @ codebook.T / 0.5).softmax(1)
    shares = p.mean(0)
    spread = -(p * p.log()).sum(1).mean() + (shares * shares.log()).sum()
    loss = (z.detach() - q).square().mean() + 0.3 * (z - q.detach()).square().mean() + 0.2 * spread
    assert torch.equal(found.codes, logits.argmax(1))
    torch.testing.assert_close(found.loss, loss)
    slope = torch.randn(20, 4, dtype=torch.float64)
    mine, dense = (found.z_q * slope).sum() + found.loss, (q * slope).sum() + loss
    ours = torch.autograd.grad(mine, (z, codebook))
    torch.testing.assert_close(ours, torch.autograd.grad(dense, (z, codebook)))
    assert (ours[1].abs().sum(1) > 0).all()  # every code is moved


def test_gumbel_draws_come_as_often_as_the_softmax_says():
    torch.manual_seed(0)
    quantizer, z = IBQ(2, 5, temperature=0.5, gumbel=True), torch.tensor([[0.7, -0.4]])
    found = quantizer(z.repeat(20000, 1))
    expected = (z @ quantizer.codebook.T / 0.5).softmax(1)[0]
    shares = torch.bincount(found.codes, minlength=5) / 20000
    torch.testing.assert_close(shares, expected, rtol=0, atol=0.015)
    torch.testing.assert_close(found.z_q.mean(0), expected @ quantizer.codebook, rtol=0, atol=0.03)


def mixture_of(quantizer, z):
    """Return log prior + log density (n, k) by torch's own distributions."""
    (part,) = quantizer.parts
    deviations = (part.log_variances.exp() + 1e-4).sqrt()
    normal = torch.distributions.Normal(part.means, deviations[:, None])
    return normal.log_prob(z[:, None]).sum(2) + part.priors.log_softmax(0)


@pytest.fixture
def mixture():
    torch.manual_seed(1)
    quantizer = GaussianMixtureVQ(4, 6, likelihood=0.5, commitment=0.25).double()
    with torch.no_grad():
        for parameter in quantizer.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return quantizer


def test_the_mixture_is_gaussian(mixture, z):
    joint = mixture_of(mixture, z.detach())
    found = mixture.eval()(z)
    assert torch.equal(found.codes[:, 0], joint.argmax(1))
    unlikely = -joint.logsumexp(1).mean() / 4
    assert found.stats["unlikelihood"].item() == pytest.approx(unlikely.item())
    parameters = list(mixture.parameters())
    mine = torch.autograd.grad(found.loss, (*parameters, z))
    commitment = (z - found.z_q.detach()).square().mean()
    dense = torch.autograd.grad(0.5 * unlikely + 0.25 * commitment, (*parameters, z))
    torch.testing.assert_close(mine, dense)


def test_components_are_drawn_from_the_posterior(mixture, z):
    torch.manual_seed(0)
    one = z.detach()[:1]
    found = mixture.train()(one.repeat(20000, 1))
    posterior = mixture_of(mixture, one).softmax(1)[0].detach()
    shares = torch.bincount(found.codes[:, 0], minlength=6) / 20000
    torch.testing.assert_close(shares.double(), posterior, rtol=0, atol=0.015)


def test_a_mixture_finds_clusters():
    torch.manual_seed(0)
    centres = torch.tensor([[4.0, 0.0], [-4.0, 0.0], [0.0, 4.0], [0.0, -4.0]])
    quantizer = GaussianMixtureVQ(2, 4)
    optimizer = torch.optim.Adam(quantizer.parameters(), 0.05)
    for _ in range(400):
        optimizer.zero_grad()
        quantizer(centres[torch.randint(4, (128,))] + 0.3 * torch.randn(128, 2)).loss.backward()
        optimizer.step()
    (part,) = quantizer.parts
    assert torch.cdist(centres, part.means).min(1).values.max() < 0.3
    assert (part.log_variances.exp().sqrt() - 0.3).abs().max() < 0.15
    assert quantizer.bits_per_vector == math.log2(4)


@pytest.mark.parametrize(
    "make",
    [
        lambda: IBQ(4, 8, temperature=0),
        lambda: IBQ(4, 8, commitment=-1),
        lambda: IBQ(4, 8, entropy=0.1),
        lambda: IBQ(4, 8, exact="no"),
        lambda: GaussianMixtureVQ(4, 8, 3),
        lambda: GaussianMixtureVQ(4, 8, temperature=0),
        lambda: GaussianMixtureVQ(4, 8, likelihood=-1),
    ],
)
def test_bad_parameters_are_refused(make):
    with pytest.raises(ParameterError):
        make()
