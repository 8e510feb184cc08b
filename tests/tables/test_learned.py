"""Methods that change while a model trains: what their steps must do."""

import copy

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

import torch

from annvq import tables
from annvq.errors import ParameterError


def target_rows(n=300, d=16, seed=0):
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(12, d))
    return torch.from_numpy((centers[rng.integers(0, 12, n)] + 0.1 * rng.normal(size=(n, d))).astype(np.float32))


def learn(table, target, steps=300, lr=0.02):
    """Train a table to give some rows, as any model would; return the mean squared errors before and after."""
    ids, losses = torch.arange(len(target)), []
    optimizer = torch.optim.Adam(table.parameter_groups(lr))
    for _ in range(steps):
        loss = (table(ids) - target).square().mean()
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        (loss + table.penalty()).backward()
        optimizer.step()
        table.step_end()
    return losses[0], float(np.square(table.decoded() - target.numpy()).mean())


@pytest.mark.parametrize(("method", "more"), [
    ("DPQ", {"ratio": 1.5}), ("DPQ", {"ratio": 1.5, "mode": "sx"}), ("MGQE", {"ratio": 1}), ("ALPT", {}),
    ("CompoEmb", {"ratio": 4}), ("CompoEmb", {"ratio": 4, "op": "add"}), ("CompoEmb", {"ratio": 4, "op": "concat"}),
    ("TTRec", {"ratio": 2}), ("ROBE", {"ratio": 2, "Z": 4}), ("MDE", {"ratio": 2}), ("AdaptEmb", {"ratio": 2}),
    ("INT8", {}), ("FP16", {}), ("Hash", {"ratio": 1.5}), ("Dedup", {"ratio": 1.5}),
])  # fmt: skip
def test_it_learns(method, more):
    torch.manual_seed(0)
    target = target_rows()
    before, after = learn(tables.METHODS[method](*target.shape, std=0.5, **more), target)
    assert after < 0.75 * before


def test_codes_after_training_are_those_of_the_layer():
    torch.manual_seed(0)
    target = target_rows()
    for table in (tables.DPQ(*target.shape, ratio=1.5), tables.DPQ(*target.shape, ratio=1.5, mode="sx")):
        learn(table, target, 40)
        np.testing.assert_allclose(table.freeze()(np.arange(300)), table.decoded(), rtol=1e-5, atol=1e-6)
        assert len(table.to_index("ip")) == 300


def test_mgqe_codes_of_rare_rows_are_below_64():
    torch.manual_seed(0)
    frequencies = np.random.default_rng(0).permutation(300)
    table = tables.MGQE(300, 16, ratio=1, frequencies=frequencies)
    codes = table.codes()
    frequent = frequencies >= 270
    assert codes[~frequent].max() < 64
    assert codes[frequent].max() >= 64
    np.testing.assert_array_equal(table.form().unpacked(), codes)
    assert len(table.to_index("l2")) == 300


def test_alpt_rows_stay_on_their_grid_and_rounding_is_fair():
    torch.manual_seed(0)
    table = tables.ALPT(4000, 1)
    scale = float(table.scale[0].detach())
    with torch.no_grad():
        table.weight.fill_(10.25 * scale)
    table(torch.arange(4000))
    table.step_end()
    codes = table.weight.detach() / scale
    torch.testing.assert_close(codes, codes.round())
    assert set(codes.round().int().unique().tolist()) == {10, 11}
    assert abs(float(codes.mean()) - 10.25) < 0.03
    assert float((table.decoded() - table.weight.detach().numpy()).max()) == pytest.approx(0, abs=1e-6)


def test_alpt_scale_gradient_is_that_of_learned_step_sizes():
    table = tables.ALPT(5, 3).double()
    ids = torch.arange(5)
    up = torch.randn(5, 3, dtype=torch.float64)
    (table(ids) * up).sum().backward()
    scale, values = table.scale.detach(), (table.weight / table.scale).detach()
    inside = values.abs() < 127
    slope = torch.where(inside, values.round() - values, values.clamp(-128, 127))
    expected = (slope * up).sum(1, keepdim=True) / np.sqrt(15 * 127)
    torch.testing.assert_close(table.scale.grad, expected)
    assert scale.shape == (5, 1)
    groups = table.parameter_groups(0.1)
    assert [group["lr"] for group in groups] == [0.1, 2e-5]


def test_mde_gives_frequent_rows_more_dimensions():
    frequencies = np.random.default_rng(0).permutation(1 / (1 + np.arange(4000)))
    table = tables.MDE(4000, 32, ratio=8, frequencies=frequencies)
    assert list(table.dims) == sorted(table.dims, reverse=True)
    assert table.dims[0] > 2 * table.dims[-1]
    hottest = int(np.argmax(frequencies))
    assert int(table.group[hottest]) == 0
    assert table.nbytes > 0.8 * 4000 * 32 * 4 / 8


def test_a_table_can_be_copied_while_it_trains():
    table = tables.DPQ(50, 8, bytes=6000)
    table(torch.arange(5)).sum().backward()
    other = copy.deepcopy(table)
    assert torch.equal(other.query, table.query)


def test_modes_and_options_outside_their_range():
    for make, message in (
        (lambda: tables.DPQ(50, 8, ratio=1, mode="soft"), "mode must be one of vq, sx"),
        (lambda: tables.CompoEmb(50, 8, ratio=1, op="max"), "op must be one of"),
        (lambda: tables.ROBE(50, 8, ratio=1, Z=9), "Z must be"),
        (lambda: tables.ALPT(50, 8, nbits=4), "nbits must be 8 or 16"),
        (lambda: tables.MGQE(50, 8, bytes=10**6, top_share=0.0), "top_share"),
        (lambda: tables.MDE(50, 8, ratio=1, groups=0), "groups"),
        (lambda: tables.Dedup(50, 8, ratio=1, block_rows=0), "block_rows"),
        (lambda: tables.DHE(50, 8, bytes=10**6, num_hashes=0), "num_hashes"),
    ):
        with pytest.raises(ParameterError, match=message):
            make()


@pytest.mark.parametrize("method", ["DPQ", "MGQE"])
def test_codes_follow_the_ids_in_compiled_and_functional_models(method):
    table = tables.METHODS[method](200, 8, ratio=0.5).eval()
    some, others = torch.arange(20), torch.arange(100, 120)
    expected = table(others)
    assert torch.equal(torch.compile(table, backend="eager")(others), expected)
    parameters = dict(table.named_parameters())
    gradients = torch.func.grad(lambda p: torch.func.functional_call(table, p, (some,)).square().sum())(parameters)
    (table(some).square().sum()).backward()
    assert torch.equal(gradients["query"], table.query.grad)
