"""A whole search in one call: choose lists, make tables, scan 4-bit codes, rescore, sort.

What `annvq.index.search` does stage by stage for every kind of index, for the kind that has to be fastest:
a single query is over in some ten microseconds, of which each further call from Python would take a few.
The stages are the same kernels, so the results are the same.
"""

from __future__ import annotations

import numpy as np

from annvq.kernels.compile.jit import REASSOCIATE, kernel
from annvq.kernels.compile.scratch import empty, zeros
from annvq.kernels.registers.tiles import LANES, ROWS
from annvq.kernels.scan import scan4, scanflat
from annvq.kernels.scan.coarse import probe
from annvq.kernels.scan.lookup_tables import fill_lookup_tables
from annvq.kernels.scan.plan import array_of, plan_of
from annvq.kernels.scan.topk import MINUS_INFINITY, cut_pools, drop_repeats, take_best
from annvq.kernels.vectors.finite import first_non_finite
from annvq.kernels.vectors.gemm import fill_products
from annvq.kernels.vectors.unit import unit_rows

_FLOATS_3D = np.empty((0, 0, 0), np.float32)
_FLOATS, _BYTES, _WORDS = np.empty(0, np.float32), np.empty(0, np.uint8), np.empty(0, np.int64)
_NUMBERS = np.empty(0, np.uint32)
_ARRAYS = 24


