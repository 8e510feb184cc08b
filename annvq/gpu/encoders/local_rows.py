"""Refine rows in locally adaptive 8-bit numbers, of vectors on a device."""

from __future__ import annotations

import numpy as np
import torch

from annvq.gpu.kernels.code_sums import sum_squares
from annvq.gpu.kernels.find_ranges import find_ranges
from annvq.gpu.launch import launch
from annvq.gpu.upload import uploaded
from annvq.index.codes.localrows import LocalRowStore
from annvq.kernels.vectors.lvq import LEAST

_ROWS, _RANGES = 128, 16  # of one program: rows whose squares are summed, and whose ranges are found


class LocalRowEncoder:
    """Encodes vectors as `LocalRowStore.encode` does."""

    def __init__(self, store: LocalRowStore, device: torch.device) -> None:
        self._store, self._mean = store, uploaded(np.asarray(store.mean), device)

    def encode(self, vectors: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the rows of vectors (n, d) float32: (n, head + levels d) uint8."""
        n, d = vectors.shape
        moved = vectors - self._mean
        low, high, is_whole = self._ranges(vectors)
        step = _divided(high - low, 255.0)
        is_integral = is_whole & (high - low <= 255.0)
        straddles = (low < 0) & (high > 0) & (step > float(LEAST)) & ~is_integral
        step = torch.where(is_integral, torch.ones_like(step), step)
        step = torch.where(straddles, _divided(high - low, 254.0), step)
        low = torch.where(straddles, -step * torch.ceil(-low / torch.where(straddles, step, 1.0)), low)
        is_wide = step > float(LEAST)
        scale = torch.where(is_wide, torch.full_like(step, 256.0) / torch.where(is_wide, step, 1.0), 0.0)
        places = ((moved - low[:, None]) * scale[:, None] + 128.5).clamp(max=65535.0).to(torch.int32)
        upper, parts = (places >> 8).to(torch.uint8), [low, step]
        if self._store.l2:
            squares = torch.empty_like(low)
            launch(sum_squares, -(-n // _ROWS), upper.T.contiguous(), low, step, n, d, squares, ROWS=_ROWS)
            parts.append(squares)
        head = torch.stack(parts, dim=1).view(torch.uint8).reshape(n, 4 * len(parts))
        levels = [upper] if self._store.levels == 1 else [upper, (places & 255).to(torch.uint8)]
        return {"refine": torch.cat([head, *levels], dim=1)}

    def _ranges(self, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the least and the largest number of vectors less the mean, and whether all numbers are whole."""
        n, d = vectors.shape
        low, high = (torch.empty(n, dtype=torch.float32, device=vectors.device) for _ in range(2))
        are_whole = torch.empty(n, dtype=torch.int32, device=vectors.device)
        launch(
            find_ranges, -(-n // _RANGES), vectors.contiguous(), self._mean, n, d, low, high, are_whole, ROWS=_RANGES
        )
        return low, high, are_whole > 0


def _divided(numbers: torch.Tensor, by: float) -> torch.Tensor:
    """Return numbers divided by one; on a GPU, torch would multiply them with its reciprocal."""
    return numbers / torch.full_like(numbers, by)
