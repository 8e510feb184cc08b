"""A whole search in one call: choose lists, make tables, scan 4-bit codes, rescore, sort.

What `annvq.index.search` does stage by stage for every kind of index, for the kind that has to be fastest:
a single query is over in some ten microseconds, of which each further call from Python would take a few.
The stages are the same kernels, so the results are the same.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from annvq.kernels.compile.jit import REASSOCIATE, kernel
from annvq.kernels.compile.scratch import empty, zeros
from annvq.kernels.registers.tiles import LANES, ROWS
from annvq.kernels.scan import scan4, scanflat
from annvq.kernels.scan.coarse import Coarse, CodedCentroids, ExactCentroids, probe
from annvq.kernels.scan.lists import PackedCodes, Visits
from annvq.kernels.scan.lookup_tables import fill_lookup_tables
from annvq.kernels.scan.plan import GIVEN, plan_of, reader_of
from annvq.kernels.scan.topk import cut_pools, drop_repeats, empty_pools, take_best
from annvq.kernels.vectors.dots import Store
from annvq.kernels.vectors.finite import first_non_finite
from annvq.kernels.vectors.gemm import fill_products
from annvq.kernels.vectors.unit import unit_rows


class Rotation(NamedTuple):
    """What turns queries before lists are chosen; each is empty for none."""

    panels: np.ndarray  # of `annvq.kernels.vectors.gemm.pack`
    center: np.ndarray  # (width,) float32, what is taken from a rotated query


class Searched(NamedTuple):
    """All that a search of one segment of product codes in lists reads."""

    rotation: Rotation
    coarse: Coarse
    searchable: np.ndarray  # (nlist,) int64, rows that may be returned per list
    transposed: np.ndarray  # (M, dsub, 16) float32 codebooks
    residual: bool  # whether codes are of residuals
    codes: PackedCodes
    spilled: PackedCodes  # second codes (`annvq.index.codes.spill`), whose mapping is empty for none
    store: Store  # what rows are rescored from; with an empty one, from the float tables
    keys: np.ndarray  # of the rows, for ties
    l2: bool  # whether scores are minus squared distances
    normalize: bool  # whether queries as they were given are scaled to length one
    with_ids: bool  # whether ``keys`` are the ids


_FLOATS, _FLOATS_3D = np.empty(0, np.float32), np.empty((0, 0, 0), np.float32)
_BYTES, _WORDS = np.empty(0, np.uint8), np.empty(0, np.int64)
_CODES = PackedCodes(_BYTES, _WORDS, _WORDS, _FLOATS, _BYTES, np.empty(0, np.uint32), 0)
_searched = reader_of(
    Searched(
        Rotation(GIVEN, _FLOATS),
        Coarse(ExactCentroids(_FLOATS_3D, _FLOATS, _FLOATS), CodedCentroids(_FLOATS, _FLOATS_3D, _CODES), _WORDS),
        _WORDS, _FLOATS_3D, False, _CODES, _CODES, Store(GIVEN, 0, _FLOATS, _FLOATS), _WORDS, False, False, False,
    )
)  # fmt: skip


@kernel
def search_block(queries, searched, k, keep, capacity, nprobe, need, scores, rows):
    """Search one segment of product codes in lists for a block of queries.

    Parameters
    ----------
    queries
        (nq, d) float32.
    searched
        `Searched`.
    k, keep, capacity
        Hits wanted, rows that are rescored, places of a pool (`annvq.kernels.scan.topk.capacity_for` of ``keep``, of
        twice as many with second codes).
    nprobe, need
        As in `annvq.kernels.scan.coarse.choose_lists`.
    scores, rows
        Outputs, (nq, k) float32 and int64.

    """
    coarse, transposed, residual = searched.coarse, searched.transposed, searched.residual
    codes, spilled, store, keys, l2 = searched.codes, searched.spilled, searched.store, searched.keys, searched.l2
    nq, d = queries.shape
    M, dsub, ksub = transposed.shape
    width = coarse.exact.shift.size
    turning, center = searched.rotation
    rotated = queries
    if turning.size > 0:
        turned = empty((nq, width), np.float32)
        fill_products(queries, turning, width, empty(ROWS * LANES, np.float32), turned)
        rotated = turned
    if center.size > 0:
        moved = empty((nq, width), np.float32)
        for q in range(nq):
            for i in range(width):
                moved[q, i] = rotated[q, i] - center[i]
        rotated = moved
    lists, list_counts, centroid_scores = probe(rotated, coarse, searched.searchable, nprobe, need)
    bases = centroid_scores if residual else empty((nq, 0), np.float32)
    factor = np.float32(2.0 if l2 and residual else 1.0)
    squared = l2 and not residual
    sub_vectors = zeros((nq, M * dsub), np.float32)
    for q in range(nq):
        for i in range(width):
            sub_vectors[q, i] = rotated[q, i] * factor
    tables = empty((nq, M, ksub), np.float32)
    fill_lookup_tables(sub_vectors, transposed, squared, tables)
    pools = empty_pools(nq, capacity)
    visits = Visits(lists, list_counts, 0, 1)
    twice = spilled.mapping.size > 0
    reach = 2 * keep if twice else keep
    scan4.scan_lists(tables, bases, codes, visits, pools, reach, keys)
    if twice:
        scan4.scan_lists(tables, bases, spilled, visits, pools, reach, keys)
        drop_repeats(pools)
    cut_pools(pools, keep, keys)
    if store.rows.size > 0:
        padded_queries = zeros((nq, (d + 15) // 16 * 16), np.float32)
        for q in range(nq):
            for i in range(d):
                padded_queries[q, i] = queries[q, i]
        scanflat.rescore(padded_queries, store, l2, codes.row_base, pools)
    else:
        scan4.rescore(tables, bases, codes, pools)
    take_best(pools, k, keys, scores, rows)


def plan(searched: Searched) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what `search_planned` takes of an index.

    That is a plan, and empty arrays with the dtypes and axes of rotation and store, which can be several.
    """
    rotation, store = searched.rotation.panels, searched.store.rows
    return plan_of(searched), np.empty((0,) * rotation.ndim, rotation.dtype), np.empty(0, store.dtype)


