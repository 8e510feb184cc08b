"""Reduction of a set of vectors to fewer vectors: by Ward's clustering, and by ball carving.

Ball carving repeatedly takes the first vector that is left, and all vectors near it.
"""

from __future__ import annotations

import numpy as np

from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import empty, zeros


@kernel
def _directions(vectors):
    """Return the vectors (t, d) scaled to length one, and their lengths (t,), both float32; zero vectors stay zero."""
    t, d = vectors.shape
    unit = empty((t, d), np.float32)
    lengths = empty(t, np.float32)
    for i in range(t):
        total = np.float64(0.0)
        for j in range(d):
            total += np.float64(vectors[i, j]) * np.float64(vectors[i, j])
        length = np.sqrt(total)
        lengths[i] = length
        for j in range(d):
            unit[i, j] = vectors[i, j] / length if length > 0 else np.float32(0.0)
    return unit, lengths


@kernel
def _squared_distances(unit):
    """Return the squared distances between all rows (t, d) float32, (t, t) float64, with infinity on the diagonal."""
    t, d = unit.shape
    distances = empty((t, t), np.float64)
    for a in range(t):
        distances[a, a] = np.inf
        for b in range(a):
            total = np.float64(0.0)
            for j in range(d):
                difference = np.float64(unit[a, j]) - np.float64(unit[b, j])
                total += difference * difference
            distances[a, b] = distances[b, a] = total
    return distances


@kernel
def _merge(distances, sizes, a, b):
    """Merge cluster b into cluster a.

    The distances follow from the recurrence of Lance and Williams for Ward's criterion; those of b become infinite.
    """
    between = distances[a, b]
    together = sizes[a] + sizes[b]
    for c in range(sizes.size):
        if c != a and c != b and distances[a, c] < np.inf:
            merged = (sizes[a] + sizes[c]) * distances[a, c] + (sizes[b] + sizes[c]) * distances[b, c]
            distances[a, c] = distances[c, a] = (merged - sizes[c] * between) / (together + sizes[c])
    distances[b, :] = np.inf
    distances[:, b] = np.inf
    sizes[a], sizes[b] = together, 0


@kernel
def _clusters(unit, wanted):
    """Merge rows until ``wanted`` clusters are left; return the cluster of every row, (t,) int64.

    A cluster is named by its first row.
    """
    t = unit.shape[0]
    distances = _squared_distances(unit)
    owner = np.arange(t)
    sizes = np.ones(t, np.int64)
    nearest = empty(t, np.int64)
    for a in range(t):
        nearest[a] = np.argmin(distances[a])
    for _ in range(t - wanted):
        a = np.int64(-1)
        for c in range(t):
            if sizes[c] > 0 and (a < 0 or distances[c, nearest[c]] < distances[a, nearest[a]]):
                a = np.int64(c)
        a, b = min(a, nearest[a]), max(a, nearest[a])
        _merge(distances, sizes, a, b)
        for c in range(t):
            if owner[c] == b:
                owner[c] = a
            if sizes[c] > 0 and (c == a or nearest[c] == a or nearest[c] == b):
                nearest[c] = np.argmin(distances[c])
    return owner


@kernel
def ward(vectors, wanted):
    """Merge the vectors (t, d) float32 until ``wanted`` clusters are left; return one vector per cluster.

    `annvq.multivector.pool_tokens` says which vector that is (Clavie et al. 2024, section 3).
    """
    t, d = vectors.shape
    unit, lengths = _directions(vectors)
    owner = _clusters(unit, wanted)
    out = zeros((wanted, d), np.float32)
    place = np.int64(0)
    for a in range(t):
        if owner[a] != a:
            continue
        size, length = np.int64(0), np.float64(0.0)
        for i in range(t):
            if owner[i] == a:
                size += 1
                length += lengths[i]
                for j in range(d):
                    out[place, j] += vectors[i, j]
        total = np.float64(0.0)
        for j in range(d):
            total += np.float64(out[place, j]) * np.float64(out[place, j])
        scale = np.float32(length / size / np.sqrt(total)) if total > 0 else np.float32(0.0)
        for j in range(d):
            out[place, j] *= scale
        place += 1
    return out


@kernel
def carve(vectors, threshold):
    """Return the sums of the balls of the vectors (t, d) float32.

    `annvq.multivector.carve_queries` says what a ball is (Dhulipala et al. 2024, "MUVERA", section 3.3).
    """
    t, d = vectors.shape
    unit, _ = _directions(vectors)
    out = zeros((t, d), np.float32)
    taken = zeros(t, np.bool_)
    count = np.int64(0)
    for a in range(t):
        if taken[a]:
            continue
        for b in range(a, t):
            cosine = np.float64(0.0)
            for j in range(d):
                cosine += np.float64(unit[a, j]) * np.float64(unit[b, j])
            if not taken[b] and (b == a or cosine >= threshold - 1e-6):  # float32 directions have length one up to 1e-7
                taken[b] = True
                for j in range(d):
                    out[count, j] += vectors[b, j]
        count += 1
    return out[:count].copy()
