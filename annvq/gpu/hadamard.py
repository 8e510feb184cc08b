"""The randomized Hadamard rotation of `annvq.kernels.vectors.hadamard`, with the same sums, on a device."""

from __future__ import annotations

import numpy as np
import torch

from annvq.kernels.vectors.hadamard import ROUNDS

_REGISTER = 16  # coordinates that the CPU transforms before it scales


def rotated_by_signs(vectors: torch.Tensor, signs: np.ndarray) -> torch.Tensor:
    """Return rotated vectors, (n, D) float32, of (n, d) float32; ``signs`` is (4, D / 8) uint8."""
    D = 8 * signs.shape[1]
    row = torch.nn.functional.pad(vectors, (0, D - vectors.shape[1]))
    flips = np.where(np.unpackbits(signs, axis=1, bitorder="little"), np.float32(-1), np.float32(1))
    negated = torch.from_numpy(flips).to(vectors.device)
    window = 1 << (D.bit_length() - 1)
    for turn in range(ROUNDS):
        row = row * negated[turn]
        start = (D - window) * (turn % 2)
        row[:, start : start + window] = _transformed(row[:, start : start + window])
        if window < D:
            x, y = row[:, : D // 2], row[:, D // 2 :]
            scale = float(np.float32(np.sqrt(0.5)))
            row = torch.cat([(x + y) * scale, (x - y) * scale], dim=1)
    return row


def _transformed(rows: torch.Tensor) -> torch.Tensor:
    """Return the Walsh-Hadamard transforms of rows (n, power of two), scaled to be orthonormal."""
    length, stride = rows.shape[1], 1
    scale = float(np.float32(1.0 / np.sqrt(np.float64(length))))
    while stride < length:
        pairs = rows.reshape(len(rows), -1, 2, stride)
        x, y = pairs[:, :, 0], pairs[:, :, 1]
        rows = torch.stack([x + y, x - y], dim=2).reshape(len(rows), length)
        stride *= 2
        if stride == _REGISTER:
            rows = rows * scale
    return rows
