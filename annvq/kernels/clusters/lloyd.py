"""Lloyd's iterations (k-means): the means of assigned vectors are summed in float64, in the order of the rows."""

from __future__ import annotations

import numpy as np

from annvq.kernels.clusters import nearest4
from annvq.kernels.clusters.assign import nearest, pair_score
from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import empty
from annvq.kernels.registers import simd
from annvq.kernels.registers.tiles import LANES


@kernel
def fill_squared_norms(vectors, norms):
    """Fill ``norms (n,)`` float64 with the squared norms of vectors (n, d) float32."""
    for row in range(vectors.shape[0]):
        total = 0.0
        for i in range(vectors.shape[1]):
            total += np.float64(vectors[row, i]) * np.float64(vectors[row, i])
        norms[row] = total


@kernel
def sum_members(vectors, order, starts, first, last, sums):
    """Fill ``sums[first:last]`` with the sums of the members of each cluster.

    Parameters
    ----------
    vectors
        (n, d) float32.
    order, starts
        (n,) int64, the rows sorted by cluster, and (k + 1,) int64: the members of cluster j are
        ``order[starts[j]:starts[j + 1]]``.
    first, last
        The range of clusters, without ``last``.
    sums
        Output, (k, d) float64.

    """
    d = vectors.shape[1]
    for j in range(first, last):
        total = sums[j]
        total[:] = 0.0
        for place in range(starts[j], starts[j + 1]):
            member = vectors[order[place]]
            ahead = order[min(place + 1, order.size - 1)] * d
            for i in range(0, d, 16):
                simd.prefetch(vectors, ahead + i)
            for i in range(total.size):
                total[i] += np.float64(member[i])


@kernel
def transpose(vectors, first, shift, columns):
    """Fill ``columns`` (count, stride) with dimensions ``first`` to ``first + count - 1`` of ``vectors - shift``.

    Dimensions and rows that the vectors do not have are set to zero.
    """
    n, d = vectors.shape
    count = columns.shape[0]
    have = max(0, min(count, d - first))
    columns[have:] = np.float32(0.0)
    columns[:, n:] = np.float32(0.0)
    for block in range(0, n, 16):  # 16 floats fill a cache line of the output
        for i in range(have):
            for row in range(block, min(block + 16, n)):
                columns[i, row] = vectors[row, first + i] - shift[first + i]


@kernel
def _half_norms(codebook, bias):
    for j in range(codebook.shape[0]):
        norm = 0.0
        for i in range(codebook.shape[1]):
            norm += np.float64(codebook[j, i]) * np.float64(codebook[j, i])
        bias[j] = -0.5 * norm


@kernel
def _label_points(points, stride, n, dsub, codebook, bias, labels, errors):
    """Assign every point to its nearest centroid; return how many labels changed.

    ``errors`` gets the deciding scores, from which `reseed` computes squared errors. ``labels`` (n,) are the labels
    before and after; ``errors`` has a place for each of ``stride`` points.
    """
    best = empty(LANES, np.float32)
    label = empty(LANES, np.int32)
    changed = np.int64(0)
    for first in range(0, n, LANES):
        nearest(points, first, stride, dsub, codebook, 0, bias, 0, bias.size, best, label)
        for lane in range(min(LANES, n - first)):
            changed += np.int64(labels[first + lane] != label[lane])
            labels[first + lane] = label[lane]
            errors[first + lane] = best[lane]
    return changed


@kernel
def _label_pairs(points, stride, n, entries, bias, labels, errors):
    """Do what `_label_points` does, with 16 centroids of two dimensions, ``entries`` (32,)."""
    picks = empty(stride, np.float32)
    for at in range(0, stride, nearest4.LANES):
        v, w = simd.load_f32x16(points, at), simd.load_f32x16(points, stride + at)
        best, pick = nearest4.nearest_entry(v, w, entries, 0, bias, 0)
        simd.store_f32x16(errors, at, best)
        simd.store_f32x16(picks, at, pick)
    changed = np.int32(0)
    for row in range(n):
        label = np.int32(picks[row])
        changed += np.int32(label != labels[row])
        labels[row] = label
    return np.int64(changed)


@kernel
def _add_pairs(points, stride, n, labels, parts):
    """Add points of two dimensions to the totals of their labels: ``parts`` (4, ksub, 4) float64.

    A total has both sums and a count. Every fourth point goes to the same part, because a sum waits for the one before.
    """
    a, b, c, e = parts[0], parts[1], parts[2], parts[3]
    v, w = points[:n], points[stride : stride + n]
    for row in range(0, n - n % 4, 4):  # labels are not negative, which unsigned numbers tell the compiler
        total = a[np.uint32(labels[row])]
        total[0], total[1], total[2] = total[0] + v[row], total[1] + w[row], total[2] + 1.0
        total = b[np.uint32(labels[row + 1])]
        total[0], total[1], total[2] = total[0] + v[row + 1], total[1] + w[row + 1], total[2] + 1.0
        total = c[np.uint32(labels[row + 2])]
        total[0], total[1], total[2] = total[0] + v[row + 2], total[1] + w[row + 2], total[2] + 1.0
        total = e[np.uint32(labels[row + 3])]
        total[0], total[1], total[2] = total[0] + v[row + 3], total[1] + w[row + 3], total[2] + 1.0
    for row in range(n - n % 4, n):
        total = a[np.uint32(labels[row])]
        total[0], total[1], total[2] = total[0] + v[row], total[1] + w[row], total[2] + 1.0


