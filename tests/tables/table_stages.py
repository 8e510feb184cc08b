"""Tables of every method at every stage of a training; run as a program it opens in a new process what was saved."""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from annvq import tables

N, D = 120, 12
RATIO = {"FP16": 2, "INT8": 3, "INT16": 1.8, "DHE": 0.5, "RaBitQ": 2, "ALPT": 2, "DPQ": 0.3, "MGQE": 0.3, "PQ": 0.3,
         "RVQ": 0.3, "Dedup": 2, "TTRec": 2}  # fmt: skip
STAGES = ("new", "trained", "finished")


class Model(torch.nn.Module):
    """Holds a table among other parts."""

    def __init__(self, table):
        super().__init__()
        self.table = table
        self.out = torch.nn.Linear(D, 1)

    def forward(self, ids):
        return self.out(self.table(ids)).square().mean()


def made(method):
    cls = tables.METHODS[method]
    more = {"frequencies": np.arange(N) % 7 + 1.0} if cls.uses_frequencies else {}
    return Model(cls(N, D, ratio=RATIO.get(method, 3), padding_idx=5, **more))


def trained(model, steps=12, seed=1):
    """Train a model for some steps, as a training loop does."""
    table = model.table
    groups = table.parameter_groups(0.05)
    moved = [{**group, "params": [p for p in group["params"] if p.requires_grad]} for group in groups]
    optimizer = torch.optim.SGD(
        [*(group for group in moved if group["params"]), {"params": model.out.parameters()}], 0.05
    )
    torch.manual_seed(seed)
    model.train()
    for _ in range(steps):
        loss = model(torch.randint(N, (40,))) + table.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        table.step_end()
        table.search(lambda: model(torch.randint(N, (40,))))
    return model.eval()


def at(stage, method):
    """Return a model whose table is at a stage."""
    torch.manual_seed(0)
    model = made(method).eval()
    if stage != "new":
        trained(model)
    if stage == "finished":
        model.table = model.table.finish()
        trained(model)
    return model


def written(model, folder, name):
    """Write the rows, the exported file, and the rows after more training."""
    ids = torch.arange(N)
    rows = [model.eval().table(ids).detach().numpy()]
    if model.table.is_final:
        model.table.export(folder / f"{name}.table")
    rows.append(trained(model, seed=2).table(ids).detach().numpy())
    np.save(folder / f"{name}.npy", np.stack(rows))


def reopened(folder):
    """Load every state into a model made anew, and write what it is."""
    for method in tables.METHODS:
        for stage in STAGES:
            name = f"{method}-{stage}"
            torch.manual_seed(99)
            states = load_file(folder / f"{name}.safetensors"), torch.load(folder / f"{name}.pt", weights_only=True)
            for kind, state in zip(("safetensors", "pt"), states):
                model = made(method)
                drawn = torch.get_rng_state()
                assert str(model.load_state_dict(state, strict=True)) == "<All keys matched successfully>"
                assert torch.equal(torch.get_rng_state(), drawn), "loading draws random numbers"
                written(model, folder, f"{name}-{kind}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    reopened(Path(sys.argv[1]))
