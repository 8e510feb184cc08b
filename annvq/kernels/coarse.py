"""Choice of the lists that a query searches."""

from __future__ import annotations

import numpy as np

from annvq.kernels.jit import kernel
from annvq.kernels.topk import cut, sort


@kernel
def distances_from_products(squares, centroid_squares, scores):
    """Turn inner products (nq, nlist) into -|q - c|^2, given |q|^2 (nq,) and |c|^2 (nlist,)."""
    for q in range(scores.shape[0]):
        for l in range(scores.shape[1]):
            scores[q, l] = np.float32(2.0) * scores[q, l] - (squares[q] + centroid_squares[l])


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
