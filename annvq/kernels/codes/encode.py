"""Encoding and decoding of product and scalar codes, and decoding of residual codes.

Residual codes are encoded by `annvq.kernels.codes.beam`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from annvq.kernels.clusters.assign import fill_panel, nearest
from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import empty
from annvq.kernels.registers.tiles import LANES, aligned, readonly


class ProductSites(NamedTuple):
    """A product codebook that is prepared for encoding."""

    shifted: np.ndarray  # (M * ksub * dsub,) float32: codebooks - shift
    shift: np.ndarray  # (M * dsub,) float32: the mean of the centroids in each dimension
    bias: np.ndarray  # (M * ksub,) float32: -|shifted|^2 / 2


def product_sites(codebooks: np.ndarray) -> ProductSites:
    """Prepare codebooks (M, ksub, dsub) float32 for `product_encode`.

    The mean of the centroids in each dimension is subtracted from centroids and vectors before they are compared, so
    that data far from the origin keep their digits.
    """
    shift = codebooks.mean(axis=1, dtype=np.float64).astype(np.float32)
    shifted = aligned(codebooks.size)
    shifted[:] = (codebooks - shift[:, None]).ravel()
    squares = np.square(shifted.reshape(codebooks.shape), dtype=np.float64)
    bias = (-0.5 * squares.sum(axis=2)).astype(np.float32)
    return ProductSites(readonly(shifted), readonly(shift.ravel()), readonly(bias.ravel()))


@kernel
def product_encode(vectors, M, ksub, dsub, shifted, shift, bias, panel, codes):
    """Fill ``codes (n, M)`` with the nearest centroid of each sub-vector.

    Parameters
    ----------
    vectors
        (n, d) float32 with d <= M * dsub; dimensions beyond d count as zero.
    M, ksub, dsub
        The shape of the codebooks.
    shifted, shift, bias
        From `product_sites`.
    panel
        Scratch, (M * dsub * LANES,) float32.
    codes
        Output, (n, M) uint8; ties go to the lower centroid.

    """
    n, d = vectors.shape
    best = empty(LANES, np.float32)
    label = empty(LANES, np.int32)
    for i in range(d, M * dsub):
        for lane in range(LANES):
            panel[i * LANES + lane] = -shift[i]
    for first in range(0, n, LANES):
        count = min(LANES, n - first)
        fill_panel(vectors, first, count, shift, panel[: d * LANES])
        for m in range(M):
            nearest(
                panel, m * dsub * LANES, LANES, dsub, shifted, m * ksub * dsub, bias, m * ksub, ksub, best, label
            )  # fmt: skip
            for lane in range(count):
                codes[first + lane, m] = label[lane]


@kernel
def product_decode(codes, codebooks, vectors):
    """Fill ``vectors (n, d)`` with the centroids that ``codes (n, M)`` uint8 select; d <= M * dsub."""
    M, _, dsub = codebooks.shape
    n, d = vectors.shape
    for row in range(n):
        for m in range(M):
            centroid = codebooks[m, codes[row, m]]
            for i in range(min(dsub, d - m * dsub)):
                vectors[row, m * dsub + i] = centroid[i]


@kernel
def residual_decode(codes, codebooks, vectors):
    """Fill ``vectors (n, d)`` with the sums, in the order of m, of the centroids that ``codes (n, M)`` uint8 select."""
    M, _, d = codebooks.shape
    for row in range(codes.shape[0]):
        vector = vectors[row]
        vector[:] = np.float32(0.0)
        for m in range(M):
            centroid = codebooks[m, codes[row, m]]
            for i in range(d):
                vector[i] += centroid[i]


@kernel
def scalar_encode(vectors, minimum, inverse, top, codes):
    """Fill ``codes (n, d)`` uint8 with ``floor((x - minimum) * inverse + 0.5)``, clipped to 0 .. ``top``."""
    n, d = vectors.shape
    for row in range(n):
        for i in range(d):
            level = np.floor((vectors[row, i] - minimum[i]) * inverse[i] + np.float32(0.5))
            level = level if level > np.float32(0.0) else np.float32(0.0)
            codes[row, i] = np.uint8(np.int32(level if level < top else top))


@kernel
def scalar_decode(codes, minimum, step, vectors):
    """Fill ``vectors (n, d)`` with ``minimum + step * code``, rounded only once, as by a fused multiply-add."""
    n, d = codes.shape
    for row in range(n):
        for i in range(d):
            vectors[row, i] = np.float64(minimum[i]) + np.float64(step[i]) * np.float64(codes[row, i])


@kernel
def residual_constants(decoded, centroids, constants):
    """Fill ``constants (n,)`` with ``-(|r|^2 + 2 <c, r>)`` for every row.

    r is the row's decoded residual, and c the centroid of its list; both arrays are (n, d) float32.
    """
    n, d = decoded.shape
    for row in range(n):
        total = 0.0
        for i in range(d):
            r = np.float64(decoded[row, i])
            total += r * (r + 2.0 * np.float64(centroids[row, i]))
        constants[row] = -total


@kernel
def product_constants(codes, codebooks, centroids, constants):
    """Do what `residual_constants` does, of the residuals that ``codes (n, M)`` uint8 stand for.

    Four rows are summed at a time, each in the order of its dimensions.
    """
    M, _, dsub = codebooks.shape
    n, d = centroids.shape
    two = np.float64(2.0)
    for first in range(0, n, 4):
        i, j, k, l = first, min(first + 1, n - 1), min(first + 2, n - 1), min(first + 3, n - 1)
        t = u = v = w = np.float64(0.0)
        for m in range(M):
            a, b, c, e = codes[i, m], codes[j, m], codes[k, m], codes[l, m]
            for at in range(min(dsub, d - m * dsub)):
                x = m * dsub + at
                r = np.float64(codebooks[m, a, at])
                t += r * (r + two * np.float64(centroids[i, x]))
                r = np.float64(codebooks[m, b, at])
                u += r * (r + two * np.float64(centroids[j, x]))
                r = np.float64(codebooks[m, c, at])
                v += r * (r + two * np.float64(centroids[k, x]))
                r = np.float64(codebooks[m, e, at])
                w += r * (r + two * np.float64(centroids[l, x]))
        constants[i], constants[j], constants[k], constants[l] = -t, -u, -v, -w
