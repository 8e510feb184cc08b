"""What every method must hold to: bytes, files, gradients, bad input, padding, bags."""

import inspect
import itertools
import re
import warnings

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

import torch

from annvq import tables
from annvq.errors import BudgetError, DtypeError, ParameterError, ShapeError

N, D = 301, 12  # odd sizes
RATIO = {"FP16": 2, "INT8": 3, "INT16": 1.8, "DHE": 1.2, "RaBitQ": 2, "ALPT": 2, "DPQ": 1, "MGQE": 1}
BUDGETED = sorted(tables.METHODS)


def made(method, n=N, d=D, **more):
    torch.manual_seed(0)
    if "ratio" not in more and "bytes" not in more:
        more["ratio"] = RATIO.get(method, 4)
    return tables.METHODS[method](n, d, **more).finish()


def some_ids(n=N, shape=(5, 7), seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, n, shape))


@pytest.mark.parametrize("method", BUDGETED)
def test_bytes_are_within_the_budget_and_are_those_of_the_file(method, tmp_path):
    table = made(method)
    budget = 4 * N * D / RATIO.get(method, 4)
    assert 0 < table.nbytes <= budget
    frozen = table.freeze()
    assert frozen.nbytes == table.nbytes
    table.export(tmp_path / "table.safetensors")
    size = (tmp_path / "table.safetensors").stat().st_size
    with open(tmp_path / "table.safetensors", "rb") as file:
        header = int.from_bytes(file.read(8), "little")
    assert size == 8 + header + table.nbytes
    assert header < 1500


