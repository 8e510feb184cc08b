"""Choice of the lists that a query searches."""

from __future__ import annotations

import numpy as np

from annvq.kernels.assign import pair_score
from annvq.kernels.gemm import fill_products
from annvq.kernels.jit import kernel
from annvq.kernels.tiles import LANES, ROWS
from annvq.kernels.topk import cut, sort


@kernel
def choose_lists(centroid_scores, live, nprobe, need, keys, scratch_scores, scratch_rows, lists, counts):
    """Choose every query's lists, nearest first.

    Parameters
    ----------
    centroid_scores
        (nq, nlist) float32, larger is closer.
    live
        (nlist,) int64, rows that may be returned per list; lists without any are passed over.
    nprobe
        How many lists to take, and more until they hold ``need`` live rows, as far as there are lists.
    keys
        (nlist,) int64, 0 .. nlist - 1: ties go to the lower list.
    scratch_scores, scratch_rows
        (nlist,) float32 and int64.
    lists, counts
        Outputs, (nq, nlist) int64 and (nq,) int64.

    """
    nlist = centroid_scores.shape[1]
    for q in range(counts.size):
        held = np.int64(0)
        for l in range(nlist):
            if live[l] > 0:
                scratch_scores[held] = centroid_scores[q, l]
                scratch_rows[held] = l
                held += 1
        wanted = min(nprobe, held)
        if wanted < held:
            cut(scratch_scores, scratch_rows, held, wanted, keys)
        found = np.int64(0)
        for i in range(wanted):
            found += live[scratch_rows[i]]
        if found < need and wanted < held:
            sort(scratch_scores, scratch_rows, held, keys)
            while found < need and wanted < held:
                found += live[scratch_rows[wanted]]
                wanted += 1
        else:
            sort(scratch_scores, scratch_rows, wanted, keys)
        for i in range(wanted):
            lists[q, i] = scratch_rows[i]
        counts[q] = wanted


@kernel
def probe(queries, panels, shift, squares, live, nprobe, need, keys):
    """Score all centroids for every query and choose its lists.

    Parameters
    ----------
    queries
        (nq, d) float32.
    panels
        The centroids, less ``shift``, as `annvq.kernels.gemm.pack` lays them out.
    shift
        (d,) float32, subtracted from the queries too; not used under inner product.
    squares
        (nlist,) float32, norms |c - shift|^2 for scores -|q - c|^2; empty for inner products.
    live, nprobe, need, keys
        As in `choose_lists`.

    Returns
    -------
    tuple
        lists (nq, nlist) int64, counts (nq,) int64, scores (nq, nlist) float32.

    """
    nq, d = queries.shape
    nlist = keys.size
    scores = np.empty((nq, nlist), np.float32)
    tile = np.empty(ROWS * LANES, np.float32)
    if squares.size == 0:
        fill_products(queries, panels, nlist, tile, scores)
    else:
        shifted = np.empty((nq, d), np.float32)
        for q in range(nq):
            for i in range(d):
                shifted[q, i] = queries[q, i] - shift[i]
        fill_products(shifted, panels, nlist, tile, scores)
        for q in range(nq):
            square = pair_score(shifted, q, shifted, q, d, False)
            for l in range(nlist):
                scores[q, l] = np.float32(2.0) * scores[q, l] - (square + squares[l])
    lists = np.empty((nq, nlist), np.int64)
    counts = np.empty(nq, np.int64)
    scratch_scores = np.empty(nlist, np.float32)
    scratch_rows = np.empty(nlist, np.int64)
    choose_lists(scores, live, nprobe, need, keys, scratch_scores, scratch_rows, lists, counts)
    return lists, counts, scores
