"""Vectors on a device: their nearest centroids, and the sums of those of each centroid."""

from __future__ import annotations

import numpy as np
import torch

from annvq.gpu.kernels.label_rows import decide_labels, propose_labels
from annvq.gpu.kernels.sum_clusters import sum_clusters
from annvq.gpu.launch import launch
from annvq.gpu.trained import BytesThere, in_bytes, quantized
from annvq.gpu.upload import uploaded
from annvq.kernels.clusters.propose import MARGIN, ByteSites

PROPOSED = (64, 128, 64)  # rows, centroids and dimensions that a program multiplies at a time
_DECIDED = 16  # rows of a program
_PLACES = 8  # for the centroids that a row's nearest is decided among; few rows have more
_AT_ONCE = 1 << 26  # places that lie in memory together
_DIMS = 128  # of a program that sums


class SitesThere:
    """Centroids that are prepared for labels, on a device."""

    def __init__(self, sites: ByteSites, device: torch.device) -> None:
        self.matrix: BytesThere = in_bytes(sites.matrix, sites.shift, len(sites.centroids), device)
        self.centroids = uploaded(np.asarray(sites.centroids), device)
        self.penalties = uploaded(np.asarray(sites.penalties), device)
        self.longest, self.coarsest = float(sites.longest), float(sites.coarsest)


def labels_there(rows: torch.Tensor, sites: SitesThere) -> torch.Tensor:
    """Return the nearest centroid (n,) int32 of every row (n, d) float32, as `labels_of` finds it."""
    return _decided(rows, quantized(rows, sites.matrix, 2), sites, _PLACES)


def _decided(rows: torch.Tensor, in_levels: tuple[torch.Tensor, ...], sites: SitesThere, places: int) -> torch.Tensor:
    """Return labels of rows whose bytes, steps and lengths are given; those with more centroids are done again."""
    (n, d), k, device = rows.shape, len(sites.centroids), rows.device
    proposed = torch.empty((n, places), dtype=torch.int32, device=device)
    counts, labels = (torch.empty(n, dtype=torch.int32, device=device) for _ in range(2))
    tile, columns, dims = PROPOSED
    width = in_levels[0].shape[1]
    launch(
        propose_labels, -(-n // tile), *in_levels, n, width, *sites.matrix[1:], k, float(MARGIN), sites.coarsest,
        sites.longest, proposed, counts, PLACES=places, ROWS=tile, COLUMNS=columns, DIMS=dims,
    )  # fmt: skip
    launch(
        decide_labels, -(-n // _DECIDED), rows, n, d, sites.centroids, sites.penalties, proposed,
        counts.clamp(max=places), labels, PLACES=places, ROWS=_DECIDED,
    )  # fmt: skip
    most = int(counts.max()) if n else 0
    if most > places:
        wider = 1 << (most - 1).bit_length()
        for some in torch.nonzero(counts > places)[:, 0].split(max(1, _AT_ONCE // wider)):
            again = tuple(part[some].contiguous() for part in in_levels)
            labels[some] = _decided(rows[some].contiguous(), again, sites, wider)
    return labels


class PointsThere:
    """Vectors (n, d) float32 that k-means learns from, on a device."""

    def __init__(self, rows: np.ndarray, device: torch.device) -> None:
        self._rows = uploaded(rows, device)

    def labels(self, sites: ByteSites) -> np.ndarray:
        """Return the nearest centroid of every vector, (n,) int32, as `labels_of` does, to the bit."""
        return labels_there(self._rows, SitesThere(sites, self._rows.device)).cpu().numpy()

    def sums(self, order: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Return the sums (k, d) float64 of the members of clusters, as `sum_members` does, to the bit."""
        (_, d), device = self._rows.shape, self._rows.device
        sums = torch.empty((len(starts) - 1, d), dtype=torch.float64, device=device)
        launch(
            sum_clusters, (len(sums), -(-d // _DIMS)), self._rows, d, uploaded(order, device),
            uploaded(np.ascontiguousarray(starts, np.int64), device), sums, DIMS=_DIMS,
        )  # fmt: skip
        return sums.cpu().numpy()
