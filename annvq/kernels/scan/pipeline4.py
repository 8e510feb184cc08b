"""A whole search of 4-bit product codes in one call: lists, look-up tables, scan, rescoring, sorting."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from annvq.kernels import turns
from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import local, local_zeros
from annvq.kernels.scan import pipeline, scan4
from annvq.kernels.scan.coarse import fill_probes
from annvq.kernels.scan.lists import PackedCodes, Visits
from annvq.kernels.scan.lookup_tables import fill_lookup_tables
from annvq.kernels.scan.plan import reader_of
from annvq.kernels.scan.topk import Candidates, clear, cut_pools, drop_repeats, take_best


class Searched4(NamedTuple):
    """Everything that a search of one segment of 4-bit product codes in lists reads."""

    searched: pipeline.Searched
    transposed: np.ndarray  # (M, dsub, 16) float32: the codebooks
    residual: bool  # whether codes are those of residuals
    codes: PackedCodes
    spilled: PackedCodes  # second codes (`annvq.index.codes.spill`); the mapping is empty if there are none


_read = reader_of(Searched4(pipeline.SEARCHED, pipeline.FLOATS_3D, False, pipeline.CODES, pipeline.CODES))


@kernel
def search_block(queries, tree, k, keep, capacity, nprobe, need, scores, rows):
    """Search one segment of 4-bit product codes in lists for a block of queries.

    Parameters
    ----------
    queries
        (nq, d) float32.
    tree
        `Searched4`.
    k, keep, capacity
        Number of hits, of rows that are rescored, and of places in a pool: `annvq.kernels.scan.topk.capacity_for` of
        ``keep``, or of twice as many if there are second codes.
    nprobe, need
        As in `annvq.kernels.scan.coarse.choose_lists`.
    scores, rows
        Outputs, (nq, k) float32 and int64.

    """
    searched, transposed, residual, codes, spilled = tree
    keys, l2 = searched.keys, searched.l2
    nq = queries.shape[0]
    M, dsub, ksub = transposed.shape
    width = searched.coarse.exact.shift.size
    nlist = searched.coarse.keys.size
    rotated = local((nq, width), np.float32)
    pipeline.turn(queries, searched.rotation, rotated)
    lists, list_counts = local((nq, nlist), np.int64), local(nq, np.int64)
    centroid_scores = local((nq, nlist), np.float32)
    fill_probes(rotated, searched.coarse, searched.searchable, nprobe, need, lists, list_counts, centroid_scores)
    bases = centroid_scores if residual else local((nq, 0), np.float32)
    factor = np.float32(2.0 if l2 and residual else 1.0)
    squared = l2 and not residual
    sub_vectors = local_zeros((nq, M * dsub), np.float32)
    for q in range(nq):
        for i in range(width):
            sub_vectors[q, i] = rotated[q, i] * factor
    tables = local((nq, M, ksub), np.float32)
    fill_lookup_tables(sub_vectors, transposed, squared, tables)
    pools = Candidates(
        local((nq, capacity), np.float32), local((nq, capacity), np.int64), local(nq, np.int64), local(nq, np.float32)
    )
    clear(pools)
    visits = Visits(lists, list_counts, 0, 1)
    twice = spilled.mapping.size > 0
    reach = 2 * keep if twice else keep
    scan4.scan_lists(tables, bases, codes, visits, pools, reach, keys)
    if twice:
        scan4.scan_lists(tables, bases, spilled, visits, pools, reach, keys)
        drop_repeats(pools)
    cut_pools(pools, keep, keys)
    if pipeline.refines(searched):
        pipeline.rescore(queries, searched, k, pools)
    else:
        scan4.rescore(tables, bases, codes, pools)
    take_best(pools, k, keys, scores, rows)


@kernel
def search_planned(queries, planned, rotation_like, store_like, k, keep, capacity, nprobe, need, longest, scores, rows):
    """Search for queries that have been checked, or for queries as the user gave them; return whether it was possible.

    One kernel does both, because a second one would compile everything that a search does once more.

    Parameters
    ----------
    queries
        (nq, d) float32.
    planned, rotation_like, store_like
        What `annvq.kernels.scan.pipeline.plan` returned.
    k, keep, capacity, nprobe, need
        As in `search_block`.
    longest
        0 if queries have been checked. Otherwise they are as the user gave them, the index has at least ``k`` rows, and
        `annvq.kernels.scan.pipeline.accepted` checks them.
    scores, rows
        Outputs, (nq, k) float32 and int64. For queries as the user gave them, ``rows`` gets ids if the keys of the
        index are ids.

    """
    tree = _read(planned, (rotation_like, store_like))
    searched = tree.searched
    turns.pass_on(searched.word)
    as_given = longest > np.float32(0.0)
    if as_given:
        fit = local(queries.shape, np.float32)
        if not pipeline.accepted(queries, searched.normalize, longest, fit):
            return False
        queries = fit
    search_block(queries, tree, k, keep, capacity, nprobe, need, scores, rows)
    if as_given and searched.with_ids:
        pipeline.to_ids(rows, searched.keys)
    turns.await_turn(searched.word)
    return True
