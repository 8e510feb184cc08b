"""Nearest centroids of many vectors, proposed by products of bytes and decided by sums in a fixed order.

Products of bytes (`annvq.kernels.vectors.bytetiles`) take a quarter of the time of those of floats. They rank all
centroids for a vector; the best, and all within six standard errors of it, are compared again by distances in floats,
which is one or two for most vectors. As bytes are multiplied exactly, labels depend neither on the instruction set nor
on threads or batches.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from annvq.kernels import threads as pool
from annvq.kernels.clusters.assign import pair_score
from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import empty
from annvq.kernels.registers import simd
from annvq.kernels.registers.tiles import readonly
from annvq.kernels.vectors import bytematrix
from annvq.kernels.vectors.bytematrix import ByteMatrix
from annvq.kernels.vectors.bytetiles import COLUMNS, ROWS, fill_tile

_ROWS_A_TASK = 1024
# Rounding to a step has the variance step^2 / 12, and that of a product is the square of the other factor's length
# times this, for either factor.
MARGIN = np.float32(6.0 / np.sqrt(12.0))


class ByteSites(NamedTuple):
    """Centroids that are prepared for being proposed."""

    centroids: np.ndarray  # (k, d) float32, as given
    shift: np.ndarray  # (d,) float32, subtracted from vectors and centroids
    matrix: ByteMatrix  # of d dimensions, its columns padded to a multiple of 64
    penalties: np.ndarray  # (k,) float32, subtracted from deciding scores
    longest: np.float32  # the length of the longest centroid
    coarsest: np.float32  # the largest step of a centroid


def byte_sites(centroids: np.ndarray, penalties: np.ndarray | None = None) -> ByteSites:
    """Prepare centroids (k, d) float32 for `labels_of`; ``penalties`` (k,) are those of `assign.sites`."""
    k, d = centroids.shape
    shift = centroids.mean(axis=0, dtype=np.float64).astype(np.float32)
    columns = np.zeros((d, -(-k // COLUMNS) * COLUMNS), np.float32)
    columns[:, :k] = (centroids - shift).T
    squares = np.square(columns, dtype=np.float64).sum(axis=0)
    taken = (np.zeros(k) if penalties is None else penalties).astype(np.float32)
    adds = np.full(columns.shape[1], -np.inf, np.float32)
    adds[:k] = -0.5 * squares[:k] - taken
    matrix = bytematrix.pack(columns, adds)
    longest, coarsest = np.float32(np.sqrt(squares.max())), matrix.steps.max()
    return ByteSites(readonly(centroids), readonly(shift), matrix, readonly(taken), longest, coarsest)


@kernel
def to_shifted_levels(vector, shift, moved, levels):
    """Write a vector (d,) float32, less ``shift``, as bytes; return their step, and the length of the difference.

    ``moved`` is scratch, (d padded to a multiple of 16,) float32, zero beyond d.
    """
    d = vector.size
    for i in range(d):
        moved[i] = vector[i] - shift[i]
    square = simd.zero_f32x16()
    for i in range(0, moved.size, 16):
        x = simd.load_f32x16(moved, i)
        square = simd.fma(x, x, square)
    return bytematrix.to_levels(moved, d, levels), np.sqrt(simd.hsum(square))


@kernel
def _decide(vectors, row, sites, scores, least):
    """Return the nearest of the centroids whose ``scores``, (padded k,) float32, are at least ``least``."""
    centroids, _, _, penalties, _, _ = sites
    label, highest = np.int64(0), -np.float32(np.inf)
    for i in range(0, scores.size, 16):
        mask = simd.ge_mask(simd.load_f32x16(scores, i), least)
        while mask != np.uint32(0):
            j = i + simd.trailing_zeros(mask)
            mask &= mask - np.uint32(1)
            if j >= penalties.size:
                break
            score = np.float32(0.5) * pair_score(vectors, row, centroids, j, vectors.shape[1], True) - penalties[j]
            if score > highest:
                label, highest = j, score
    return label


@kernel
def _label(vectors, sites, labels):
    _, shift, matrix, _, longest, coarsest = sites
    n, d = vectors.shape
    width = matrix.offsets.size
    places, groups = (d + 15) // 16 * 16, (d + 7) // 8 * 2
    moved = empty(places, np.float32)
    moved[d:] = np.float32(0.0)
    levels, steps, lengths = empty((ROWS, places), np.uint8), empty(ROWS, np.float32), empty(ROWS, np.float32)
    scores = empty((ROWS, width), np.float32)
    flat = scores.reshape(ROWS * width)
    for first in range(0, n, ROWS):
        for r in range(ROWS):
            steps[r], lengths[r] = to_shifted_levels(vectors[min(first + r, n - 1)], shift, moved, levels[r])
        for column in range(0, width, COLUMNS):
            fill_tile(levels, steps, 0, matrix, column, groups, flat, column, width)
        for r in range(min(ROWS, n - first)):
            best = simd.load_f32x16(flat, r * width)
            for i in range(16, width, 16):
                best = simd.maximum(simd.load_f32x16(flat, r * width + i), best)
            of_centroid, of_vector = coarsest * lengths[r], steps[r] * longest
            margin = MARGIN * np.sqrt(of_centroid * of_centroid + of_vector * of_vector)
            labels[first + r] = _decide(vectors, first + r, sites, scores[r], simd.hmax(best) - margin)


def labels_of(vectors: np.ndarray, sites: ByteSites, threads: int) -> np.ndarray:
    """Return the nearest centroid of every vector (n, d) float32, C-contiguous and finite: (n,) int32."""
    labels = np.empty(len(vectors), np.int32)

    def label_slice(part: slice) -> None:
        _label(readonly(vectors[part]), sites, labels[part])

    pool.run(label_slice, pool.slices(len(vectors), -(-len(vectors) // _ROWS_A_TASK)), threads)
    return labels