@pytest.mark.parametrize("method", BUDGETED)
def test_opened_rows_are_those_of_the_layer(method, tmp_path):
    table = made(method, padding_idx=3).eval()
    table.export(tmp_path / "table.safetensors")
    opened = tables.open(tmp_path / "table.safetensors")
    assert (opened.method, len(opened), opened.embedding_dim, opened.padding_idx) == (method, N, D, 3)
    ids = torch.cat([some_ids(), torch.tensor([[0, 3, N - 1, 3, 1, 2, 4]])])
    expected = table(ids).detach().numpy()
    assert expected.shape == (6, 7, D)
    np.testing.assert_allclose(opened(ids.numpy()), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(opened(np.arange(N)), table.decoded(), rtol=1e-5, atol=1e-6)
    assert opened(np.int64(5)).shape == (D,)
    assert opened([]).shape == (0, D)


@pytest.mark.parametrize("method", BUDGETED)
def test_state_dict_round_trip_is_exact(method):
    first = made(method).eval()
    torch.manual_seed(1)
    second = tables.METHODS[method](N, D, ratio=RATIO.get(method, 4)).finish().eval()
    if hasattr(first, "mask"):  # which differs, and so does what is left of the bytes
        assert first.mask.shape == second.mask.shape
    second.load_state_dict(first.state_dict(), strict=True)
    ids = torch.arange(N)
    assert torch.equal(first(ids), second(ids))
    assert first.nbytes == second.nbytes == second.freeze().nbytes


@pytest.mark.parametrize("method", BUDGETED)
def test_ids_of_other_types_or_outside_are_refused(method, tmp_path):
    table = made(method)
    frozen = table.freeze()
    for wrong in (torch.tensor([N]), torch.tensor([-1]), torch.tensor([0, N + 7])):
        with pytest.raises(ParameterError, match=f"table of {N} rows"):
            table(wrong)
        with pytest.raises(ParameterError, match=f"table of {N} rows"):
            frozen(wrong.numpy())
    for wrong in (torch.tensor([1.0]), torch.tensor([True])):
        with pytest.raises(DtypeError, match="ids of"):
            table(wrong)
        with pytest.raises(DtypeError, match="ids of dtype"):
            frozen(wrong.numpy())
    with pytest.raises(DtypeError, match="expected a tensor"):
        table([1, 2])
    assert torch.equal(table.eval()(torch.tensor([5], dtype=torch.int32)), table(torch.tensor([5])))
    assert table(torch.empty(0, 2, dtype=torch.int64)).shape == (0, 2, D)


@pytest.mark.parametrize("method", BUDGETED)
def test_a_budget_that_cannot_be_met_is_refused_with_the_smallest_that_can(method):
    with pytest.raises(BudgetError, match=rf"{method} of {N} rows of {D} takes at least \d+ bytes") as refused:
        made(method, bytes=1)
    smallest = int(str(refused.value).split("at least ")[1].split()[0])
    table = made(method, bytes=smallest)
    assert table.nbytes <= smallest
    with pytest.raises(BudgetError):
        made(method, bytes=smallest - 1)


@pytest.mark.parametrize("method", BUDGETED)
def test_arguments_outside_their_range(method):
    cls = tables.METHODS[method]
    with pytest.raises(ParameterError, match="not both"):
        cls(N, D, ratio=2, bytes=100)
    for wrong in (0, -3, 2.5, True, None, "7"):
        with pytest.raises(ParameterError, match="num_embeddings"):
            cls(wrong, D, ratio=2)
        if wrong is not None:
            with pytest.raises(ParameterError, match="bytes"):
                cls(N, D, bytes=wrong)
    for wrong in (0, float("nan"), "x"):
        with pytest.raises(ParameterError, match="ratio"):
            cls(N, D, ratio=wrong)
    with pytest.raises(ParameterError, match="padding_idx"):
        made(method, padding_idx=N)


@pytest.mark.parametrize("method", BUDGETED)
def test_padding_is_zero_and_has_no_gradient(method):
    table = made(method, padding_idx=-1)
    assert table.padding_idx == N - 1
    out = table(torch.tensor([[N - 1, 0], [1, N - 1]]))
    assert torch.equal(out[0, 0], torch.zeros(D))
    assert torch.equal(out[1, 1], torch.zeros(D))
    padded = table(torch.tensor([N - 1, N - 1]))
    if padded.requires_grad:
        padded.sum().backward()
        assert all(p.grad is None or not p.grad.to_dense().any() for p in table.parameters())


def reference_bags(rows, ids, bounds, mode, weights, padding):
    bags = []
    for start, stop in itertools.pairwise(bounds):
        kept = [i for i in range(start, stop) if ids[i] != padding]
        if not kept:
            bags.append(np.zeros(rows.shape[1]))
            continue
        taken = rows[ids[kept]].astype(np.float64)
        if weights is not None:
            taken = taken * weights[kept][:, None]
        bags.append({"sum": taken.sum(0), "mean": taken.mean(0), "max": taken.max(0)}[mode])
    return np.array(bags)


@pytest.mark.parametrize("padding", [None, 3])
@pytest.mark.parametrize("method", BUDGETED)
def test_bags_are_those_of_the_rows(method, padding):
    table = made(method, padding_idx=padding).eval()
    frozen, rows = table.freeze(), table.decoded()
    rng = np.random.default_rng(5)
    ids = rng.integers(0, N, 40)
    ids[[4, 5, 17]] = 3
    bounds = np.array([0, 0, 4, 6, 6, 20, 39, 40])
    weights = rng.normal(size=40).astype(np.float32)
    for mode in ("sum", "mean", "max"):
        factors = weights if mode == "sum" else None
        expected = reference_bags(rows, ids, bounds, mode, factors, padding)
        bag = table.bag(mode)
        given = None if factors is None else torch.from_numpy(factors)
        pooled = bag(torch.from_numpy(ids), torch.from_numpy(bounds[:-1]), given)
        np.testing.assert_allclose(pooled.detach().numpy(), expected, rtol=1e-4, atol=1e-5)
        found = frozen.bag(ids, bounds[:-1], weights=factors, mode=mode)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        last = table.bag(mode, include_last_offset=True)(torch.from_numpy(ids), torch.from_numpy(bounds), given)
        assert torch.equal(last, pooled)
        np.testing.assert_array_equal(
            frozen.bag(ids, bounds, weights=factors, mode=mode, include_last_offset=True), found
        )
        square = table.bag(mode)(torch.from_numpy(ids.reshape(8, 5)))
        expected = reference_bags(rows, ids, np.arange(0, 41, 5), mode, None, padding)
        np.testing.assert_allclose(square.detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    assert table.bag("sum")(torch.empty(0, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)).eq(0).all()
    assert frozen.bag([], [0, 0, 0]).tolist() == [[0.0] * D] * 3
    assert frozen.bag([], []).shape == (0, D)
    assert table.bag("max")(torch.empty(2, 0, dtype=torch.int64)).tolist() == [[0.0] * D] * 2


def test_bags_are_those_of_torch():
    table = made("Hash", n=50, bytes=4 * 50 * D, padding_idx=7)
    ids, offsets = some_ids(50, (30,)), torch.tensor([0, 0, 11, 30])
    ids[[2, 12]] = 7
    weights = torch.randn(30)
    for mode in ("sum", "mean", "max"):
        layer = torch.nn.EmbeddingBag(50, D, mode=mode, padding_idx=7, _weight=table.weight.detach().clone())
        factors = weights if mode == "sum" else None
        torch.testing.assert_close(table.bag(mode)(ids, offsets, factors), layer(ids, offsets, factors))
    layer = torch.nn.EmbeddingBag(50, D, padding_idx=7, _weight=table.weight.detach().clone())  # of the default mode
    torch.testing.assert_close(table.bag()(ids, offsets), layer(ids, offsets))
    frozen = table.freeze().bag(ids.numpy(), offsets.numpy())
    torch.testing.assert_close(torch.from_numpy(frozen), layer(ids, offsets).detach())
    with pytest.raises(ParameterError, match="mode 'sum'"):
        table.freeze().bag(ids.numpy(), offsets.numpy(), weights=weights.numpy())


def test_bad_bags_are_refused():
    table = made("Hash")
    bag, frozen, ids = table.bag("sum"), table.freeze(), some_ids(shape=(6,))
    for offsets, error in (
        ([1, 3], ParameterError), ([0, 4, 2], ParameterError), ([0, 9], ParameterError), ([[0]], ShapeError),
        ([0.0], DtypeError), (None, ShapeError),
    ):  # fmt: skip
        with pytest.raises(error):
            bag(ids, None if offsets is None else torch.tensor(offsets))
        with pytest.raises(error):
            frozen.bag(ids.numpy(), offsets)
    with pytest.raises(ShapeError, match="bags already"):
        bag(some_ids(), torch.tensor([0]))
    with pytest.raises(ShapeError, match="bags already"):
        frozen.bag(some_ids().numpy(), [0])
    with pytest.raises(ParameterError, match="mode"):
        table.bag("median")
    with pytest.raises(ParameterError, match="mode 'sum'"):
        table.bag("max")(some_ids(), None, torch.ones(5, 7))
    with pytest.raises(ShapeError, match="weights of shape"):
        frozen.bag(ids.numpy(), [0], weights=np.ones(5, np.float32), mode="sum")
    for wrong in (torch.ones(6, dtype=torch.int64), [1.0] * 6):
        with pytest.raises(DtypeError, match="expected a tensor of floating point"):
            bag(ids, torch.tensor([0]), wrong)
    with pytest.raises(DtypeError, match="offsets of list, expected a tensor of int32 or int64"):
        bag(ids, [0])
    with pytest.raises(ShapeError, match="ids that are no array"):
        frozen([[1], [2, 3]])


@pytest.mark.parametrize("method", [name for name in BUDGETED if tables.METHODS[name].has_sparse_gradients])
def test_sparse_gradients_are_the_dense_ones(method):
    ids = some_ids()
    grads = []
    for sparse in (False, True):
        table = made(method, sparse=sparse, padding_idx=2)
        (table(ids) * torch.arange(1.0, D + 1)).sum().backward()
        found = [p.grad for p in table.parameters() if p.grad is not None]
        assert found
        assert not sparse or any(g.is_sparse for g in found)
        grads.append([g.to_dense() for g in found])
    for dense, sparse in zip(*grads):
        torch.testing.assert_close(dense, sparse)


@pytest.mark.parametrize("method", [name for name in BUDGETED if not tables.METHODS[name].has_sparse_gradients])
def test_sparse_gradients_where_there_are_none(method):
    with pytest.raises(ParameterError, match="no sparse gradients"):
        made(method, sparse=True)


@pytest.mark.parametrize("method", BUDGETED)
def test_every_row_has_a_sensible_size_at_the_start(method):
    rows = made(method, std=0.1).decoded()
    assert np.isfinite(rows).all()
    assert 0.02 < rows.std() < 0.3


SMOOTH = ("Hash", "CompoEmb", "ROBE", "DHE", "Dedup", "TTRec", "PQ", "RVQ", "AdaptEmb", "MDE")


@pytest.mark.parametrize("method", SMOOTH)
def test_gradients_are_those_of_the_forward_pass(method):
    table = made(method, n=40, d=6, **({"num_hashes": 8, "ratio": 1} if method == "DHE" else {"bytes": 480})).double()
    ids = torch.tensor([0, 5, 39, 5, 17])
    names = [name for name, _ in table.named_parameters()]

    def forward(*values):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.func.functional_call(table, dict(zip(names, values)), (ids,))

    values = [p.detach().clone().requires_grad_() for p in table.parameters()]
    assert torch.autograd.gradcheck(forward, values)


ROUNDED = ("FP16", "INT8", "INT16", "ALPT", "DPQ", "MGQE")


@pytest.mark.parametrize("method", ROUNDED)
def test_gradients_pass_through_rounding(method):
    """The estimate of a rounded row's gradient is that of the row itself."""
    table = made(method)
    ids = some_ids()
    weight = torch.randn(*ids.shape, D)
    (table(ids) * weight).sum().backward()
    expected = torch.zeros(N, D).index_add(0, ids.reshape(-1), weight.reshape(-1, D))
    learned = table.query if hasattr(table, "query") else table.weight
    inside = torch.ones(N, D, dtype=bool)
    if method == "ALPT":  # what is cut to the range has no gradient
        inside = table.weight.detach().abs() < 127 * table.scale.detach()
        assert inside.float().mean() > 0.99
    torch.testing.assert_close(learned.grad[inside], expected[inside])


@pytest.mark.parametrize("method", BUDGETED)
def test_half_tables_and_autocast(method):
    ids = some_ids()
    for dtype in (torch.float16, torch.bfloat16):
        table = made(method).to(dtype).eval()
        rows = table(ids)
        assert rows.dtype == table.bag("sum")(ids).dtype == dtype
        np.testing.assert_allclose(table.freeze()(ids.numpy()), rows.detach().float().numpy(), rtol=0.02, atol=0.02)
    table = tables.METHODS[method](N, D, ratio=RATIO.get(method, 4))
    expected = table.eval()(ids)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(table(ids).float(), expected.float(), rtol=0.1, atol=0.1)
        trained = table.train()(ids).float().sum() + table.penalty()
    if trained.requires_grad:
        trained.backward()


@pytest.mark.parametrize(("n", "d"), [(1, 1), (1, 9), (9, 1), (3, 7)])
@pytest.mark.parametrize("method", BUDGETED)
def test_tables_of_few_rows_and_dimensions(method, n, d):
    for ratio in (0.001, 1, 2, 1e9):
        try:
            table = tables.METHODS[method](n, d, ratio=ratio).finish().eval()
        except BudgetError:
            continue
        frozen = table.freeze()
        assert frozen.nbytes == table.nbytes <= 4 * n * d / ratio
        np.testing.assert_allclose(frozen(np.arange(n)), table.decoded(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["DHE", "TTRec", "ROBE"])
def test_rows_are_made_once_an_id(method):
    table = made(method).eval()
    looked_up = []
    inner = table._made
    table._made = lambda ids: looked_up.append(len(ids)) or inner(ids)
    rows = table(torch.tensor([5, 2, 5, 5, 2]))
    assert looked_up == [2]
    assert torch.equal(rows[0], rows[3])
    torch.testing.assert_close(rows, torch.from_numpy(table.freeze()([5, 2, 5, 5, 2])))


def test_a_bag_tells_what_its_table_is(tmp_path):
    bag = made("Hash", padding_idx=4).bag("max")
    assert (bag.num_embeddings, bag.embedding_dim, bag.padding_idx, bag.nbytes) == (N, D, 4, bag.table.nbytes)
    bag.export(tmp_path / "bag.safetensors")
    assert tables.open(tmp_path / "bag.safetensors").nbytes == bag.nbytes


@pytest.mark.parametrize("name", tables.METHODS)
def test_constructors_show_what_all_methods_take_and_what_is_their_own(name):
    cls = tables.METHODS[name]
    shown = list(inspect.signature(cls).parameters.values())
    shared = ["num_embeddings", "embedding_dim", "ratio", "bytes", "padding_idx", "sparse", "std"]
    assert [each.name for each in shown[:7]] == shared
    assert all(each.kind is each.KEYWORD_ONLY for each in shown[2:])
    documented = "\n".join(inspect.getdoc(base) or "" for base in cls.__mro__)
    assert all(re.search(rf"^.*\b{each.name}\b.*\n    ", documented, re.MULTILINE) for each in shown[7:])
    assert ("frequencies" in inspect.signature(cls).parameters) == cls.uses_frequencies
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        cls(100, 8, ratio=2, colour="red")
