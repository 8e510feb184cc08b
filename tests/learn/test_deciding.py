"""Choices under matrix products that round every column otherwise: they follow from the numbers alone."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from annvq.codebooks import ProductCodebook
from annvq.learn.codes import deciding
from annvq.learn.codes.deciding import largest_logit, least_distance, tree_sum
from annvq.learn.parts.mirrors import ProductMirror

DTYPES = [torch.float32, torch.float64]


@pytest.fixture(params=range(3))
def rounding(request, monkeypatch):
    """Let every product be off by what any order of summation may be off: as if of another library, or machine."""
    plain, generator = torch.baddbmm, torch.Generator().manual_seed(request.param)

    def rounded(bias, rows, weights):
        sizes = plain(bias.abs(), rows.abs(), weights.abs())
        noise = torch.rand(sizes.shape, generator=generator, dtype=sizes.dtype) * 2 - 1
        units = rows.shape[2] * torch.finfo(rows.dtype).eps / 2
        return plain(bias, rows, weights) + noise * units * sizes

    monkeypatch.setattr(torch, "baddbmm", rounded)
    monkeypatch.setattr(deciding, "_BLOCK", (64, 900, 1 << 20)[request.param])
    return request.param


def numbers(seed, dtype, *shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).to(dtype)


def by_pairs(rows, codes):
    return tree_sum((rows[:, None] - codes[None]).square()).argmin(1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "k", "d"), [(1, 1, 1), (7, 16, 3), (33, 130, 7), (20, 257, 16), (5, 64, 33)])
@pytest.mark.parametrize(("offset", "spread"), [(0, 1), (1e3, 1), (1e6, 1), (1e3, 1e-3)])
def test_the_nearest_is_that_of_differences(rounding, dtype, n, k, d, offset, spread):
    rows, codes = (numbers(seed, dtype, m, d) * spread + offset for seed, m in ((1, n), (2, k)))
    codes = torch.cat([codes, codes.flip(0)])  # every code twice, in other blocks
    found = least_distance(rows, codes)
    assert torch.equal(found, by_pairs(rows, codes))
    assert torch.equal(least_distance(codes, codes), by_pairs(codes, codes))
    assert torch.equal(least_distance(rows[:1], codes), found[:1])  # whatever else is in the batch


@pytest.mark.parametrize("dtype", DTYPES)
def test_codes_of_two_places_far_apart_are_told_apart(rounding, dtype):
    codes = numbers(0, dtype, 40, 5)
    codes[::2] += 1e3
    codes[1::2] -= 1e3
    assert torch.equal(least_distance(codes + 1e-3, codes), torch.arange(40))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_lowest_of_equal_logits(rounding, dtype):
    rows, weights, bias = numbers(1, dtype, 31, 6), numbers(2, dtype, 50, 6) + 7, numbers(3, dtype, 50)
    expected = (tree_sum(rows[:, None] * weights) + bias).argmax(1)
    for order in (torch.arange(50), torch.randperm(50, generator=torch.Generator().manual_seed(0))):
        found = largest_logit(rows, torch.cat([weights[order], weights]), torch.cat([bias[order], bias]))
        assert torch.equal(torch.cat([order, torch.arange(50)])[found], expected)
        assert found.max() < 50
    assert torch.equal(largest_logit(rows, weights[:1].expand(80, -1)), torch.zeros(31, dtype=torch.int64))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1.0, 1e15])
def test_numbers_of_any_size(rounding, dtype, scale):
    codes = torch.tensor([[3.0, 1.0], [2.0, 1.0], [2.0, 1.0], [-4.0, 0.5]], dtype=dtype) * scale
    expected = [0, 1, 1, 3] if scale > 1e-20 or dtype == torch.float64 else by_pairs(codes, codes).tolist()
    assert least_distance(codes, codes).tolist() == expected


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_mirrors_choose_the_lowest_of_equal_centroids(rounding, dtype):
    vectors = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)
    codebook = ProductCodebook.train(vectors, M=4, nbits=4, niter=2)
    mirror = ProductMirror(codebook)
    with torch.no_grad():
        mirror.codebooks[:, 8:] = mirror.codebooks[:, :8].flip(1)
    mirror = mirror.to(dtype)
    found = mirror.nearest(torch.from_numpy(vectors).to(dtype))
    assert found.shape == (64, 4)
    assert found.max() < 8


def test_products_in_fewer_digits_only_propose(monkeypatch):
    """As where float32 may be multiplied in bfloat16 (`torch.set_float32_matmul_precision`)."""
    plain = torch.baddbmm
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    monkeypatch.setattr(torch, "baddbmm", lambda bias, *of: plain(bias, *(one.bfloat16().float() for one in of)))
    rows, codes = numbers(1, torch.float32, 60, 24), numbers(2, torch.float32, 300, 24)
    assert torch.equal(least_distance(rows, codes), by_pairs(rows, codes))


@pytest.mark.parametrize("d", [1, 2, 3, 7, 64, 65])
def test_sums_by_halves(d):
    values = numbers(d, torch.float64, 5, d)
    torch.testing.assert_close(tree_sum(values), values.sum(1))
