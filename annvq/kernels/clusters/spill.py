"""Choice of a second list for every vector (SOAR)."""

from __future__ import annotations

import numpy as np

from annvq.kernels.clusters.propose import to_shifted_levels
from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import empty
from annvq.kernels.registers import simd
from annvq.kernels.vectors.bytetiles import COLUMNS, ROWS, fill_tile


@kernel
def _difference(moved, centroids, j, shift, padded):
    """Return |r|^2 and <r, x> of a shifted vector x, padded with zeros, and its difference r from centroid j."""
    d = shift.size
    for i in range(d):
        padded[i] = moved[i] - (centroids[j, i] - shift[i])
    square, inner = simd.zero_f32x16(), simd.zero_f32x16()
    for i in range(0, padded.size, 16):
        r = simd.load_f32x16(padded, i)
        square, inner = simd.fma(r, r, square), simd.fma(r, simd.load_f32x16(moved, i), inner)
    return simd.hsum(square), simd.hsum(inner)


@kernel
def second_lists(vectors, sites, between, labels, weight, out):
    """Choose for every vector, besides its own list, the list with the least loss |r'|^2 + weight * (r' r / |r|)^2.

    Here r is the difference between the vector and the centroid of its own list, and r' the difference between the
    vector and another centroid. The second term is large if both point the same way, in which case a query that misses
    the vector in one list misses it in the other, too. Source: Sun et al. 2023, "SOAR: Improved Indexing for
    Approximate Nearest Neighbor Search", arXiv:2404.00774, theorem 3.1. Vectors and centroids are multiplied in bytes,
    whose error is far below the differences between the losses of lists.

    Parameters
    ----------
    vectors
        (n, d) float32.
    sites
        The centroids, as `annvq.kernels.clusters.propose.byte_sites` prepares them without penalties.
    between
        (nlist, nlist padded as in ``sites``) float32: <c, c'> - |c'|^2 / 2 of centroids c and c', both shifted.
    labels
        (n,) int64: the vectors' own lists.
    weight
        Lambda in the paper, float32.
    out
        Output, (n,) int32: the second lists; the vector's own list if there is no other.

    """
    centroids, shift, matrix, _, _, _ = sites
    n, d = vectors.shape
    nlist, width = between.shape
    places, groups = (d + 15) // 16 * 16, (d + 7) // 8 * 2
    moved, padded = empty((ROWS, places), np.float32), empty(places, np.float32)
    moved[:, d:] = np.float32(0.0)
    padded[d:] = np.float32(0.0)
    levels, steps = empty((ROWS, places), np.uint8), empty(ROWS, np.float32)
    flat, rows = empty(ROWS * width, np.float32), between.reshape(nlist * width)
    lowest = -np.float32(np.inf)
    for first in range(0, n, ROWS):
        for r in range(ROWS):
            steps[r], _ = to_shifted_levels(vectors[min(first + r, n - 1)], shift, moved[r], levels[r])
        for column in range(0, width, COLUMNS):
            fill_tile(levels, steps, 0, matrix, column, groups, flat, column, width)
        for r in range(min(ROWS, n - first)):
            own, at = labels[first + r], r * width
            squared, product = _difference(moved[r], centroids, own, shift, padded)
            share = simd.splat_f32(-np.float32(0.5) * weight / squared if squared > 0 else np.float32(0.0))
            inner = simd.splat_f32(product)
            for l in range(0, width, 16):  # a score less half the loss's second term is |x|^2 / 2 less half the loss
                score = simd.load_f32x16(flat, at + l)
                along = simd.sub(simd.add(simd.load_f32x16(rows, own * width + l), inner), score)
                simd.store_f32x16(flat, at + l, simd.fma(simd.mul(along, share), along, score))
            flat[at + own] = lowest
            for l in range(nlist, width):
                flat[at + l] = lowest
            highest = simd.load_f32x16(flat, at)
            for l in range(16, width, 16):
                highest = simd.maximum(simd.load_f32x16(flat, at + l), highest)
            best, most = own, simd.hmax(highest)
            if most > lowest:
                best = np.int64(0)
                while flat[at + best] < most:
                    best += 1
            out[first + r] = np.int32(best)