@kernel(fastmath=REASSOCIATE)
def _squared_length(vector):
    total = np.float32(0.0)
    for value in vector:
        total += value * value
    return total


@kernel
def search_planned(queries, planned, rotation_like, store_like, k, keep, capacity, nprobe, need, longest, scores, rows):
    """Search for queries that were checked, or for queries as they were given; return whether that could be done.

    One kernel does both: a second one would compile all that a search does once more.

    Parameters
    ----------
    queries
        (nq, d) float32.
    planned, rotation_like, store_like
        What `plan` returned.
    k, keep, capacity, nprobe, need
        As for `search_block`.
    longest
        0 for checked queries. Else queries are as they were given, of an index with at least ``k`` rows: none may hold
        NaN or infinity, have a squared length of ``longest`` or more, or be zero where it has to be scaled to length
        one.
    scores, rows
        Outputs, (nq, k) float32 and int64; of queries as they were given ids, where the index's keys are ids.

    """
    searched = _searched(planned, (rotation_like, store_like))
    as_given = longest > np.float32(0.0)
    if as_given:
        if first_non_finite(queries) >= 0:
            return False
        if searched.normalize:
            unit = empty(queries.shape, np.float32)
            if unit_rows(queries, unit) >= 0:
                return False
            queries = unit
        else:
            for q in range(queries.shape[0]):
                if not _squared_length(queries[q]) < longest:
                    return False
    search_block(queries, searched, k, keep, capacity, nprobe, need, scores, rows)
    if as_given and searched.with_ids:
        for q in range(rows.shape[0]):
            for i in range(k):
                rows[q, i] = searched.keys[rows[q, i]]
    return True
