"""Where training runs: on the CPU, or on GPUs through accelerate, with one process each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.errors import MissingExtraError
from annvq.learn.runtime import torch
from annvq.learn.training import processes

if TYPE_CHECKING:
    from torch import Tensor


class Devices:
    """The device of this process, and what its processes do together (``accelerate launch`` starts several).

    Processes that are a group of torch.distributed's already are taken as they are. Every process holds the whole index
    and searches it; each takes its share of a batch's queries, and their gradients are averaged, so that all students
    stay the same. The first writes all files. The encoder runs in bfloat16 on a GPU; scores and codebooks stay float32
    everywhere.
    """

    def __init__(self) -> None:
        self._accelerator: Any = None
        self._on_gpu = torch.cuda.is_available()
        if self._on_gpu or int(os.environ.get("WORLD_SIZE", "1")) > 1:
            try:
                from accelerate import Accelerator
            except ImportError:
                raise MissingExtraError("accelerate", "train") from None
            self._accelerator = Accelerator(cpu=not self._on_gpu)

    @property
    def device(self) -> Any:
        """The torch device."""
        return torch.device("cpu") if self._accelerator is None else self._accelerator.device

    @property
    def of_search(self) -> str:
        """The device that the codes being learned are searched on: the same GPU, where Triton is installed."""
        return str(self.device) if self.device.type == "cuda" and find_spec("triton") is not None else "cpu"

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and reports."""
        return processes.number() == 0

    def by_first(self, action: Callable[[], object]) -> None:
        """Let the first process write files; see `annvq.learn.training.processes.by_first`."""
        processes.by_first(action, self.device)

    def check_alike(self, text: str, what: str) -> None:
        """Raise ParameterError if the processes do not all have the same text."""
        processes.check_alike(text, what, self.device)

    def from_first(self, value: Tensor) -> Tensor:
        """Return the first process's tensor, on the CPU."""
        return processes.from_first(value.to(self.device).contiguous()).cpu() if processes.are_several() else value

    def tensor(self, array: np.ndarray) -> Tensor:
        """Return an array on the device."""
        return torch.from_numpy(array).to(self.device)

    def mixed_precision(self) -> AbstractContextManager:
        """Return the context that an encoder runs in."""
        return torch.autocast("cuda", dtype=torch.bfloat16) if self._on_gpu else nullcontext()

    def share(self, rows: np.ndarray) -> np.ndarray:
        """Return this process's part of a batch's queries; all of them if there are fewer than processes."""
        count = processes.process_count()
        return rows if len(rows) < count else rows[processes.number() :: count]

    def average_gradients(self, parameters: Iterable[Any]) -> None:
        """Replace gradients with their mean over the processes."""
        if not processes.are_several():
            return
        for parameter in parameters:
            if parameter.requires_grad:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                parameter.grad = processes.sum_over_processes(parameter.grad) / processes.process_count()
