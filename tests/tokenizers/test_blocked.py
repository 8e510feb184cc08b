"""Blocked softmax sums against the plain formulas, their gradients, and their memory."""

import pytest

pytest.importorskip("torch")

import torch

from annvq.tokenizers.choosing import blocked


@pytest.fixture(autouse=True, params=[40, 1 << 20])
def small_blocks(monkeypatch, request):
    """Let all columns be many blocks, and one that is made once for several passes."""
    monkeypatch.setattr(blocked, "_BLOCK", request.param)
    monkeypatch.setattr(blocked, "_LEAST_COLUMNS", 3)


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    rows, codes = torch.randn(7, 4, dtype=torch.float64), torch.randn(23, 4, dtype=torch.float64)
    weights, bias = blocked.distance_logits(codes, 0.7)
    return tuple(tensor.detach().requires_grad_() for tensor in (rows, weights, bias))


def plain_logits(rows, weights, bias):
    return rows @ weights.T + bias


def test_blocks_cover_all_columns(inputs, monkeypatch):
    monkeypatch.setattr(blocked, "_BLOCK", 40)
    parts = [part for part, _ in blocked.blocks(*inputs)]
    assert len(parts) > 3
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(23))
    whole = torch.cat([logits for _, logits in blocked.blocks(*inputs)], 1)
    torch.testing.assert_close(whole, plain_logits(*inputs))


def test_noise_is_gumbels_and_the_same_again(inputs):
    rows, flat = torch.zeros(4000, 4, dtype=torch.float64), (inputs[1].detach(), inputs[2].detach() * 0)
    noise = torch.cat([part for _, part in blocked.blocks(rows, *flat, seed=5)], 1)
    again = torch.cat([part for _, part in blocked.blocks(rows, *flat, seed=5)], 1)
    assert torch.equal(noise, again)
    assert noise.mean() == pytest.approx(0.5772, abs=0.02)
    assert noise.var() == pytest.approx(torch.pi**2 / 6, abs=0.05)


def test_argmax_takes_the_lowest_of_equals(inputs):
    rows, weights, bias = inputs
    expected = plain_logits(*inputs).argmax(1)
    assert torch.equal(blocked.argmax(rows, weights, bias), expected)
    doubled = blocked.argmax(rows, torch.cat([weights, weights]), torch.cat([bias, bias]))
    assert torch.equal(doubled, expected)
    assert torch.equal(blocked.argmax(rows, weights * 0, bias * 0), torch.zeros(7, dtype=torch.int64))


def test_log_sums(inputs):
    torch.testing.assert_close(blocked.log_sums(*inputs), plain_logits(*inputs).logsumexp(1))
    assert torch.autograd.gradcheck(blocked.log_sums, inputs)


def test_entropies(inputs):
    p = plain_logits(*inputs).softmax(1)
    rows, mean = blocked.entropies(*inputs)
    torch.testing.assert_close(rows, -(p * p.log()).sum(1))
    torch.testing.assert_close(mean, -(p.mean(0) * p.mean(0).log()).sum())
    assert torch.autograd.gradcheck(blocked.entropies, inputs)


def test_entropies_of_certain_choices_are_zero():
    rows, codes = torch.eye(3) * 100, torch.eye(3) * 100
    of_rows, of_mean = blocked.entropies(rows.requires_grad_(), *blocked.distance_logits(codes, 0.01))
    assert of_rows.abs().max() == 0
    assert of_mean.item() == pytest.approx(1.0986, abs=1e-3)
    (of_rows.sum() + of_mean).backward()
    assert torch.isfinite(rows.grad).all()


@pytest.mark.parametrize("seed", [None, 11])
def test_indexed_has_the_softmax_gradients(inputs, seed):
    rows, weights, bias = inputs
    values = torch.randn(23, 5, dtype=torch.float64, requires_grad=True)
    slope = torch.randn(7, 5, dtype=torch.float64)
    q, codes = blocked.indexed(rows, weights, bias, values, seed)
    logits = torch.cat([part for _, part in blocked.blocks(rows, weights, bias, seed)], 1)
    assert torch.equal(codes, logits.argmax(1))
    assert torch.equal(q, values[codes])
    soft = logits.softmax(1)
    hard = torch.nn.functional.one_hot(codes, 23) + soft - soft.detach()
    found = torch.autograd.grad((q * slope).sum(), (*inputs, values))
    expected = torch.autograd.grad((hard @ values * slope).sum(), (*inputs, values))
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other)


def test_no_rows_are_no_trouble(inputs):
    _, weights, bias = inputs
    rows = torch.zeros(0, 4, dtype=torch.float64, requires_grad=True)
    assert blocked.argmax(rows, weights, bias).shape == (0,)
    of_rows, of_mean = blocked.entropies(rows, weights, bias)
    assert of_rows.shape == (0,)
    assert of_mean == 0
    (of_rows.sum() + of_mean).backward()
