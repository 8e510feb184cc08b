"""Checkpoints: every state of every method goes into a new table of the same arguments, in a new process."""

import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

import table_stages as stages
import torch
from safetensors.torch import save_file

from annvq import tables
from annvq.errors import DtypeError, ParameterError, ShapeError
from annvq.tables.structure.mixed import MixedTable
from annvq.tables.structure.sparse import SparseTable

SEARCHED = ("AutoDim", "OptEmbed", "DNIS", "AutoSrh", "DeepLight", "PEP")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """These tables are too small for several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of this process and, under other names, of one that loaded the states."""
    folder = tmp_path_factory.mktemp("states")
    for method in tables.METHODS:
        for stage in stages.STAGES:
            model, name = stages.at(stage, method), f"{method}-{stage}"
            save_file(model.state_dict(), folder / f"{name}.safetensors")
            torch.save(model.state_dict(), folder / f"{name}.pt")
            stages.written(model, folder, name)
    done = subprocess.run(
        [sys.executable, stages.__file__, folder], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
@pytest.mark.parametrize("stage", stages.STAGES)
@pytest.mark.parametrize("method", tables.METHODS)
def test_a_new_process_goes_on_from_every_state(method, stage, kind, folder):
    name = f"{method}-{stage}"
    expected, found = np.load(folder / f"{name}.npy"), np.load(folder / f"{name}-{kind}.npy")
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1], err_msg="after more training")
    if method != "RaBitQ":  # which nothing is trained of
        assert not np.array_equal(expected[0], expected[1])
    exported = folder / f"{name}.table"
    assert exported.exists() is (stage == "finished" or method not in SEARCHED)
    if exported.exists():
        assert exported.read_bytes() == (folder / f"{name}-{kind}.table").read_bytes()


@pytest.mark.parametrize("method", SEARCHED)
def test_a_finished_state_finishes_the_table_where_it_stands(method):
    model = stages.at("finished", method)
    other = stages.made(method).requires_grad_(False)
    held, calls = other.table, []
    held.register_forward_hook(lambda *_: calls.append(1))
    other.load_state_dict(model.state_dict())
    assert other.table is held
    assert (type(held), held.made_by, held.is_final) == (type(model.table), method, True)
    assert isinstance(held, SparseTable | MixedTable)
    assert not any(parameter.requires_grad for parameter in held.parameters())
    assert held.nbytes == model.table.nbytes <= held.budget_bytes
    held(torch.tensor([1]))
    assert calls == [1]
    assert held.finish() is held
    with pytest.raises(ParameterError, match="still searching, and this one is finished"):
        other.load_state_dict(stages.made(method).state_dict())
    other.load_state_dict(stages.at("finished", method).state_dict(), assign=True)
    assert torch.equal(other.table(torch.arange(stages.N)), model.table(torch.arange(stages.N)))


@pytest.mark.parametrize("stage", ["trained", "finished"])
@pytest.mark.parametrize("method", tables.METHODS)
def test_a_table_is_made_where_torch_says_and_takes_a_state_there(method, stage):
    model = stages.at(stage, method)
    with torch.device("meta"):
        other = stages.made(method)
    held = [*other.table.parameters(), *other.table.buffers()]
    assert {tensor.device.type for tensor in held} == {"meta"}
    other.load_state_dict(model.state_dict(), assign=True)
    ids = torch.arange(stages.N)
    assert torch.equal(other.eval().table(ids), model.eval().table(ids))


def test_a_state_goes_into_a_bag():
    model = stages.at("finished", "AutoDim")
    bag = stages.made("AutoDim").table.bag("sum")
    bag.load_state_dict(model.table.bag("sum").state_dict())
    ids = torch.arange(stages.N)
    assert torch.equal(bag.eval()(ids[:, None]), model.table(ids))


@pytest.mark.parametrize("stage", stages.STAGES)
def test_states_of_other_methods_are_refused(stage):
    states = {method: stages.at(stage, method).table.state_dict() for method in tables.METHODS}
    for method in tables.METHODS:
        for other, state in states.items():
            table = stages.made(method).table
            if other == method:
                table.load_state_dict(state)
                continue
            before = type(table)
            with pytest.raises(ParameterError, match=rf"method '{other}', and this one has '{method}'"):
                table.load_state_dict(state)
            assert type(table) is before


