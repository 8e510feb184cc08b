"""Two processes with half a batch each learn the codebook that one learns from the whole."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from annvq.learn.training.processes import are_several, from_first, rows_of_all, sum_over_processes
from annvq.tokenizers import EMA, Gradient, KMeansStart, Learning, ResidualVQ, Revival, VectorQuantizer


def made():
    torch.manual_seed(0)
    return VectorQuantizer(4, 12, Learning(update=EMA(0.7), start=KMeansStart(), revival=Revival(share=0.2)))


def trained(rank, world, folder):
    """Train on this process's share of the rows; the first process's share of one step is empty."""
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(str(folder / "store"), world)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=world)
    batches = np.load(folder / "batches.npy")
    quantizer = made()
    torch.manual_seed(rank)  # random numbers differ between processes, as they do in trainings
    for step, batch in enumerate(batches):
        cut = 0 if step == 1 else 10
        quantizer(torch.from_numpy(batch[:cut] if rank == 0 else batch[cut:]))
    arrays = {name: value.numpy() for name, value in quantizer.state_dict().items()}
    np.savez(folder / f"{rank}.npz", **arrays, **stages_trained(batches[:, 30 * rank : 30 * rank + 30]))
    torch.distributed.destroy_process_group()


def stages_trained(batches):
    """Return parameters after training by gradients with stages that are left out."""
    stages = ResidualVQ(4, 8, 3, Learning(update=Gradient()), code_dim=2, quantizer_dropout=1.0)
    parallel = torch.nn.parallel.DistributedDataParallel(stages, find_unused_parameters=True)
    optimizer = torch.optim.SGD(stages.parameters(), 0.1)
    for batch in torch.from_numpy(batches).repeat(3, 1, 1):
        found = parallel(batch)
        optimizer.zero_grad()
        (found.loss + (found.z_q - batch).square().mean()).backward()
        optimizer.step()
    return {name: value.detach().numpy() for name, value in stages.named_parameters()}


def test_statistics_are_summed_over_processes(tmp_path):
    if not torch.distributed.is_available():
        pytest.skip("torch without distributed")
    rng = np.random.default_rng(0)
    batches = rng.normal(size=(4, 60, 4)).astype(np.float32)
    np.save(tmp_path / "batches.npy", batches)
    torch.multiprocessing.spawn(trained, (2, tmp_path), nprocs=2)
    first, second = np.load(tmp_path / "0.npz"), np.load(tmp_path / "1.npz")
    alone = made()
    for batch in batches:
        alone(torch.from_numpy(batch))
    for name, value in alone.state_dict().items():
        np.testing.assert_array_equal(first[name], second[name])
        if (alone.counts > 0.2).all():
            np.testing.assert_allclose(first[name], value.numpy(), rtol=1e-4, atol=1e-5)
    names = [name for name in first.files if name.startswith("stages.")]
    assert len(names) == 3 * 5
    for name in names:
        np.testing.assert_array_equal(first[name], second[name])


def test_one_process_has_nothing_to_share():
    rows = torch.randn(3, 2)
    assert not are_several()
    assert rows_of_all(rows) is rows
    assert sum_over_processes(rows) is rows
    assert from_first(rows) is rows
