"""Blocks of rows that are alike, found by locality-sensitive hashing."""

from __future__ import annotations

import numpy as np

from annvq.kernels.vectors import gemm

_TABLES = 90  # Zhou et al. 2022, and the configuration of the comparison by Zhang et al. 2024
_WIDTH = 0.5  # of a bucket, in standard deviations of the projections
_SIMILAR = 0.7  # share of a block's values that must be close
_ROWS_AT_ONCE = 4096


def nearest_before(blocks: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return an order of blocks, for each the most similar candidate before it, and how far that one is.

    Blocks are ordered by the third quartile of their values. Candidates are those just before in the order in any
    bucket of 90 hash tables of one random projection each (L2-LSH, Datar et al. 2004), and the one just before in
    the order. The distance of two blocks is the least tolerance under which 70% of their values agree.

    Parameters
    ----------
    blocks
        (B, values) float32.
    seed
        Of the projections.

    Returns
    -------
    order, before, distance
        (B,) int64, (B,) int64 positions in the order, -1 for the first, and (B,) float32, infinite for the first.

    """
    rng = np.random.default_rng(seed)
    order = np.argsort(np.percentile(blocks, 75, axis=1), kind="stable")
    ordered = blocks[order]
    count = len(blocks)
    before, distance = np.arange(-1, count - 1), np.full(count, np.inf, np.float32)
    _improve(ordered, np.arange(1, count), np.arange(count - 1), before, distance)
    for _ in range(_TABLES):
        direction = rng.standard_normal(blocks.shape[1]).astype(np.float32)
        projected = gemm.products(ordered, gemm.pack(direction[None]), 1)[:, 0]  # of equal blocks the same
        width = _WIDTH * float(projected.std()) or 1.0  # blocks that are all alike share any bucket
        buckets = np.floor(projected / width + rng.random()).astype(np.int64)
        sorted_rows = np.argsort(buckets, kind="stable")
        same = buckets[sorted_rows[1:]] == buckets[sorted_rows[:-1]]
        later, earlier = sorted_rows[1:][same], sorted_rows[:-1][same]
        _improve(ordered, later, earlier, before, distance)
    return order, before, distance


def _improve(
    ordered: np.ndarray, later: np.ndarray, earlier: np.ndarray, before: np.ndarray, distance: np.ndarray
) -> None:
    """Take candidates that are nearer than those known."""
    rank = min(ordered.shape[1] - 1, int(np.ceil(_SIMILAR * ordered.shape[1])) - 1)
    for start in range(0, len(later), _ROWS_AT_ONCE):
        rows, others = later[start : start + _ROWS_AT_ONCE], earlier[start : start + _ROWS_AT_ONCE]
        gaps = np.partition(np.abs(ordered[rows] - ordered[others]), rank, axis=1)[:, rank]
        nearer = gaps < distance[rows]
        before[rows[nearer]], distance[rows[nearer]] = others[nearer], gaps[nearer]
