"""Losses against loops over pairs in float64, and gradients by finite differences."""

import math

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from annvq.errors import ParameterError
from annvq.learn.step import losses
from annvq.learn.step.objectives import Distillation

B, P, T = 3, 7, 0.3


@pytest.fixture
def scores():
    return torch.from_numpy(np.random.default_rng(0).normal(size=(B, P)))


@pytest.fixture
def teacher():
    return torch.from_numpy(np.random.default_rng(1).normal(size=(B, P)))


@pytest.fixture
def usable():
    mask = np.random.default_rng(2).random((B, P)) < 0.7
    mask[0], mask[1, :3] = True, True
    return torch.from_numpy(mask)


def softmax(values):
    weights = np.exp(values - values.max())
    return weights / weights.sum()


def test_lambda_rank_is_a_loop_over_pairs(scores):
    relevant, ranks = np.zeros((B, P), bool), np.zeros((B, P), np.int64)
    relevant[0, 2] = relevant[1, [0, 5]] = True  # the third query has none
    ranks[0, [1, 2, 3]] = [1, 4, 2]
    ranks[1, [3, 4, 5, 6]] = [1, 2, 3, 9]
    ranks[2, 0] = 1
    cut, total = 5, 0.0
    for q in range(2):
        for positive in np.flatnonzero(relevant[q]):
            for negative in np.flatnonzero((ranks[q] > 0) & ~relevant[q] & (ranks[q] <= cut)):
                gain = 1 / ranks[q, positive] if 0 < ranks[q, positive] <= cut else 0.0
                difference = (scores[q, negative] - scores[q, positive]).item() / T
                total += math.log1p(math.exp(difference)) * abs(1 / ranks[q, negative] - gain)
    relevant, ranks = torch.from_numpy(relevant), torch.from_numpy(ranks)
    found = losses.lambda_rank(scores, relevant, (ranks > 0) & ~relevant, ranks, cut, T)
    assert found.item() == pytest.approx(total / 2)


def test_lambda_rank_without_pairs_is_zero_with_a_gradient(scores):
    nothing, ranks = torch.zeros(B, P, dtype=torch.bool), torch.zeros(B, P, dtype=torch.int64)
    given = scores.clone().requires_grad_()
    loss = losses.lambda_rank(given, nothing, nothing, ranks, 5, T)
    loss.backward()
    assert loss.item() == 0
    assert not given.grad.any()


def test_contrast_is_a_cross_entropy_against_the_others(scores, usable):
    relevant = torch.zeros(B, P, dtype=torch.bool)
    relevant[0, 1] = relevant[0, 4] = relevant[2, 0] = True
    expected = []
    for q, place in ((0, 1), (0, 4), (2, 0)):
        others = scores[q][usable[q] & ~relevant[q]].numpy() / T
        own = scores[q, place].item() / T
        expected.append(-own + np.log(np.exp(own) + np.exp(others).sum()))
    assert losses.contrastive(scores, relevant, usable, T).item() == pytest.approx(
        np.mean([np.mean(expected[:2]), expected[2]])
    )
    assert losses.contrastive(scores, relevant & False, usable, T).item() == 0


def test_distillations_are_loops_over_documents(scores, teacher, usable):
    expected = {name: [] for name in losses.DISTILLATIONS}
    for q in range(B):
        s, t = (values[q][usable[q]].numpy() / T for values in (scores, teacher))
        wanted, given = softmax(t), softmax(s)
        expected["listnet"].append(-(wanted * np.log(given)).sum())
        expected["kl"].append((wanted * np.log(wanted / given)).sum())
        pairs = [(i, j) for i in range(len(s)) for j in range(len(s))]
        weights = [max(t[i] - t[j], 0) for i, j in pairs]
        logs = [math.log1p(math.exp(s[j] - s[i])) for i, j in pairs]
        expected["ranknet"].append(np.dot(weights, logs) / sum(weights))
        expected["margin-mse"].append(np.mean([((s[i] - s[j]) - (t[i] - t[j])) ** 2 for i, j in pairs]))
    for name, loss in losses.DISTILLATIONS.items():
        assert loss(scores, teacher, usable, T).item() == pytest.approx(np.mean(expected[name])), name


def test_a_query_without_documents_does_not_count(scores, teacher, usable):
    usable[2] = False
    for name, loss in losses.DISTILLATIONS.items():
        both = loss(scores[:2], teacher[:2], usable[:2], T)
        assert loss(scores, teacher, usable, T).item() == pytest.approx(both.item()), name


@pytest.mark.parametrize("name", losses.DISTILLATIONS)
def test_gradients_of_distillations(scores, teacher, usable, name):
    given = scores.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: losses.DISTILLATIONS[name](s, teacher, usable, T), (given,))


@pytest.mark.parametrize("name", ["listnet", "kl", "ranknet"])
def test_the_teachers_own_scores_are_the_best(scores, teacher, usable, name):
    loss = losses.DISTILLATIONS[name]
    given = teacher.clone().requires_grad_()
    loss(given, teacher, usable, T).backward()
    if name != "ranknet":  # whose optimum lies at infinity
        assert given.grad.abs().max() < 1e-9
    assert loss(teacher, teacher, usable, T) < loss(scores, teacher, usable, T)


def test_an_unknown_distillation_is_refused():
    with pytest.raises(ParameterError, match="listnet, kl, ranknet, margin-mse"):
        Distillation("l1")
