"""What the processes of a distributed training do together; nothing where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from annvq.learn.runtime import torch

if TYPE_CHECKING:
    from torch import Tensor


def are_several() -> bool:
    """Return whether this process is one of several."""
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def sum_over_processes(values: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes, in place."""
    if are_several():
        torch.distributed.all_reduce(values)
    return values


def from_first(values: Tensor) -> Tensor:
    """Return the first process's tensor, in place: what was drawn at random is then the same everywhere."""
    if are_several():
        torch.distributed.broadcast(values, 0)
    return values


def rows_of_all(rows: Tensor) -> Tensor:
    """Return the rows (n, d) of all processes, in the order of these; n may differ, and be 0."""
    if not are_several():
        return rows
    world = torch.distributed.get_world_size()
    lengths = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(world)]
    torch.distributed.all_gather(lengths, torch.tensor([len(rows)], device=rows.device))
    most = max(int(length) for length in lengths)
    padded = torch.cat([rows, rows.new_zeros(most - len(rows), rows.shape[1])]).contiguous()
    gathered = [torch.empty_like(padded) for _ in range(world)]
    torch.distributed.all_gather(gathered, padded)
    return torch.cat([part[: int(length)] for part, length in zip(gathered, lengths)])
