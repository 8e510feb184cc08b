"""What the processes of distributed training do together; with a single process, nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from annvq.errors import ParameterError, StorageError
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


def number() -> int:
    """Return which of the processes this is, from 0."""
    return torch.distributed.get_rank() if are_several() else 0


def process_count() -> int:
    """Return how many processes there are."""
    return torch.distributed.get_world_size() if are_several() else 1


def by_first(action: Callable[[], object], device: Any) -> None:
    """Let the first process do something, such as writing a file; the others return when it is done.

    Raises
    ------
    Exception
        In the first process: what ``action`` raises.
    StorageError
        In the others: the first did not do it.

    """
    if not are_several():
        action()
        return
    failed = torch.zeros(1, device=device)
    try:
        if number() == 0:
            failed += 1
            action()
            failed.zero_()
    finally:
        sum_over_processes(failed)
    if number() and failed:
        raise StorageError("the first process of this training did not write its files: its own error says why")


def check_alike(text: str, what: str, device: Any) -> None:
    """Raise ParameterError, in all processes, if they do not all have the same text."""
    if not are_several():
        return
    own = torch.tensor(list(hashlib.sha256(text.encode()).digest()), dtype=torch.int64, device=device)
    found = rows_of_all(own[None])
    if bool((found != found[0]).any()):
        raise ParameterError(f"the processes of this training differ in {what}: expected the same in all")
