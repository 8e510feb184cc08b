"""Two levels: means of windows, and what they leave."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from annvq.errors import NonFiniteError, ParameterError, ShapeError
from annvq.tokenizers import EMA, Gradient, HierarchicalVQ, KMeansStart, Learning
from annvq.tokenizers.choosing.nearest import nearest

GRADIENT = Learning(update=Gradient())


@pytest.fixture
def z():
    torch.manual_seed(0)
    return torch.randn(2, 5, 4, 3)


def plain(quantizer, z, mask):
    """The two levels, place by place."""
    top, bottom = quantizer.top.codebook.detach(), quantizer.bottom.codebook.detach()
    codes, z_q = torch.full((*z.shape[:-1], 2), -1), torch.zeros_like(z)
    for image in range(len(z)):
        for y in range(0, z.shape[1], 2):
            for x in range(0, z.shape[2], 2):
                window = (image, slice(y, y + 2), slice(x, x + 2))
                there = mask[window]
                if not there.any():
                    continue
                code = nearest(z[window][there].mean(0)[None], top)
                left = z[window][there] - top[code]
                below = nearest(left, bottom)
                codes[window] = torch.where(there[..., None], codes[window].clamp_min(0), -1)
                codes[window][there] = torch.stack([code.expand(len(below)), below], 1)
                z_q[window][there] = top[code] + bottom[below]
    return codes, z_q


@pytest.mark.parametrize("masked", [False, True])
def test_levels_are_means_and_what_they_leave(z, masked):
    quantizer = HierarchicalVQ(3, 8, GRADIENT)
    mask = torch.ones(2, 5, 4, dtype=torch.bool)
    if masked:
        mask[0, 3:] = False
        mask[1, 0, 1] = False
    codes, z_q = plain(quantizer, z, mask)
    spoilt = torch.where(mask[..., None], z, torch.nan)
    found = quantizer(spoilt, mask) if masked else quantizer(z)
    assert torch.equal(found.codes, codes)
    torch.testing.assert_close(found.z_q, z_q)
    assert torch.equal(quantizer.encode(spoilt, mask), codes)
    torch.testing.assert_close(quantizer.eval().decode(codes), z_q)


def test_any_number_of_axes():
    for axes in (1, 3):
        quantizer = HierarchicalVQ(3, 8, GRADIENT, axes=axes, factor=3).eval()
        z = torch.randn(2, *(5, 3, 4)[:axes], 3)
        found = quantizer(z)
        assert found.codes.shape == (*z.shape[:-1], 2)
        torch.testing.assert_close(quantizer.decode(found.codes), found.z_q)
        assert (found.codes[:, 0, ..., 0] == found.codes[:, 2, ..., 0]).all()  # of one window
        assert quantizer.bits_per_vector == pytest.approx(3 * (1 + 1 / 3**axes))


def test_the_gradient_passes_once_and_codes_learn(z):
    quantizer = HierarchicalVQ(3, 8, GRADIENT)
    z = z.requires_grad_()
    slope = torch.randn(z.shape)
    found = quantizer(z)
    (gradient,) = torch.autograd.grad((found.z_q * slope).sum(), z, retain_graph=True)
    assert torch.equal(gradient, slope)
    found.loss.backward()
    assert all(level.codebook.grad.abs().sum() > 0 for level in (quantizer.top, quantizer.bottom))


def test_training_lowers_the_error(z):
    quantizer = HierarchicalVQ(3, 16, Learning(update=EMA(0.8), start=KMeansStart()))
    smooth = z.mean((1, 2), keepdim=True) * 5 + z
    for _ in range(10):
        quantizer(smooth)
    assert (quantizer.eval()(smooth).z_q - smooth).square().mean() < 0.3 * smooth.var()


def test_nothing_and_bad_input(z):
    quantizer = HierarchicalVQ(3, 8)
    assert quantizer(z[:0]).codes.shape == (0, 5, 4, 2)
    none = quantizer(z, torch.zeros(2, 5, 4, dtype=torch.bool))
    assert (none.codes == -1).all()
    assert none.loss == 0
    with pytest.raises(ShapeError, match="2 axes"):
        quantizer(z[:, 0])
    with pytest.raises(NonFiniteError):
        quantizer(z * np.nan)
    with pytest.raises(ParameterError):
        HierarchicalVQ(3, 8, factor=1)
