"""Memory of a device that runs out, as one clear error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from annvq.errors import DeviceMemoryError

_INTERPRETED = 1 << 34  # bytes that the interpreter's "device" has


def free_bytes(device: torch.device) -> int:
    """Return how many bytes of a device's memory are free."""
    return _INTERPRETED if device.type == "cpu" else torch.cuda.mem_get_info(device)[0]


@contextmanager
def enough_memory(device: torch.device, doing: str) -> Iterator[None]:
    """Raise DeviceMemoryError for torch's own error; ``doing`` says what was done meanwhile."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise DeviceMemoryError(
            f"{device}: out of memory while {doing}, {free_bytes(device):,} bytes are free; other indexes or programs "
            f"there may hold the rest ({error})"
        ) from error
