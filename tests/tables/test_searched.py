"""Searches of structure: the stages, what moves, what is left."""

import copy

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

import torch

from annvq import tables
from annvq.errors import BudgetError, DtypeError, ParameterError, ShapeError, StateError
from annvq.tables.budget import Budget
from annvq.tables.frozen.sparse import Sparse, sparse_bytes
from annvq.tables.methods import autodim
from annvq.tables.structure import sparse
from annvq.tables.structure.mixed import mixed_bytes

N, D = 400, 8
SEARCHED = ("AutoDim", "OptEmbed", "DNIS", "AutoSrh", "DeepLight", "PEP")
STAGES = {"AutoDim": 2, "OptEmbed": 2, "DNIS": 2, "AutoSrh": 2, "DeepLight": 1, "PEP": 2}


def made(method, n=N, d=D, **more):
    torch.manual_seed(0)
    more.setdefault("ratio", 4)
    return tables.METHODS[method](n, d, std=0.5, **more)


class Scorer(torch.nn.Module):
    """Says yes or no to pairs of rows."""

    def __init__(self, table):
        super().__init__()
        self.table = table
        self.out = torch.nn.Linear(D, 1)

    def forward(self, pairs):
        return self.out(self.table(pairs).sum(1))[:, 0]


@pytest.fixture(scope="module")
def pairs():
    """Pairs whose answer follows from hidden rows; the first 100 rows make half of them."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=N)
    chosen = np.where(rng.random((6000, 2)) < 0.5, rng.integers(0, 100, (6000, 2)), rng.integers(0, N, (6000, 2)))
    answers = hidden[chosen].sum(1) > 0
    return torch.from_numpy(chosen), torch.from_numpy(answers.astype(np.float32))


def bce(model, pairs, answers):
    return torch.nn.functional.binary_cross_entropy_with_logits(model(pairs), answers)


def trainer(pairs, epochs=3):
    chosen, answers = pairs

    def train(model, table):
        rest = [p for p in model.parameters() if not any(p is q for q in table.parameters())]
        optimizer = torch.optim.Adam([*table.parameter_groups(0.02), {"params": rest, "lr": 0.02}])
        generator = torch.Generator().manual_seed(0)
        model.train()
        for _ in range(epochs):
            for part in torch.randperm(4000, generator=generator).split(200):
                loss = bce(model, chosen[part], answers[part]) + table.penalty()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                table.step_end()
                held = 4000 + torch.randint(1000, (200,), generator=generator)
                table.search(lambda held=held: bce(model, chosen[held], answers[held]))

    return train


def quality(pairs):
    chosen, answers = pairs

    @torch.no_grad()
    def evaluate(model):
        assert not model.training
        return -float(bce(model, chosen[4000:5000], answers[4000:5000]))

    return evaluate


@pytest.mark.parametrize("method", SEARCHED)
def test_all_stages_run_and_end_within_the_budget(method, pairs, tmp_path):
    more = {"rounds": 2, "mutations": 3, "crossovers": 3} if method == "OptEmbed" else {}
    table = made(method, **more)
    calls = []
    fitted = tables.fit(table, Scorer, lambda m, t: (calls.append(t), trainer(pairs)(m, t)), evaluate=quality(pairs))
    assert fitted.stages == len(calls) == STAGES[method]
    assert fitted.table.is_final
    assert fitted.table is fitted.model.table
    assert fitted.table.nbytes <= 4 * N * D / 4
    assert fitted.table.nbytes > 0.6 * 4 * N * D / 4
    fitted.table.export(tmp_path / "table.safetensors")
    opened = tables.open(tmp_path / "table.safetensors")
    assert (opened.method, opened.nbytes) == (method, fitted.table.nbytes)
    np.testing.assert_allclose(opened(np.arange(N)), fitted.table.decoded(), rtol=1e-5, atol=1e-6)
    chosen, answers = pairs
    with torch.no_grad():
        right = (fitted.model.eval()(chosen[5000:]) > 0) == (answers[5000:] > 0)
    assert float(right.float().mean()) > 0.65


def test_a_method_without_stages_trains_once(pairs):
    fitted = tables.fit(tables.CompoEmb(N, D, ratio=4), Scorer, trainer(pairs, 1))
    assert fitted.stages == 1


def test_a_model_without_the_table_is_refused(pairs):
    with pytest.raises(ParameterError, match="does not hold the table"):
        tables.fit(made("DNIS"), lambda table: torch.nn.Linear(2, 2), trainer(pairs))


@pytest.mark.parametrize("method", SEARCHED)
def test_unfinished_tables_have_no_inference_form(method, tmp_path):
    table = made(method)
    assert not table.is_final
    assert table.nbytes == 4 * N * D // 4
    for call in (table.freeze, lambda: table.export(tmp_path / "x"), lambda: table.to_index("ip")):
        with pytest.raises(StateError, match="call finish"):
            call()
    assert not list(tmp_path.iterdir())
    assert table.finish().finish().is_final


@pytest.mark.parametrize("method", SEARCHED)
def test_state_of_a_search_round_trips(method):
    first, second = made(method), None
    first(torch.arange(20)).sum().backward()
    first.step_end()
    torch.manual_seed(5)
    second = tables.METHODS[method](N, D, ratio=4, std=0.5)
    second.load_state_dict(first.state_dict())
    ids = torch.arange(N)
    assert torch.equal(first.eval()(ids), second.eval()(ids))
    copy.deepcopy(first)


@pytest.mark.parametrize("method", ["DNIS", "AutoSrh", "PEP", "DeepLight"])
def test_gradients_of_a_search_are_those_of_its_forward_pass(method):
    table = made(method, n=30, ratio=1).double()
    ids = torch.tensor([0, 7, 29, 7])
    names, values = zip(*((name, p.detach().clone().requires_grad_()) for name, p in table.named_parameters()))

    def forward(*given):
        return torch.func.functional_call(table, dict(zip(names, given)), (ids,))

    assert torch.autograd.gradcheck(forward, values)


@pytest.mark.parametrize("method", ["AutoDim", "OptEmbed"])
def test_gradients_of_random_searches(method):
    """With the draws fixed, the gradient is that of the forward pass."""
    table = made(method, n=30, ratio=1).double()
    ids = torch.tensor([0, 7, 29, 7, 3])
    names = [name for name, p in table.named_parameters() if p.requires_grad and name != "threshold"]
    values = [dict(table.named_parameters())[name].detach().clone().requires_grad_() for name in names]

    def forward(*given):
        torch.manual_seed(3)
        return torch.func.functional_call(table, dict(zip(names, given)), (ids,))

    assert torch.autograd.gradcheck(forward, values, fast_mode=True)


@pytest.mark.parametrize("method", ["DNIS", "AutoSrh", "AutoDim"])
def test_search_moves_the_selection_only_and_downhill(method):
    table = made(method)
    target, ids = torch.zeros(N, D), torch.arange(N)
    target[:, :4] = table.eval()(ids).detach()[:, :4]  # the last four dimensions do harm
    before = {name: value.clone() for name, value in table.state_dict().items()}

    def loss():
        return (table(ids) - target).square().mean()

    first = float(loss().detach())
    for _ in range(30):
        table.search(loss)
    changed = [name for name, value in table.state_dict().items() if not torch.equal(value, before[name])]
    moments = ("alpha_steps", "alpha_mean", "alpha_square") if method == "AutoDim" else ()
    assert {name for name in changed if not name.startswith("norms")} == {"alpha", *moments}
    assert float(loss().detach()) < first
    assert all(p.grad is None for p in table.parameters())
    if method != "AutoDim":
        assert table.alpha[:, 4:].max() < table.alpha[:, :4].min() + 1e-6
        assert 0 <= table.alpha.min()
        assert table.alpha.max() <= 1


def test_warm_up_keeps_the_selection_still():
    table = made("DNIS", warm_up=2)
    table.search(lambda: table(torch.arange(N)).square().sum())
    assert bool((table.alpha == 1).all())
    table.step_end()
    table.step_end()
    table.search(lambda: table(torch.arange(N)).square().sum())
    assert not bool((table.alpha == 1).all())


def test_deeplight_prunes_by_its_schedule():
    table = made("DeepLight", period=10)
    target = 1 - sparse.most_values(Budget(4 * N * D // 4, N, D)) / (N * D)
    for steps in (10, 100, 1000):
        while int(table.steps) < steps:
            table.step_end()
        zeros = float((table.weight == 0).float().mean())
        assert zeros == pytest.approx(target * (1 - 0.99 ** (steps / 10)), abs=0.01)
    largest = table.weight.abs().flatten().kthvalue(int(N * D * 0.95)).values
    assert bool((table.finish().weight.abs() >= largest).any())


def test_pep_gives_back_what_values_began_with():
    table = made("PEP")
    began = table.weight.detach().clone()
    with torch.no_grad():
        table.weight.mul_(0.3)
        table.s[:, 0] = 10.0  # the first dimension is wholly below its thresholds
    final = table.finish()
    assert torch.equal(final.weight[final.mask], began[final.mask])
    assert not final.mask[:, 0].any()
    assert not table.has_reached
    with torch.no_grad():
        table.s.fill_(10.0)
    assert table.has_reached
    assert float((table(torch.arange(N)) != 0).float().mean()) < 0.01


def test_optembed_drops_rows_below_their_threshold_and_finds_the_better_lengths():
    groups = np.arange(N) % 2
    table = made("OptEmbed", groups=groups, ratio=2.2, rounds=8, mutation_rate=0.5)
    with torch.no_grad():
        table.weight[:40] *= 1e-3
        table.threshold.fill_(0.1)
    wanted = torch.tensor([6.0, 1.0])
    final = table.finish(lambda: -float((table.lengths - wanted).abs().sum()))
    assert not final.decoded()[:40].any()
    assert final.decoded()[40:].any(axis=1).all()
    assert final.dims[0] >= 5
    assert final.dims[1] < final.dims[0]
    assert final.dims[2] == 0
    rows = table.train()(torch.arange(40, 400))
    assert len({int((row != 0).sum()) for row in rows}) == D  # lengths are drawn at random
    penalty = table.penalty()
    assert float(penalty.detach()) == pytest.approx(2e-5 * np.exp(-0.1), rel=1e-3)
    assert [group["lr"] for group in table.parameter_groups(0.5)] == [0.5, 1e-4]


@pytest.mark.parametrize("seed", range(4))
def test_dimensions_fill_the_budget_and_follow_the_scores(seed):
    rng = np.random.default_rng(seed)
    sizes, candidates = rng.integers(10, 1000, 6), (1, 2, 4, 8)
    n = int(sizes.sum())
    scores = rng.normal(size=(6, 4))
    for ratio in (1.2, 2, 4, 6):
        budget = Budget(int(4 * n * 8 / ratio), n, 8)
        dims = autodim.dims_within(scores, candidates, sizes, budget)
        taken = mixed_bytes(n, 8, sizes, dims)
        assert taken <= budget.bytes
        for g in range(6):  # no group could take its next larger dimension
            if dims[g] < 8:
                larger = [candidates[candidates.index(dim) + (i == g)] for i, dim in enumerate(dims)]
                assert mixed_bytes(n, 8, sizes, larger) > budget.bytes or taken > 0.5 * budget.bytes
    free = autodim.dims_within(np.eye(4)[[3, 0, 2, 1, 3, 3]] * 1e9, candidates, sizes, Budget(10**9, n, 8))
    assert free[0] == free[4] == free[5] == 8


@pytest.mark.parametrize("d", [5, 300])
def test_sparse_tables_are_exact(d):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(700, d)).astype(np.float32)
    for share in (0.0, 0.001, 0.3, 1.0):
        mask = rng.random((700, d)) < share
        form = Sparse.of(weight, mask)
        lengths = mask.sum(1)
        assert form.nbytes == sparse_bytes(700, d, int((lengths > 0).sum()), int(lengths.sum()))
        ids = rng.integers(0, 700, 200)
        np.testing.assert_array_equal(form.rows(ids), (weight * mask)[ids])
        again = Sparse.from_arrays(700, d, form.settings(), form.arrays())
        np.testing.assert_array_equal(again.rows(ids), (weight * mask)[ids])


def test_the_largest_values_fill_a_budget():
    rng = np.random.default_rng(0)
    importance = rng.random((500, 6))
    budget = Budget(3000, 500, 6)
    mask = sparse.largest_within(importance, budget)
    rows, values = int(mask.any(1).sum()), int(mask.sum())
    assert sparse_bytes(500, 6, rows, values) <= 3000 < sparse_bytes(500, 6, rows + 1, values + 1) + 8
    assert importance[mask].min() > importance[~mask].max()


def test_arguments_of_searches_outside_their_range():
    for method, more, error, message in (
        ("AutoDim", {"candidates": [9]}, ParameterError, "candidates"),
        ("AutoDim", {"candidates": []}, ParameterError, "candidates"),
        ("AutoDim", {"groups": [0, 1]}, ShapeError, "groups of shape"),
        ("AutoDim", {"groups": np.zeros(N)}, DtypeError, "groups of dtype"),
        ("OptEmbed", {"groups": np.full(N, -1)}, ParameterError, "groups must be"),
        ("OptEmbed", {"mutation_rate": 2.0}, ParameterError, "mutation_rate"),
        ("DNIS", {"splits": 0}, ParameterError, "splits"),
        ("AutoSrh", {"alpha_lr": 0.0}, ParameterError, "alpha_lr"),
        ("PEP", {"threshold": "cell"}, ParameterError, "threshold must be one of"),
        ("DeepLight", {"period": 0}, ParameterError, "period"),
        ("AutoDim", {"ratio": 50}, BudgetError, "takes at least"),
    ):
        with pytest.raises(error, match=message):
            made(method, **more)
    with pytest.raises(ParameterError, match="cannot be made from a trained table"):
        tables.compress(torch.nn.Embedding(N, D), "PEP", ratio=4)
