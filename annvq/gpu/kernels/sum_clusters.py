"""Sums of the members of clusters, in float64 and in the order of the rows, as in `annvq.kernels.clusters.lloyd`."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def sum_clusters(rows, d, order, starts, sums, DIMS: tl.constexpr):
    """Add up the members of each cluster.

    Parameters
    ----------
    rows
        (n, d) float32.
    order, starts
        (n,) and (k + 1,) int64: the members of cluster j are ``order[starts[j]:starts[j + 1]]``, ascending.
    sums
        Output, (k, d) float64.
    DIMS
        Dimensions of a program; the second axis of the grid goes over them.

    """
    cluster = tl.program_id(0).to(tl.int64)
    dims = tl.program_id(1) * DIMS + tl.arange(0, DIMS)
    total = tl.zeros([DIMS], tl.float64)
    for place in range(tl.load(starts + cluster), tl.load(starts + cluster + 1)):
        member = tl.load(order + place)
        total += tl.load(rows + member * d + dims, mask=dims < d, other=0.0).to(tl.float64)
    tl.store(sums + cluster * d + dims, total, mask=dims < d)


@triton.jit
def sum_points(
    points, n, dsub, spaces, ksub, order, starts, sums, PAIRS: tl.constexpr, DIMS: tl.constexpr
):  # fmt: skip
    """Add up the points of each entry of some sub-spaces.

    Parameters
    ----------
    points, n, dsub
        (M * dsub, n) float32: dimension i of sub-space m in row ``m * dsub + i``.
    spaces, ksub
        (A,) int64: the sub-spaces, and how many entries each has.
    order, starts
        (A, n) and (A, ksub + 1) int64: the points of each sub-space sorted by their entries, then ascending, and where
        those of an entry begin.
    sums
        Output, (A, ksub, dsub) float64.
    PAIRS
        Whether sub-spaces have two dimensions, whose points go to one of four sums, every fourth to the same, and what
        is beyond a multiple of four to the first.
    DIMS
        At least dsub, a power of two.

    """
    entry = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1).to(tl.int64)
    space = tl.load(spaces + place)
    dims = tl.arange(0, DIMS)
    at = points + (space * dsub + dims) * n
    begin, end = tl.load(starts + place * (ksub + 1) + entry), tl.load(starts + place * (ksub + 1) + entry + 1)
    out = sums + (place * ksub + entry) * dsub + dims
    if PAIRS:
        parts = tl.arange(0, 4)
        fourfold = tl.zeros([DIMS, 4], tl.float64)
        for number in range(begin, end):
            point = tl.load(order + place * n + number)
            part = tl.where(point < n - n % 4, point % 4, 0)
            value = tl.load(at + point, mask=dims < dsub, other=0.0).to(tl.float64)
            fourfold += tl.where(parts[None, :] == part, value[:, None], 0.0)
        even, odd = tl.split(tl.reshape(fourfold, [DIMS, 2, 2]))
        first, third = tl.split(even)
        second, fourth = tl.split(odd)
        tl.store(out, ((first + second) + third) + fourth, mask=dims < dsub)
    else:
        total = tl.zeros([DIMS], tl.float64)
        for number in range(begin, end):
            point = tl.load(order + place * n + number)
            total += tl.load(at + point, mask=dims < dsub, other=0.0).to(tl.float64)
        tl.store(out, total, mask=dims < dsub)
