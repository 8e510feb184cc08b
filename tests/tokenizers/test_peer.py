"""The same equations give the same numbers as vector-quantize-pytorch, where that is installed."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("vector_quantize_pytorch")

import torch
import vector_quantize_pytorch as peer

from annvq.tokenizers import EMA, FSQ, LFQ, Entropy, Gradient, Learning, ResidualVQ, VectorQuantizer


@pytest.fixture
def z():
    torch.manual_seed(0)
    return torch.randn(4, 30, 6)


def take_codes(theirs, ours):
    """Start both at the same codes."""
    book = theirs._codebook
    book.embed.data.copy_(ours.codebook.detach()[None])
    if getattr(book, "embed_avg", None) is not None:
        book.embed_avg.data.copy_(ours.codebook.detach()[None])


def test_moving_averages(z):
    ours = VectorQuantizer(6, 32, Learning(update=EMA(0.8, 1e-5), commitment=1.0))
    theirs = peer.VectorQuantize(6, codebook_size=32, decay=0.8, eps=1e-5, threshold_ema_dead_code=0)
    take_codes(theirs, ours)
    for step in range(5):
        batch = z * (1 + 0.1 * step)
        expected_q, expected_codes, expected_loss = theirs(batch)
        found = ours(batch)
        assert torch.equal(found.codes, expected_codes)
        torch.testing.assert_close(found.z_q, expected_q, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.loss, expected_loss.reshape(()), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(ours.codebook, theirs._codebook.embed[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.counts, theirs._codebook.cluster_size[0])


def test_many_codes_are_chosen_alike():
    torch.manual_seed(1)
    ours, rows = VectorQuantizer(64, 2048), torch.randn(2, 400, 64)
    theirs = peer.VectorQuantize(64, codebook_size=2048, threshold_ema_dead_code=0)
    take_codes(theirs, ours)
    assert torch.equal(ours(rows).codes, theirs(rows)[1])


def test_gradients_of_z_by_straight_through(z):
    ours = VectorQuantizer(6, 32, Learning(update=EMA(0.8), commitment=0.5))
    theirs = peer.VectorQuantize(6, codebook_size=32, decay=0.8, commitment_weight=0.5, rotation_trick=False)
    take_codes(theirs, ours)
    slope, slopes = torch.randn(z.shape), []
    for quantizer in (ours, theirs):
        given = z.clone().requires_grad_()
        z_q, _, loss = quantizer(given)[:3]
        slopes.append(torch.autograd.grad((z_q * slope).sum() + loss.sum(), given)[0])
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-6)


def test_stages(z):
    ours = ResidualVQ(6, 16, 3, Learning(update=EMA(0.8), commitment=1.0))
    theirs = peer.ResidualVQ(dim=6, codebook_size=16, num_quantizers=3, decay=0.8, threshold_ema_dead_code=0)
    for own, other in zip(theirs.layers, ours.stages):
        take_codes(own, other)
    for _ in range(3):
        expected_q, expected_codes, losses = theirs(z)
        found = ours(z)
        assert torch.equal(found.codes, expected_codes)
        torch.testing.assert_close(found.z_q, expected_q, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.loss, losses.sum(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("levels", [[8, 5, 5], [7, 4, 3], [3, 8, 16]])
def test_finite_scalars(levels, z):
    ours, theirs = FSQ(3, levels=levels), peer.FSQ(levels=levels, preserve_symmetry=False)
    given = z[..., :3]
    expected_q, expected_codes = theirs(given)
    found = ours(given)
    assert torch.equal(found.codes, expected_codes.long())
    torch.testing.assert_close(found.z_q, expected_q)
    torch.testing.assert_close(ours.decode(found.codes), theirs.indices_to_codes(expected_codes))


def test_lookup_free(z):
    entropy = Entropy(weight=0.1, diversity=0.7, temperature=1 / 2.0)
    ours = LFQ(6, 64, entropy=entropy, commitment=0.25, group=6)
    theirs = peer.LFQ(
        dim=6, codebook_size=64, entropy_loss_weight=0.1, diversity_gamma=0.7, commitment_loss_weight=0.25
    )
    expected_q, expected_codes, expected_loss = theirs(z, inv_temperature=2.0)
    found = ours(z)
    torch.testing.assert_close(found.z_q, expected_q)
    bits = theirs.indices_to_codes(expected_codes) > 0
    assert torch.equal(ours.decode(found.codes) > 0, bits)
    torch.testing.assert_close(found.loss, expected_loss, rtol=1e-4, atol=1e-5)


def test_a_learned_codebook_has_their_loss(z):
    ours = VectorQuantizer(6, 32, Learning(update=Gradient(1.0), commitment=0.25))
    found = ours(z)
    error = (z - found.z_q).square().mean()
    torch.testing.assert_close(found.loss, 1.25 * error)
