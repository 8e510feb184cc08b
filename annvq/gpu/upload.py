"""Copying arrays of the host, such as mapped sections of files, to a device."""

from __future__ import annotations

import numpy as np
import torch

_CHUNK = 1 << 26  # bytes that are copied at a time, through page-locked memory
_SIGNED = {np.dtype(np.uint16): np.int16, np.dtype(np.uint32): np.int32, np.dtype(np.uint64): np.int64}


def uploaded(array: np.ndarray, device: torch.device, *, on_host: bool = False) -> torch.Tensor:
    """Return a copy of an array on a device or, page-locked, on the host, from where the device reads it.

    Unsigned numbers of more than 8 bits become signed ones with the same bits, which torch can do more with.
    """
    array = array.view(_SIGNED.get(array.dtype, array.dtype))
    dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
    on_gpu = device.type == "cuda"
    if on_host or not on_gpu:
        made = torch.empty(array.shape, dtype=dtype, pin_memory=on_gpu)
        made.numpy()[...] = array
        return made
    made = torch.empty(array.shape, dtype=dtype, device=device)
    flat, source = made.reshape(-1), array.reshape(-1)
    size = max(1, _CHUNK // array.dtype.itemsize)
    staging = torch.empty(min(size, len(flat)), dtype=dtype, pin_memory=True)
    for start in range(0, len(flat), size):
        part = staging[: min(size, len(flat) - start)]
        part.numpy()[...] = source[start : start + len(part)]
        flat[start : start + len(part)].copy_(part)  # waits, so that the staging memory can be filled again
    return made


def by_words(rows: np.ndarray, made: torch.Tensor) -> None:
    """Copy rows of bytes (n, 4 words) uint8 to (words, n) int32 on a device, so that neighbouring rows lie together."""
    words = made.shape[0]
    if not words:
        return
    size = max(1, _CHUNK // (4 * words))
    for start in range(0, len(rows), size):
        part = np.ascontiguousarray(rows[start : start + size]).view(np.uint32)
        made[:, start : start + len(part)] = uploaded(part, made.device).T
