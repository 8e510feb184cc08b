"""Distillation of a trained table's rows into another table by gradient descent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from annvq.learn.runtime import torch

if TYPE_CHECKING:
    from annvq.tables.table import Table

_BATCH = 1024
_WARM = 0.05


def distill(
    table: Table,
    weight: np.ndarray,
    *,
    frequencies: np.ndarray | None = None,
    steps: int = 1000,
    lr: float = 2e-3,
    seed: int = 0,
) -> None:
    """Move a table's parameters towards a trained table's rows: mean squared error, Adam, a rate that falls to 0.

    Parameters
    ----------
    table
        Changed in place; left alone if it has nothing to learn.
    weight
        (n, d) float32.
    frequencies
        (n,): rows are drawn in proportion to these; None: uniformly.
    steps
        Number of steps, of 1,024 rows each.
    lr
        The peak learning rate, which is multiplied by the standard deviation of the rows.
    seed
        Seed of the draws.

    """
    parameters = [p for p in table.parameters() if p.requires_grad]
    if not parameters or not steps:
        return
    rng, target = np.random.default_rng(seed), torch.from_numpy(np.array(weight)).to(parameters[0])
    ends = None if frequencies is None or not frequencies.any() else np.cumsum(frequencies) / frequencies.sum()
    spread = max(float(weight.std()), 1e-12)
    optimizer = torch.optim.Adam(parameters, lr=lr * min(1.0, 10 * spread))
    was_training = table.training
    table.train()
    for step in range(steps):
        share = step / steps
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, 10 * spread) * min(1.0, share / _WARM + 0.01) * (1 - share)
        drawn = rng.random(_BATCH)
        found = drawn * len(weight) if ends is None else np.searchsorted(ends, drawn)
        ids = torch.from_numpy(np.minimum(found.astype(np.int64), len(weight) - 1)).to(target.device)
        loss = (table.rows(ids) - target[ids]).square().mean() / spread**2 + table.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        table.step_end()
    optimizer.zero_grad()
    table.train(was_training)
