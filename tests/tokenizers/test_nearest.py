"""The nearest code against float64 NumPy, with ties and odd sizes; the approximate search against it."""

import copy

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from annvq.learn.codes import deciding
from annvq.tokenizers import Learning, VectorQuantizer
from annvq.tokenizers.choosing import nearest
from annvq.tokenizers.choosing.approximate import ApproximateCodes
from annvq.tokenizers.choosing.nearest import CodeSearch


def distances(rows, codes):
    rows, codes = rows.astype(np.float64), codes.astype(np.float64)
    return np.square(rows[:, None] - codes[None]).sum(2)


@pytest.mark.parametrize(("n", "k", "d"), [(1, 1, 1), (17, 5, 3), (33, 130, 7), (64, 257, 16), (5, 1000, 33)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nearest_is_that_of_float64(n, k, d, dtype, monkeypatch):
    monkeypatch.setattr(deciding, "_BLOCK", 500)
    rng = np.random.default_rng(n * k)
    rows, codes = rng.normal(size=(n, d)).astype(np.float32), rng.normal(size=(k, d)).astype(np.float32)
    rows += 100  # far from the origin, where squares would eat the digits
    codes += 100
    found = nearest.nearest(torch.from_numpy(rows).to(dtype), torch.from_numpy(codes).to(dtype)).numpy()
    plain = distances(rows, codes)
    chosen = plain[np.arange(n), found]
    np.testing.assert_allclose(chosen, plain.min(1), rtol=1e-4)
    products = nearest.nearest(torch.from_numpy(rows - 100).to(dtype), torch.from_numpy(codes - 100).to(dtype), "ip")
    inner = (rows - 100).astype(np.float64) @ (codes - 100).T
    np.testing.assert_allclose(inner[np.arange(n), products.numpy()], inner.max(1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("copies", [2, 5])
def test_equal_distances_go_to_the_lowest_code(copies, dtype, monkeypatch):
    monkeypatch.setattr(deciding, "_BLOCK", 100)
    rng = np.random.default_rng(0)
    codes = rng.integers(-3, 4, (41, 6)).astype(np.float32)  # exact in any order of summation
    rows = rng.integers(-3, 4, (53, 6)).astype(np.float32)
    repeated = torch.from_numpy(np.concatenate([codes] * copies)).to(dtype)
    found = nearest.nearest(torch.from_numpy(rows).to(dtype), repeated).numpy()
    np.testing.assert_array_equal(distances(rows, codes)[np.arange(53), found], distances(rows, codes).min(1))
    assert found.max() < 41
    same = nearest.nearest(torch.from_numpy(codes).to(dtype), repeated).numpy()
    first = [int(np.flatnonzero((codes == code).all(1))[0]) for code in codes]
    np.testing.assert_array_equal(same, first)


@pytest.fixture(scope="module")
def many():
    """4,096 codes and 300 rows near some of them."""
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(4096, 12)).astype(np.float32)
    rows = codes[rng.integers(0, 4096, 300)] + 0.1 * rng.normal(size=(300, 12)).astype(np.float32)
    return torch.from_numpy(rows.astype(np.float32)), torch.from_numpy(codes)


def test_the_approximate_search_finds_nearly_all(many):
    rows, codes = many
    exact = CodeSearch(exact=True)(rows, codes)
    assert torch.equal(exact, nearest.nearest(rows, codes))
    assert (CodeSearch(exact=False)(rows, codes) == exact).float().mean() > 0.97
    products = CodeSearch(exact=False)(rows, codes, "ip")
    assert (products == nearest.nearest(rows, codes, "ip")).float().mean() > 0.8


def test_the_codes_as_they_are_now_decide(many):
    rows, codes = many
    search = CodeSearch(exact=False)
    search(rows, codes)
    index = search._approximate
    moved = codes + 0.02 * torch.randn(codes.shape, generator=torch.Generator().manual_seed(0))
    found = search(rows, moved, moving=True)
    assert search._approximate is index  # they have moved a little
    assert (found == nearest.nearest(rows, moved)).float().mean() > 0.97
    away = codes.flip(0)
    assert (search(rows, away, moving=True) == nearest.nearest(rows, away)).float().mean() > 0.97
    assert search._approximate is not index


def test_an_index_of_codes_grows_old(many, monkeypatch):
    from annvq.tokenizers.choosing import approximate

    _, codes = many
    monkeypatch.setattr(approximate, "_SEARCHES", 3)
    index = ApproximateCodes(codes, "l2")
    assert not any(index.is_stale(codes, True) for _ in range(5))  # nothing has moved
    assert index.is_stale(codes * 1.001, True)
    assert index.is_stale(codes[:100], True)


def test_codes_that_stand_are_searched_as_they_are(many):
    rows, codes = many
    quantizer = VectorQuantizer(12, len(codes), Learning(exact=False))
    for _ in range(3):
        quantizer(rows)  # makes an index, and moves the codes a little
    quantizer.codebook[1] += 0.5
    quantizer.eval()
    other = copy.deepcopy(quantizer)
    assert torch.equal(quantizer.encode(rows), other.encode(rows))
    index = quantizer._search._approximate
    quantizer.encode(rows)
    assert quantizer._search._approximate is index


def _all_rows_permuted(codes):
    return codes[torch.randperm(len(codes), generator=torch.Generator().manual_seed(0))]


def _two_rows_swapped(codes):
    order = torch.arange(len(codes))
    order[[1234, 4000]] = order[[4000, 1234]]
    return codes[order]


def _one_sign_flipped(codes):
    signs = torch.ones_like(codes)
    signs[1233, 5] = -1
    return codes * signs


OTHERS = {
    "permuted": _all_rows_permuted,
    "reversed": lambda codes: codes.flip(0),
    "columns permuted": lambda codes: codes.flip(1),
    "negated": lambda codes: -codes,
    "two rows swapped": _two_rows_swapped,
    "one sign flipped": _one_sign_flipped,
    "one bit of one number": lambda codes: torch.cat([codes[:-1], torch.nextafter(codes[-1:], codes[-1:] + 1)]),
    "another dtype": lambda codes: codes.double(),
}


@pytest.mark.parametrize("other", OTHERS)
def test_other_codes_are_another_index_even_of_the_same_sums(many, other):
    rows, codes = many
    search = CodeSearch(exact=False)
    search(rows, codes)
    index, changed = search._approximate, OTHERS[other](codes)
    found = search(rows.to(changed.dtype), changed)
    assert search._approximate is not index
    assert (found == nearest.nearest(rows.to(changed.dtype), changed)).float().mean() > 0.9
    fresh = CodeSearch(exact=False)(rows.to(changed.dtype), changed)
    assert torch.equal(found, fresh)


@pytest.mark.parametrize("other", ["permuted", "reversed", "columns permuted", "negated"])
@pytest.mark.parametrize("training", [False, True])
def test_tokenizers_follow_codes_that_changed_places(many, other, training):
    rows, codes = many
    quantizer = VectorQuantizer(12, len(codes), Learning(exact=False)).train(training)
    quantizer.set_codes(codes.numpy())
    quantizer.encode(rows)
    changed = OTHERS[other](codes)
    quantizer.set_codes(changed.numpy())
    assert (quantizer.encode(rows) == nearest.nearest(rows, changed)).float().mean() > 0.9


def test_a_few_codes_that_changed_in_training_are_found_in_the_end(many, monkeypatch):
    from annvq.tokenizers.choosing import approximate

    _, codes = many
    monkeypatch.setattr(approximate, "_SEARCHES", 3)
    monkeypatch.setattr(approximate, "_WATCHED", 16)
    index, changed = ApproximateCodes(codes, "l2"), codes.clone()
    changed[[1, 2]] = codes[[2, 1]]  # none of those that are watched
    assert [index.is_stale(changed, True) for _ in range(5)] == [False, False, False, True, True]
    assert not any(index.is_stale(codes, True) for _ in range(5))


def test_few_codes_and_no_rows_are_searched_exactly(many):
    rows, codes = many
    search = CodeSearch(exact=False)
    assert torch.equal(search(rows, codes[:50]), nearest.nearest(rows, codes[:50]))
    assert search(rows[:0], codes).shape == (0,)
    assert search._approximate is None


def test_copies_make_their_own_index(many):
    search = CodeSearch(exact=False)
    search(*many)
    assert copy.deepcopy(search)._approximate is None


def test_memory_does_not_grow_with_rows_times_codes(monkeypatch):
    seen = []
    plain = torch.baddbmm

    def watched(bias, rows, weights, **options):
        made = plain(bias, rows, weights, **options)
        seen.append(made.numel())
        return made

    monkeypatch.setattr(torch, "baddbmm", watched)
    monkeypatch.setattr(deciding, "_BLOCK", 1 << 12)
    nearest.nearest(torch.randn(100, 4).double(), torch.randn(2000, 4).double())
    assert max(seen) <= 1 << 12
    assert sum(seen) == 100 * 2000
