"""First centroids of k-means."""

from __future__ import annotations

import numpy as np

from annvq.kernels import threads as pool
from annvq.kernels.clusters.lloyd import shrink_to
from annvq.kernels.registers.tiles import readonly

INITS = ("random", "k-means++")
_ROWS_A_CENTROID = 32  # vectors that k-means++ looks at per centroid


def seed_centroids(rows: np.ndarray, k: int, init: str, rng: np.random.Generator, threads: int) -> np.ndarray:
    """Return k of the rows (n, d) float32, n >= k, as (k, d); ``init`` is one of INITS."""
    if init == "random":
        return rows[np.sort(rng.choice(len(rows), k, replace=False))]
    if len(rows) > _ROWS_A_CENTROID * k:
        rows = rows[np.sort(rng.choice(len(rows), _ROWS_A_CENTROID * k, replace=False))]
    return _spread(rows, k, rng, threads)


def _spread(rows: np.ndarray, k: int, rng: np.random.Generator, threads: int) -> np.ndarray:
    """Draw each centroid with probability in proportion to its squared distance from those before it.

    Source: Arthur and Vassilvitskii 2007, "k-means++: the advantages of careful seeding", section 2.2.
    """
    centroids = np.empty((k, rows.shape[1]), np.float32)
    closest = np.full(len(rows), np.inf, np.float32)
    parts = pool.slices(len(rows), threads)
    chosen = int(rng.integers(len(rows)))
    for j in range(k):
        centroids[j] = rows[chosen]

        def shrink(part: slice, j: int = j) -> None:
            shrink_to(readonly(rows[part]), centroids, j, closest[part])

        pool.run(shrink, parts, threads)
        mass = np.cumsum(closest, dtype=np.float64)
        if mass[-1] > 0:
            chosen = int(np.searchsorted(mass, rng.random() * mass[-1], side="right"))
            chosen = min(chosen, len(rows) - 1)
        else:  # every row is a centroid already
            chosen = int(rng.integers(len(rows)))
    return centroids
