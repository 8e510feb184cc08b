"""Nearest centroids of vectors: a matrix product in a fixed order and the search for the best score, in one pass.

`LANES` vectors at a time are transposed into a panel. The scores of every centroid for these vectors are computed in
registers and compared there. The deciding scores are ``<x, c> - |c|^2 / 2`` for L2 and ``<x, c>`` for inner product,
summed in the order of the dimensions, so that labels depend neither on threads nor on how the vectors are split into
batches. For L2, the mean centroid is first subtracted from vectors and centroids, so that data far from the origin keep
their digits. Equal scores go to the lower centroid. The scores that are returned are computed again from the chosen
pairs, in 16 lanes as in `annvq.kernels.vectors.dots`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from annvq.kernels import threads as pool
from annvq.kernels.compile.jit import kernel
from annvq.kernels.registers import simd
from annvq.kernels.registers.tiles import (
    LANES,
    ROWS,
    aligned,
    best_of_row,
    best_of_tile,
    readonly,
    store_row,
    store_tile,
)

_ROWS_A_TASK = 16 * LANES
_SQUARED = 4096  # centroids that are squared at a time


class Sites(NamedTuple):
    """Centroids that are prepared for assignment."""

    centroids: np.ndarray  # (k, d) float32, as given
    shifted: np.ndarray  # (k * d,) float32, centroids - shift
    shift: np.ndarray  # (d,) float32
    bias: np.ndarray  # (k,) float32, added to every inner product
    l2: bool


def sites(centroids: np.ndarray, metric: str, penalties: np.ndarray | None = None) -> Sites:
    """Prepare centroids (k, d) float32 for a metric, ``"l2"`` or ``"ip"``.

    ``penalties`` (k,) are subtracted from the deciding scores.
    """
    l2 = metric == "l2"
    k, d = centroids.shape
    shift = np.zeros(d, np.float32)
    if l2 and k:
        shift = centroids.mean(axis=0, dtype=np.float64).astype(np.float32)
    flat, bias = aligned(k * d), np.zeros(k)
    shifted = flat.reshape(k, d)
    np.subtract(centroids, shift, out=shifted)
    if l2:
        for start in range(0, k, _SQUARED):  # all squares at once would take twice the memory of the centroids
            part = slice(start, start + _SQUARED)
            bias[part] = -0.5 * np.square(shifted[part], dtype=np.float64).sum(axis=1)
    if penalties is not None:
        bias = bias - penalties
    return Sites(readonly(centroids), readonly(flat), readonly(shift), readonly(bias.astype(np.float32)), l2)


@kernel
def nearest(panel, at, stride, d, centroids, base, bias, first, k, best, label):
    """Find the best of k centroids for each lane of a panel; equal scores go to the lower centroid.

    Element (i, lane) of the panel is ``panel[at + i * stride + lane]``. Centroid j starts at
    ``centroids[base + j * d]``, and its bias is ``bias[first + j]``. The outputs are ``best`` (LANES,) float32, the
    best scores, and ``label`` (LANES,) int32, their centroids.
    """
    for lane in range(LANES):
        best[lane] = -np.inf
        label[lane] = 0
    whole = k - k % ROWS
    for j in range(0, whole, ROWS):
        best_of_tile(centroids, base + j * d, d, panel, at, stride, d, bias, first, j, best, label)
    for j in range(whole, k):
        best_of_row(centroids, base + j * d, d, panel, at, stride, d, bias, first, j, best, label)


@kernel
def fill_panel(vectors, first, count, shift, panel):
    """Transpose ``vectors[first:first + count] - shift`` into the lanes of a flat panel (d, LANES).

    Lanes from ``count`` on are set to zero.
    """
    d = vectors.shape[1]
    if count < LANES:
        panel[:] = np.float32(0.0)
    for lane in range(count):
        for i in range(d):
            panel[i * LANES + lane] = vectors[first + lane, i] - shift[i]


@kernel
def pair_score(vectors, row, centroids, j, d, l2):
    """Return <x, c>, or -|x - c|^2 if ``l2``, of vector ``row`` and centroid ``j``, summed in 16 lanes."""
    total = simd.zero_f32x16()
    whole = d - d % 16
    for i in range(0, whole, 16):
        x = simd.load_f32x16(vectors, row * d + i)
        c = simd.load_f32x16(centroids, j * d + i)
        if l2:
            x = simd.sub(x, c)
            c = x
        total = simd.fma(x, c, total)
    if whole < d:
        x = simd.load_f32_tail(vectors, row * d + whole, d - whole)
        c = simd.load_f32_tail(centroids, j * d + whole, d - whole)
        if l2:
            x = simd.sub(x, c)
            c = x
        total = simd.fma(x, c, total)
    return -simd.hsum(total) if l2 else simd.hsum(total)


@kernel
def _assign(vectors, shift, shifted, bias, centroids, l2, panel, best, label, labels, scores):
    n, d = vectors.shape
    for first in range(0, n, LANES):
        count = min(LANES, n - first)
        fill_panel(vectors, first, count, shift, panel)
        nearest(panel, 0, LANES, d, shifted, 0, bias, 0, bias.size, best, label)
        for lane in range(count):
            labels[first + lane] = label[lane]
            scores[first + lane] = pair_score(vectors, first + lane, centroids, np.int64(label[lane]), d, l2)


def assign_to(vectors: np.ndarray, prepared: Sites, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """Do what `assign` does, with centroids that `sites` has prepared."""
    n, d = vectors.shape
    labels, scores = np.empty(n, np.int32), np.empty(n, np.float32)

    def label_slice(part: slice) -> None:
        _assign(
            readonly(vectors[part]), prepared.shift, prepared.shifted, prepared.bias, prepared.centroids,
            prepared.l2, aligned(d * LANES), aligned(LANES), aligned(LANES, np.int32),
            labels[part], scores[part],
        )  # fmt: skip

    pool.run(label_slice, pool.slices(n, -(-n // _ROWS_A_TASK)), threads)
    return labels, scores


def assign(
    vectors: np.ndarray, centroids: np.ndarray, *, metric: str, threads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest centroid of every vector, and its score.

    Parameters
    ----------
    vectors, centroids
        (n, d) and (k, d) float32, C-contiguous and finite; k is at least 1.
    metric
        ``"l2"`` or ``"ip"``.
    threads
        Number of threads; the result does not depend on it.

    Returns
    -------
    labels, scores
        (n,) int32 and (n,) float32; a score is minus the squared distance, or the inner product.

    """
    return assign_to(vectors, sites(centroids, metric), threads)