@pytest.mark.parametrize("stage", ["new", "finished"])
@pytest.mark.parametrize("method", tables.METHODS)
def test_states_of_other_sizes_are_refused(method, stage):
    cls, state = tables.METHODS[method], stages.at(stage, method).table.state_dict()
    ratio = stages.RATIO.get(method, 3)
    for n, d, name in ((stages.N + 1, stages.D, "num_embeddings"), (stages.N, stages.D + 1, "embedding_dim")):
        table = cls(n, d, ratio=0.2 if ratio < 1 else 1.5)
        before = type(table)
        with pytest.raises(ShapeError, match=f"{name}="):
            table.load_state_dict(state)
        assert type(table) is before


@pytest.mark.parametrize(
    ("method", "first", "second", "error", "message"),
    [
        ("Hash", {"ratio": 3}, {"ratio": 4}, ShapeError, "weight of the state has shape"),
        ("PEP", {"ratio": 3}, {"ratio": 6}, ParameterError, "this one was made for 960: make the table with"),
        ("AutoDim", {"ratio": 2}, {"ratio": 5}, ParameterError, "this one was made for 1152"),
        ("MDE", {"ratio": 2}, {"ratio": 5}, ParameterError, "this one was made for 1152"),
        ("ROBE", {"ratio": 3, "seed": 1}, {"ratio": 3}, ParameterError, "seed 1, and this one has 0"),
        ("ROBE", {"ratio": 3, "Z": 4}, {"ratio": 3}, ParameterError, "Z 4, and this one has 1"),
        ("DHE", {"ratio": 0.5, "seed": 1}, {"ratio": 0.5}, ParameterError, "seed 1"),
        ("CompoEmb", {"ratio": 3, "op": "add"}, {"ratio": 3}, ParameterError, "op 'add', and this one has 'mult'"),
        ("DPQ", {"ratio": 0.3, "mode": "sx"}, {"ratio": 0.3}, ParameterError, "mode 'sx'"),
        ("ALPT", {"nbits": 16}, {"nbits": 8}, ParameterError, "bits 16"),
        ("MGQE", {"ratio": 0.3, "top_share": 0.5}, {"ratio": 0.3}, ParameterError, "frequent 60, and this one has 12"),
    ],
)
def test_states_of_other_arguments_are_refused(method, first, second, error, message):
    cls = tables.METHODS[method]
    state = cls(stages.N, stages.D, **first).finish().state_dict()
    table = cls(stages.N, stages.D, **second)
    before = table.state_dict()
    with pytest.raises(error, match=message):
        table.load_state_dict(state)
    assert before.keys() == table.state_dict().keys()


def test_groups_that_were_drawn_otherwise_come_from_the_state():
    for method in ("MDE", "AdaptEmb", "MGQE", "AutoDim", "OptEmbed", "DNIS"):
        table = stages.at("trained", method).table
        plain = tables.METHODS[method](stages.N, stages.D, ratio=stages.RATIO.get(method, 3), padding_idx=5)
        plain.load_state_dict(table.state_dict())
        ids = torch.arange(stages.N)
        assert torch.equal(plain.eval()(ids), table(ids))
        torch.manual_seed(3)
        finished = table.finish().freeze()(ids.numpy())
        torch.manual_seed(3)
        np.testing.assert_array_equal(plain.finish().freeze()(ids.numpy()), finished)


def test_states_that_are_damaged_are_refused():
    state = stages.at("finished", "AutoDim").table.state_dict()
    for name, value in (
        ("group", torch.full_like(state["group"], 77)),
        ("place", torch.zeros_like(state["place"])),
        ("weights.0", state["weights.0"][:-1]),
        ("weights.1", torch.zeros(1, stages.D + 1)),
    ):
        table = stages.made("AutoDim").table
        with pytest.raises(ParameterError, match="do not fit each other and 120 rows of 12"):
            table.load_state_dict({**state, name: value})
        assert type(table) is tables.AutoDim
    for about in (torch.zeros(3), torch.frombuffer(bytearray(b"[1]"), dtype=torch.uint8), "text"):
        with pytest.raises(ParameterError, match="_extra_state of the state is not what a table writes"):
            stages.made("AutoDim").table.load_state_dict({**state, "_extra_state": about})
    whole = stages.made("INT8").table.state_dict()
    with pytest.raises(DtypeError, match=r"weight of the state is of torch\.int32, expected torch\.float32"):
        stages.made("INT8").table.load_state_dict({**whole, "weight": whole["weight"].int()})
    stages.made("INT8").table.load_state_dict({**whole, "weight": whole["weight"].half()})
    with pytest.raises(RuntimeError, match=r'Missing key.*"scale"'):
        stages.made("INT8").table.load_state_dict({name: whole[name] for name in ("weight", "_extra_state")})