@kernel
def search_block(queries, rotation, coarse, tables, codes, spilled, refine, keys, k, keep, capacity,
                 nprobe, need, l2, scores, rows):  # fmt: skip
    """Search one segment of product codes in lists for a block of queries.

    Parameters
    ----------
    queries
        (nq, d) float32.
    rotation
        Panels of the rotation (`annvq.kernels.vectors.gemm.pack`), and what is taken from a rotated query; each
        empty for none.
    coarse
        ``exact, coded, live, keys`` as `annvq.kernels.scan.coarse.probe` takes them.
    tables
        ``transposed (M, dsub, 16) float32``; whether codes are of residuals.
    codes
        ``packed, offsets, block_offsets, constants, allow, row_base`` as `annvq.kernels.scan.scan4.scan_lists`
        takes them.
    spilled
        ``packed, offsets, block_offsets, mapping`` of second codes (`annvq.index.spill`), empty for none.
    refine
        ``store, minimum, step`` as `annvq.kernels.scan.scanflat.rescore` takes them; with an empty store rows
        are rescored through the float tables.
    keys
        Of the rows, for ties.
    k, keep, capacity
        Hits wanted, rows that are rescored, places of a pool (`annvq.kernels.scan.topk.capacity_for` of ``keep``, of
        twice as many with second codes).
    nprobe, need
        As in `annvq.kernels.scan.coarse.choose_lists`.
    l2
        Whether scores are minus squared distances.
    scores, rows
        Outputs, (nq, k) float32 and int64.

    """
    exact, coded, live, list_keys = coarse
    transposed, residual = tables
    packed, offsets, block_offsets, constants, allow, row_base = codes
    spilled_packed, spilled_offsets, spilled_blocks, mapping = spilled
    store, minimum, step = refine
    nq, d = queries.shape
    M, dsub, ksub = transposed.shape
    width = exact[1].size
    turning, center = rotation
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
    lists, list_counts, centroid_scores = probe(rotated, exact, coded, live, nprobe, need, list_keys)
    bases = centroid_scores if residual else empty((nq, 0), np.float32)
    factor = np.float32(2.0 if l2 and residual else 1.0)
    squared = l2 and not residual
    sub_vectors = zeros((nq, M * dsub), np.float32)
    for q in range(nq):
        for i in range(width):
            sub_vectors[q, i] = rotated[q, i] * factor
    tables_of = empty((nq, M, ksub), np.float32)
    fill_lookup_tables(sub_vectors, transposed, squared, tables_of)
    pool_scores = empty((nq, capacity), np.float32)
    pool_rows = empty((nq, capacity), np.int64)
    pool_counts = zeros(nq, np.int64)
    thresholds = empty(nq, np.float32)
    for q in range(nq):
        thresholds[q] = MINUS_INFINITY
    twice = mapping.size > 0
    reach = 2 * keep if twice else keep
    scan4.scan_lists(
        tables_of, packed, offsets, block_offsets, lists, list_counts, bases, constants, allow, mapping[:0], 0, 1,
        row_base, pool_scores, pool_rows, pool_counts, thresholds, reach, keys,
    )  # fmt: skip
    if twice:
        scan4.scan_lists(
            tables_of, spilled_packed, spilled_offsets, spilled_blocks, lists, list_counts, bases, constants, allow,
            mapping, 0, 1, row_base, pool_scores, pool_rows, pool_counts, thresholds, reach, keys,
        )  # fmt: skip
        drop_repeats(pool_scores, pool_rows, pool_counts)
    cut_pools(pool_scores, pool_rows, pool_counts, keep, keys)
    if store.size > 0:
        padded_queries = zeros((nq, (d + 15) // 16 * 16), np.float32)
        for q in range(nq):
            for i in range(d):
                padded_queries[q, i] = queries[q, i]
        scanflat.rescore(
            padded_queries, store, d, minimum, step, l2, row_base, pool_scores, pool_rows, pool_counts
        )  # fmt: skip
    else:
        scan4.rescore(
            tables_of, packed, offsets, block_offsets, bases, constants, row_base, pool_scores, pool_rows, pool_counts
        )  # fmt: skip
    take_best(pool_scores, pool_rows, pool_counts, k, keys, scores, rows)


def plan(rotation, coarse, tables, codes, spilled, refine, keys, l2, normalize, with_ids):
    """Return what `search_planned` takes of an index; parameters as for `search_block`.

    That is a plan, and empty arrays with the dtypes and axes of rotation and store, which can be several.
    ``normalize`` and ``with_ids`` are for queries as they were given: whether these are scaled to length one, and
    whether ``keys`` are the ids.
    """
    exact, coded, live, list_keys = coarse
    transposed, residual = tables
    packed, offsets, block_offsets, constants, allow, row_base = codes
    arrays = [*rotation, *exact, *coded, live, list_keys, transposed, packed, offsets, block_offsets,
              constants, allow, *spilled, *refine, keys]  # fmt: skip
    store = refine[0]
    planned = plan_of(arrays, [residual, row_base, l2, normalize, with_ids])
    return planned, np.empty((0, 0, 0), rotation[0].dtype), np.empty(0, store.dtype)


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
    numbers = planned[4 * _ARRAYS :]
    as_given = longest > np.float32(0.0)
    if as_given:
        if first_non_finite(queries) >= 0:
            return False
        if numbers[3] != 0:
            unit = empty(queries.shape, np.float32)
            if unit_rows(queries, unit) >= 0:
                return False
            queries = unit
        else:
            for q in range(queries.shape[0]):
                if not _squared_length(queries[q]) < longest:
                    return False
    search_block(
        queries,
        (array_of(planned, 0, rotation_like), array_of(planned, 1, _FLOATS)),
        (
            (array_of(planned, 2, _FLOATS_3D), array_of(planned, 3, _FLOATS), array_of(planned, 4, _FLOATS)),
            (array_of(planned, 5, _FLOATS), array_of(planned, 6, _FLOATS_3D), array_of(planned, 7, _BYTES)),
            array_of(planned, 8, _WORDS),
            array_of(planned, 9, _WORDS),
        ),
        (array_of(planned, 10, _FLOATS_3D), numbers[0] != 0),
        (
            array_of(planned, 11, _BYTES),
            array_of(planned, 12, _WORDS),
            array_of(planned, 13, _WORDS),
            array_of(planned, 14, _FLOATS),
            array_of(planned, 15, _BYTES),
            numbers[1],
        ),
        (
            array_of(planned, 16, _BYTES),
            array_of(planned, 17, _WORDS),
            array_of(planned, 18, _WORDS),
            array_of(planned, 19, _NUMBERS),
        ),
        (array_of(planned, 20, store_like), array_of(planned, 21, _FLOATS), array_of(planned, 22, _FLOATS)),
        array_of(planned, 23, _WORDS), k, keep, capacity, nprobe, need, numbers[2] != 0, scores, rows,
    )  # fmt: skip
    if as_given and numbers[4] != 0:
        keys = array_of(planned, 23, _WORDS)
        for q in range(rows.shape[0]):
            for i in range(k):
                rows[q, i] = keys[rows[q, i]]
    return True
