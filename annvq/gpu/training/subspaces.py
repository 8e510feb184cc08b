"""Product codebooks that are learned on a device: k-means in all sub-spaces at a time."""

from __future__ import annotations

import numpy as np
import torch

from annvq.gpu.kernels.label_sub_vectors import label_sub_vectors
from annvq.gpu.kernels.sum_clusters import sum_points
from annvq.gpu.launch import launch
from annvq.gpu.upload import uploaded
from annvq.kernels.clusters.lloyd import reseed
from annvq.kernels.registers.tiles import LANES

ROWS, ENTRIES = 128, 16  # of a program at a time
_PAIR = 2  # dimensions that are summed in four parts


def learned_codebooks(rows: np.ndarray, start: np.ndarray, niter: int, device: torch.device) -> np.ndarray:
    """Return what `annvq.codebooks.product.train_codebooks` returns, to the bit.

    Parameters
    ----------
    rows
        (n, d) float32, n >= 1.
    start
        (M, ksub, dsub) float32, the first codebooks.
    niter
        The maximum number of Lloyd's iterations in a sub-space.

    """
    M, _, dsub = start.shape
    shifts = np.zeros(M * dsub, np.float32)
    shifts[: rows.shape[1]] = rows.mean(axis=0, dtype=np.float64)
    spaces = _SubSpaces(uploaded(rows, device), uploaded(shifts, device), start - shifts.reshape(M, 1, dsub))
    active = list(range(M))
    for _ in range(niter):
        active = spaces.improve(active)
        if not active:
            break
    return spaces.codebooks.cpu().numpy() + shifts.reshape(M, 1, dsub)


class _SubSpaces:
    """The points of M sub-spaces, their codebooks (M, ksub, dsub), and the entries that are nearest to the points."""

    def __init__(self, rows: torch.Tensor, shifts: torch.Tensor, codebooks: np.ndarray) -> None:
        (n, d), (M, _, dsub), device = rows.shape, codebooks.shape, rows.device
        self.points = torch.zeros((M * dsub, n), dtype=torch.float32, device=device)
        self.points[:d] = (rows - shifts[:d]).T
        self.codebooks = uploaded(codebooks, device)
        self.labels = torch.full((M, n), -1, dtype=torch.int32, device=device)
        self.errors = torch.empty((M, n), dtype=torch.float32, device=device)

    def improve(self, active: list[int]) -> list[int]:
        """Do an iteration in some sub-spaces, and return those in which something changed."""
        spaces = torch.tensor(active, device=self.points.device)
        changed = self._label(spaces)[spaces]
        counts = self._move(spaces)
        unused = (counts == 0).sum(dim=1)
        changes, empty = changed.tolist(), unused.tolist()
        for place, (space, number) in enumerate(zip(active, empty, strict=True)):
            if number:
                changes[place] += self._reseed(space, number, counts[place].cpu().numpy())
        return [space for space, number in zip(active, changes, strict=True) if number]

    def _label(self, spaces: torch.Tensor) -> torch.Tensor:
        """Find the nearest entry of every point, and return how many points of each sub-space have a new one."""
        n, (M, ksub, dsub) = self.points.shape[1], self.codebooks.shape
        squares = torch.zeros((M, ksub), dtype=torch.float64, device=self.points.device)
        for i in range(dsub):  # in the order in which the CPU adds
            squares += self.codebooks[:, :, i].double().square()
        changed = torch.zeros(M, dtype=torch.int32, device=self.points.device)
        launch(
            label_sub_vectors, (-(-n // ROWS), len(spaces)), self.points, n, dsub, spaces, self.codebooks,
            (-0.5 * squares).float(), ksub, self.labels, self.errors, changed,
            TRAINING=True, ROWS=ROWS, ENTRIES=ENTRIES,
        )  # fmt: skip
        return changed

    def _move(self, spaces: torch.Tensor) -> torch.Tensor:
        """Move entries to the means of their points, and return the numbers of points, (A, ksub) int64."""
        n, (_, ksub, dsub), device = self.points.shape[1], self.codebooks.shape, self.points.device
        labels = self.labels[spaces].long()
        counts = torch.zeros((len(spaces), ksub), dtype=torch.int64, device=device)
        counts.scatter_add_(1, labels, torch.ones_like(labels))
        starts = torch.nn.functional.pad(counts.cumsum(dim=1), (1, 0))
        order = torch.sort(labels.to(torch.uint8), dim=1, stable=True).indices
        sums = torch.empty((len(spaces), ksub, dsub), dtype=torch.float64, device=device)
        launch(
            sum_points, (ksub, len(spaces)), self.points, n, dsub, spaces, ksub, order, starts, sums,
            warps=1, PAIRS=dsub == _PAIR, DIMS=1 << (dsub - 1).bit_length(),
        )  # fmt: skip
        means = (sums / counts.clamp(min=1)[:, :, None]).float()
        self.codebooks[spaces] = torch.where((counts > 0)[:, :, None], means, self.codebooks[spaces])
        return counts

    def _reseed(self, space: int, unused: int, counts: np.ndarray) -> int:
        """Move a sub-space's entries without points, which is rare and so done on the host; return how many moved."""
        n, dsub = self.points.shape[1], self.codebooks.shape[2]
        stride = -(-n // LANES) * LANES
        points, errors = np.zeros((dsub, stride), np.float32), np.zeros(stride, np.float32)
        points[:, :n] = self.points[space * dsub : (space + 1) * dsub].cpu().numpy()
        errors[:n] = self.errors[space].cpu().numpy()
        codebook = self.codebooks[space].cpu().numpy().copy()
        moved = reseed(points.reshape(-1), stride, n, unused, errors, codebook, counts)
        self.codebooks[space] = torch.from_numpy(codebook).to(self.points.device)
        return int(moved)