@kernel
def _means(points, stride, n, labels, codebook, sums, counts):
    """Move each centroid to the mean of its points; return how many centroids have no points (these do not move).

    ``counts`` (ksub,) gets the numbers of points; ``sums`` (dsub, ksub) is scratch.
    """
    ksub, dsub = codebook.shape
    sums[:] = 0.0
    counts[:] = 0
    if dsub == 2:
        parts = empty((4, ksub, 4), np.float64)
        parts[:] = 0.0
        _add_pairs(points, stride, n, labels, parts)
        for j in range(ksub):
            for part in range(4):
                sums[0, j] += parts[part, j, 0]
                sums[1, j] += parts[part, j, 1]
                counts[j] += np.int64(parts[part, j, 2])
    else:
        for row in range(n):
            counts[labels[row]] += 1
        for i in range(dsub):
            for row in range(n):
                sums[i, labels[row]] += np.float64(points[i * stride + row])
    unused = np.int64(0)
    for j in range(ksub):
        if counts[j] == 0:
            unused += 1
            continue
        for i in range(dsub):
            codebook[j, i] = sums[i, j] / np.float64(counts[j])
    return unused


@kernel
def reseed(points, stride, n, unused, errors, codebook, counts):
    """Move centroids without points to points, spread evenly over the squared error; return how many moved.

    ``errors`` are the scores of `_label_points`; they are replaced by squared errors.
    """
    dsub = codebook.shape[1]
    total = 0.0
    for row in range(n):
        norm = 0.0
        for i in range(dsub):
            value = np.float64(points[i * stride + row])
            norm += value * value
        errors[row] = max(0.0, norm - 2.0 * np.float64(errors[row]))
        total += np.float64(errors[row])
    passed = 0.0
    moved = np.int64(0)
    j = np.int64(0)
    for row in range(n):
        passed += np.float64(errors[row])
        if moved < unused and errors[row] > 0 and passed >= (moved + 0.5) * total / unused:
            while counts[j] > 0:
                j += 1
            for i in range(dsub):
                codebook[j, i] = points[i * stride + row]
            j += 1
            moved += 1
    return moved


@kernel
def lloyd(points, stride, n, codebook, niter):
    """Improve one small codebook in place by Lloyd's iterations.

    Parameters
    ----------
    points
        Flat float32; dimension i of point ``row`` is ``points[i * stride + row]``. ``stride`` is a multiple of LANES
        and at least n.
    stride, n
        The stride of ``points``, and their number, which is at least 1.
    codebook
        (ksub, dsub) float32, at first the initial centroids and at last the result. The error never grows from one
        iteration to the next.
    niter
        Maximum number of iterations; there are fewer if an iteration changes no label and moves no unused centroid.

    """
    ksub, dsub = codebook.shape
    flat, is_small = codebook.reshape(ksub * dsub), ksub == nearest4.ENTRIES and dsub == nearest4.DIMENSIONS
    labels = empty(n, np.int32)
    labels[:] = -1
    errors = empty(stride, np.float32)
    bias = empty(ksub, np.float32)
    sums = empty((dsub, ksub), np.float64)
    counts = empty(ksub, np.int64)
    for _ in range(niter):
        _half_norms(codebook, bias)
        if is_small:
            changed = _label_pairs(points, stride, n, flat, bias, labels, errors)
        else:
            changed = _label_points(points, stride, n, dsub, codebook, bias, labels, errors)
        unused = _means(points, stride, n, labels, codebook, sums, counts)
        moved = np.int64(0)
        if unused > 0:
            moved = reseed(points, stride, n, unused, errors, codebook, counts)
        if changed == 0 and moved == 0:
            break


@kernel
def train_subspaces(columns, n, codebooks, niter):
    """Run `lloyd` in each sub-space.

    ``columns`` is (count * dsub, stride) float32 as `transpose` fills it, and ``codebooks`` (count, ksub, dsub)
    float32.
    """
    count, _, dsub = codebooks.shape
    stride = columns.shape[1]
    flat = columns.reshape(columns.size)
    for m in range(count):
        lloyd(flat[m * dsub * stride : (m + 1) * dsub * stride], stride, n, codebooks[m], niter)


@kernel
def shrink_to(vectors, centroids, j, closest):
    """Lower ``closest`` (n,) float32, squared distances, to those from centroid j wherever these are smaller."""
    d = vectors.shape[1]
    for row in range(vectors.shape[0]):
        closest[row] = min(closest[row], -pair_score(vectors, row, centroids, j, d, True))