@kernel
def _keep_best(scores, lane, k, kept_scores, kept):
    """Fill ``kept`` with a lane's best centroids, ordered by descending score and then by ascending number."""
    count = 0
    for j in range(k):
        score = scores[j * LANES + lane]
        if count == kept.size:
            if not score > kept_scores[count - 1]:
                continue
        else:
            count += 1
        place = count - 1
        while place > 0 and score > kept_scores[place - 1]:
            kept_scores[place] = kept_scores[place - 1]
            kept[place] = kept[place - 1]
            place -= 1
        kept_scores[place] = score
        kept[place] = j


@kernel
def tile_scores(panel, at, d, centroids, base, bias, first, k, scores):
    """Fill ``scores`` with bias + <lane, centroid> for every centroid and every lane of a panel.

    ``scores`` is (k, LANES) float32, flat. The other parameters are those of `nearest`, with a stride of LANES.
    """
    whole = k - k % ROWS
    for j in range(0, whole, ROWS):
        store_tile(centroids, base + j * d, d, panel, at, LANES, d, scores, j * LANES, LANES)
    for j in range(whole, k):
        store_row(centroids, base + j * d, d, panel, at, LANES, d, scores, j * LANES, LANES)
    for j in range(k):
        for lane in range(LANES):
            scores[j * LANES + lane] += bias[first + j]


@kernel
def _best_many(vectors, shift, shifted, bias, panel, tile, labels, scores):
    n, d = vectors.shape
    for first in range(0, n, LANES):
        count = min(LANES, n - first)
        fill_panel(vectors, first, count, shift, panel)
        tile_scores(panel, 0, d, shifted, 0, bias, 0, bias.size, tile)
        for lane in range(count):
            _keep_best(tile, lane, bias.size, scores[first + lane], labels[first + lane])


def best_many(
    vectors: np.ndarray, centroids: np.ndarray, *, metric: str, n_best: int, threads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``n_best`` <= k nearest centroids of every vector, best first, and their deciding scores.

    Parameters are those of `assign`; labels are (n, n_best) int32, scores float32.
    """
    n, d = vectors.shape
    prepared = sites(centroids, metric)
    labels, scores = np.empty((n, n_best), np.int32), np.empty((n, n_best), np.float32)

    def label_slice(part: slice) -> None:
        _best_many(
            readonly(vectors[part]), prepared.shift, prepared.shifted, prepared.bias, aligned(d * LANES),
            aligned(len(centroids) * LANES), labels[part], scores[part],
        )  # fmt: skip

    pool.run(label_slice, pool.slices(n, -(-n // _ROWS_A_TASK)), threads)
    return labels, scores


@kernel
def _pair_scores(vectors, centroids, l2, labels, scores):
    n, d = vectors.shape
    for row in range(n):
        for place in range(labels.shape[1]):
            scores[row, place] = pair_score(vectors, row, centroids, np.int64(labels[row, place]), d, l2)


def assign_many(
    vectors: np.ndarray, centroids: np.ndarray, *, metric: str, n_best: int, threads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``n_best`` <= k nearest centroids of every vector, best first.

    The parameters and results are those of `assign`, except that labels and scores are (n, n_best), ordered by
    descending score and then by ascending label.
    """
    labels, scores = best_many(vectors, centroids, metric=metric, n_best=n_best, threads=threads)

    def score_slice(part: slice) -> None:
        _pair_scores(readonly(vectors[part]), readonly(centroids), metric == "l2", labels[part], scores[part])

    pool.run(score_slice, pool.slices(len(vectors), -(-len(vectors) // _ROWS_A_TASK)), threads)
    order = np.lexsort((labels, -scores), axis=1)  # the returned scores are rounded differently from the deciding ones
    return np.take_along_axis(labels, order, 1), np.take_along_axis(scores, order, 1)
