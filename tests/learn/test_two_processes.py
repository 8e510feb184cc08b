"""Two processes learn together: the first alone writes, and all return the same index."""

import os
import socket

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pytrec_eval")
pytest.importorskip("accelerate")

import torch
from small_problem import made_problem

import annvq
from annvq.errors import ParameterError, StorageError
from annvq.learn import RepCONC

STARTS = ("as a group of torch's", "by accelerate")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def begun(rank, how, folder, port):
    """Make this one of two processes."""
    torch.set_num_threads(1)
    if how == STARTS[0]:
        store = torch.distributed.FileStore(str(folder / "store"), 2)
        torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    else:  # what `accelerate launch` sets
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
        os.environ |= {**place, "RANK": str(rank), "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"}


def learned(rank, how, folder, port):
    """Learn, go on from what is there, and keep what this process saw."""
    begun(rank, how, folder, port)
    documents, queries, pairs = made_problem(n=400, queries=300)
    method = RepCONC(recipe="PQ4x4", epochs=1, batch=64)
    asked = {"relevance": pairs, "threads": 1, "out": folder / "out"}
    first = method.fit(documents, queries, **asked)
    again = method.fit(documents, queries, **asked)  # nothing is left to learn: saved at once
    found = [made.index.search(made.queries(queries), 5) for made in (first, again)]
    assert (folder / "out" / "history.json").exists()
    with annvq.open(folder / "out" / "index") as opened:
        saved = opened.search(first.queries(queries), 5)
    np.savez(folder / f"{rank}.npz", ids=np.stack([hits.ids for hits in (*found, saved)]), scores=found[0].scores)
    again.save(folder / "elsewhere")
    if rank == 1:
        documents = documents * 0.5
    with pytest.raises(ParameterError, match="differ in what they learn from"):
        method.fit(documents, queries, relevance=pairs, threads=1)
    if rank == 0:
        (folder / "file").write_text("")
    torch.distributed.barrier()
    with pytest.raises(StorageError, match="is a file" if rank == 0 else "the first process of this training did not"):
        again.save(folder / "file")
    torch.distributed.barrier()  # neither leaves while the other may still talk to it
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("how", [STARTS[0], pytest.param(STARTS[1], marks=pytest.mark.slow)])
def test_the_first_process_writes_and_all_return_the_same(how, tmp_path):
    if not torch.distributed.is_available():
        pytest.skip("torch without distributed")
    torch.multiprocessing.spawn(learned, (how, tmp_path, free_port()), nprocs=2)
    first, second = np.load(tmp_path / "0.npz"), np.load(tmp_path / "1.npz")
    np.testing.assert_array_equal(first["ids"], second["ids"])
    np.testing.assert_array_equal(first["scores"], second["scores"])
    for found in first["ids"][1:]:
        np.testing.assert_array_equal(found, first["ids"][0])
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"index", "adapter.npy", "history.json", "stage-0", "stage-1"}
    assert not [name for name in names if name.endswith(".tmp")]
    with annvq.open(tmp_path / "elsewhere" / "index", mode="rw") as opened:
        opened.verify()
