"""Second lists of vectors on a device (SOAR)."""

from __future__ import annotations

import numpy as np
import torch

from annvq.gpu.kernels.choose_second_lists import choose_second_lists
from annvq.gpu.launch import launch
from annvq.gpu.trained import quantized
from annvq.gpu.training.points import PROPOSED, SitesThere
from annvq.gpu.upload import uploaded
from annvq.index.codes.spill import WEIGHT, SecondLists


class SecondListsThere:
    """Chooses second lists as `SecondLists.of` does."""

    def __init__(self, lists: SecondLists, device: torch.device) -> None:
        self._sites, self._between = SitesThere(lists.sites, device), uploaded(np.asarray(lists.between), device)

    def of(self, rows: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return another list (n,) int32 for every row (n, d) float32 of the lists ``labels`` (n,) int64."""
        sites, (n, d) = self._sites, rows.shape
        levels, steps, _ = quantized(rows, sites.matrix, 0)
        lists = torch.empty(n, dtype=torch.int32, device=rows.device)
        tile, columns, dims = PROPOSED
        launch(
            choose_second_lists, -(-n // tile), rows, levels, steps, n, d, levels.shape[1], *sites.matrix[1:],
            len(sites.centroids), sites.centroids, sites.matrix.shift, self._between, self._between.shape[1], labels,
            float(np.float32(-0.5) * np.float32(WEIGHT)), lists, ROWS=tile, COLUMNS=columns, DIMS=dims,
        )  # fmt: skip
        return lists
