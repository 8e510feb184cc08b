"""Choice of the lists that a query visits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from annvq.kernels.clusters.assign import pair_score
from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import empty, local, local_zeros
from annvq.kernels.registers import simd
from annvq.kernels.registers.tiles import LANES, ROWS
from annvq.kernels.scan import scan4
from annvq.kernels.scan.lists import PackedCodes
from annvq.kernels.scan.lookup_tables import fill_lookup_tables, quantize_lookup_tables
from annvq.kernels.scan.topk import MINUS_INFINITY, Candidates, cut, cut_pools, sort
from annvq.kernels.vectors.bytematrix import ByteMatrix, fill_products_of
from annvq.kernels.vectors.gemm import fill_products

_STEPS = 64
_RANKED = 32  # at most so many lists are sorted by counting
_HANDS = 32  # groups of lists whose best say how good the nearest lists are: two vectors


class ExactCentroids(NamedTuple):
    """The data needed to score all centroids (nlist, d)."""

    panels: np.ndarray  # centroids less ``shift``, as `annvq.kernels.vectors.gemm.pack` lays them out
    shift: np.ndarray  # (d,) float32, subtracted from queries as well; not used for inner products
    squares: np.ndarray  # (nlist,) float32: |c - shift|^2 for L2; empty for inner products


class CodedCentroids(NamedTuple):
    """The data needed to score only the centroids that 4-bit codes find near.

    All arrays are empty if there are few centroids.
    """

    rows: np.ndarray  # (nlist * d,) float32: the centroids
    transposed: np.ndarray  # (M, dsub, 16) float32: the codebooks
    codes: PackedCodes  # codes of all centroids, as a single list


class ByteCentroids(NamedTuple):
    """The data needed to score all centroids in bytes; empty where they are scored in floats."""

    shift: np.ndarray  # (d,) float32, subtracted from queries as it was from centroids
    matrix: ByteMatrix  # (d, nlist)
    l2: bool


class Coarse(NamedTuple):
    """The data needed to choose the lists of a query."""

    exact: ExactCentroids
    coded: CodedCentroids
    bytes: ByteCentroids
    keys: np.ndarray  # (nlist,) int64, 0 .. nlist - 1: of equal scores, the lower centroid is nearer


@kernel
def choose_lists(centroid_scores, live, nprobe, need, keys, scratch_scores, scratch_rows, lists, counts):
    """Choose the lists of every query, roughly nearest first.

    Parameters
    ----------
    centroid_scores
        (nq, nlist) float32; larger is closer.
    live
        (nlist,) int64: the number of rows per list that may be returned; lists without such rows are passed over.
    nprobe, need
        How many lists to take. If these hold fewer than ``need`` live rows, more lists are taken until they do, or no
        list is left.
    keys
        (nlist,) int64, 0 .. nlist - 1: ties go to the lower list.
    scratch_scores, scratch_rows
        Scratch, (nlist,) float32 and int64.
    lists, counts
        Outputs, (nq, nlist) int64 and (nq,) int64.

    """
    for q in range(counts.size):
        held = _gather_near(centroid_scores, q, live, nprobe, scratch_scores, scratch_rows)
        are_all = held == 0
        if are_all:
            held = _gather(centroid_scores, q, live, scratch_scores, scratch_rows)
        wanted = min(nprobe, held)
        is_ranked = held <= _RANKED
        if is_ranked:
            _rank(scratch_scores, scratch_rows, held)
        elif wanted < held:
            cut(scratch_scores, scratch_rows, held, wanted, keys)
        found = np.int64(0)
        for i in range(wanted):
            found += live[scratch_rows[i]]
        if found < need and (wanted < held or not are_all):
            within = _nearest_with(need, centroid_scores, q, live, wanted, keys, scratch_scores, scratch_rows)
            sort(scratch_scores, scratch_rows, within, keys)
            while found < need and wanted < within:
                found += live[scratch_rows[wanted]]
                wanted += 1
        elif not is_ranked:
            _roughly_sort(scratch_scores, scratch_rows, wanted)
        for i in range(wanted):
            lists[q, i] = scratch_rows[i]
        counts[q] = wanted


@kernel
def _gather(centroid_scores, q, live, scores, rows):
    """Write the lists that hold live rows, and their scores; return their number."""
    held = np.int64(0)
    for l in range(live.size):
        scores[held], rows[held] = centroid_scores[q, l], l
        held += np.int64(live[l] > 0)
    return held


@kernel
def _gather_near(centroid_scores, q, live, nprobe, scores, rows):
    """Write lists among which are the ``nprobe`` nearest that hold live rows, and their scores; return their number.

    Lists are dealt into `_HANDS` hands. The score that the best lists of ``nprobe`` hands reach is one that as many
    lists reach, and not many more, which are found in a fraction of the time of a cut of all lists. The result is 0 if
    too few of them hold live rows.
    """
    nlist = live.size
    start, whole = q * nlist, nlist - nlist % _HANDS
    if nprobe > _HANDS or whole == 0:
        return np.int64(0)
    first, second = simd.load_f32x16(centroid_scores, start), simd.load_f32x16(centroid_scores, start + 16)
    for i in range(_HANDS, whole, _HANDS):
        first = simd.maximum(simd.load_f32x16(centroid_scores, start + i), first)
        second = simd.maximum(simd.load_f32x16(centroid_scores, start + i + 16), second)
    best, least = local(_HANDS, np.float32), MINUS_INFINITY
    simd.store_f32x16(best, 0, first)
    simd.store_f32x16(best, 16, second)
    for i in range(_HANDS):
        reaching = simd.ones(simd.ge_mask(first, best[i])) + simd.ones(simd.ge_mask(second, best[i]))
        least = max(least, best[i] if reaching >= nprobe else MINUS_INFINITY)
    masks, begins = local(nlist // _HANDS, np.uint32), local(nlist // _HANDS, np.int64)
    some, held = np.int64(0), np.int64(0)
    for i in range(0, whole, _HANDS):  # without a branch on a score
        low = simd.ge_mask(simd.load_f32x16(centroid_scores, start + i), least)
        high = simd.ge_mask(simd.load_f32x16(centroid_scores, start + i + 16), least)
        masks[some], begins[some] = low | (high << np.uint32(16)), i
        some += np.int64(masks[some] != 0)
    for i in range(some):
        mask = masks[i]
        while mask != 0:
            l = begins[i] + simd.trailing_zeros(mask)
            mask &= mask - np.uint32(1)
            scores[held], rows[held] = centroid_scores[q, l], l
            held += np.int64(live[l] > 0)
    for l in range(whole, nlist):
        scores[held], rows[held] = centroid_scores[q, l], l
        held += np.int64(live[l] > 0 and centroid_scores[q, l] >= least)
    return held if held >= nprobe else np.int64(0)


@kernel
def _nearest_with(need, centroid_scores, q, live, wanted, keys, scores, rows):
    """Write so many of the nearest lists, and their scores, that they hold ``need`` rows; return how many.

    They are in no order. If there are not enough rows, the result is all lists with live rows.
    """
    within = wanted
    while True:
        held = _gather(centroid_scores, q, live, scores, rows)
        within = 2 * within + 16
        if within >= held:
            return held
        cut(scores, rows, held, within, keys)
        found = np.int64(0)
        for i in range(within):
            found += live[rows[i]]
        if found >= need:
            return np.int64(within)


@kernel
def _rank(scores, rows, count):
    """Order lists by score, nearest first, by counting how many are nearer; there is no branch on a score."""
    old_scores, old_rows = local(count, np.float32), local(count, np.int64)
    for i in range(count):
        old_scores[i], old_rows[i] = scores[i], rows[i]
    for i in range(count):
        mine, place = old_scores[i], np.int64(0)
        for j in range(i):
            place += np.int64(not old_scores[j] < mine)
        for j in range(i + 1, count):
            place += np.int64(old_scores[j] > mine)
        scores[place], rows[place] = mine, old_rows[i]


@kernel
def _roughly_sort(scores, rows, count):
    """Order lists by score, nearest first, to a precision of 64 equal steps from the best to the worst score.

    If the nearest list comes first, the pool's threshold rises fast. No result depends on the exact order.
    """
    if count <= _RANKED:
        _rank(scores, rows, count)
        return
    low, high = scores[0], scores[0]
    for i in range(1, count):
        low = min(low, scores[i])
        high = max(high, scores[i])
    span = high - low
    scale = np.float32(_STEPS - 1) / span if span > np.float32(0.0) else np.float32(0.0)
    begins = local_zeros(_STEPS + 1, np.int64)
    steps = local(count, np.int64)
    for i in range(count):
        below = (high - scores[i]) * scale  # NaN if scores are infinite
        steps[i] = np.int64(below) if below < np.float32(_STEPS - 1) else np.int64(_STEPS - 1)
        begins[steps[i] + 1] += 1
    for step in range(_STEPS):
        begins[step + 1] += begins[step]
    old_scores, old_rows = local(count, np.float32), local(count, np.int64)
    for i in range(count):
        old_scores[i], old_rows[i] = scores[i], rows[i]
    for i in range(count):
        place = begins[steps[i]]
        begins[steps[i]] += 1
        scores[place], rows[place] = old_scores[i], old_rows[i]


@kernel
def probe(queries, coarse, live, nprobe, need):
    """Return what `fill_probes` fills: lists (nq, nlist) int64, counts (nq,) int64 and scores (nq, nlist) float32."""
    nq, nlist = queries.shape[0], coarse.keys.size
    lists, counts, scores = empty((nq, nlist), np.int64), empty(nq, np.int64), empty((nq, nlist), np.float32)
    fill_probes(queries, coarse, live, nprobe, need, lists, counts, scores)
    return lists, counts, scores


@kernel
def fill_probes(queries, coarse, live, nprobe, need, lists, counts, scores):
    """Choose the lists of every query.

    Parameters
    ----------
    queries
        (nq, d) float32.
    coarse
        `Coarse`.
    live, nprobe, need
        As in `choose_lists`.
    lists, counts, scores
        Outputs, (nq, nlist) int64, (nq,) int64, and (nq, nlist) float32; scores are defined for the chosen lists only.

    """
    exact, coded, in_bytes, keys = coarse
    nq = queries.shape[0]
    nlist = keys.size
    counts[:] = 0
    reach = _reach(nprobe)
    together = max(1, nq)
    if coded.codes.packed.size > 0 and 2 * reach <= nlist:
        _probe_coded(queries, coded, exact.squares.size > 0, live, nprobe, reach, need, keys, lists, counts, scores)
        together = 1
    for q in range(0, nq, together):
        if counts[q] == 0:  # or too few of the lists that were found may be searched
            some = slice(q, q + together)
            if in_bytes.matrix.panels.size > 0:
                _probe_bytes(queries[some], in_bytes, live, nprobe, need, keys, lists[some], counts[some], scores[some])
            else:
                _probe_exactly(queries[some], exact, live, nprobe, need, keys, lists[some], counts[some], scores[some])


@kernel
def _reach(nprobe):
    """Return how many centroids are scored exactly after the codes: more than wanted, because codes are inexact."""
    return nprobe + nprobe // 4 + 32


@kernel
def _of_all_lists(queries, q, shift, l2):
    """Return what the scores of all lists have in common: -|q - shift|^2 or, for inner products, <q - shift, shift>."""
    d = shift.size
    total = simd.zero_f32x16()
    whole = d - d % 16
    for i in range(0, whole, 16):
        other = simd.load_f32x16(shift, i)
        moved = simd.sub(simd.load_f32x16(queries, q * d + i), other)
        total = simd.fma(moved, moved if l2 else other, total)
    if whole < d:
        other = simd.load_f32_tail(shift, whole, d - whole)
        moved = simd.sub(simd.load_f32_tail(queries, q * d + whole, d - whole), other)
        total = simd.fma(moved, moved if l2 else other, total)
    return -simd.hsum(total) if l2 else simd.hsum(total)


@kernel
def _probe_bytes(queries, in_bytes, live, nprobe, need, keys, lists, counts, scores):
    nlist = keys.size
    shift, matrix, l2 = in_bytes
    fill_products_of(queries, shift, matrix, np.float32(2.0 if l2 else 1.0), scores)
    for q in range(counts.size):
        same = _of_all_lists(queries, q, shift, l2)
        for l in range(nlist):
            scores[q, l] += same
    choose_lists(scores, live, nprobe, need, keys, local(nlist, np.float32), local(nlist, np.int64), lists, counts)


@kernel
def _probe_exactly(queries, exact, live, nprobe, need, keys, lists, counts, scores):
    panels, shift, squares = exact
    nq, d = queries.shape
    nlist = keys.size
    tile = local(ROWS * LANES, np.float32)
    if squares.size == 0:
        fill_products(queries, panels, nlist, tile, scores)
    else:
        shifted = local((nq, d), np.float32)
        for q in range(nq):
            for i in range(d):
                shifted[q, i] = queries[q, i] - shift[i]
        fill_products(shifted, panels, nlist, tile, scores)
        for q in range(nq):
            square = pair_score(shifted, q, shifted, q, d, False)
            for l in range(nlist):
                scores[q, l] = np.float32(2.0) * scores[q, l] - (square + squares[l])
    choose_lists(scores, live, nprobe, need, keys, local(nlist, np.float32), local(nlist, np.int64), lists, counts)


@kernel
def _probe_coded(queries, coded, l2, live, nprobe, reach, need, keys, lists, counts, scores):
    """Find ``reach`` centroids by their codes, score them exactly, and choose among them.

    If fewer than ``nprobe`` of these lists may be searched, or those chosen hold fewer than ``need`` rows, the query's
    count stays 0.
    """
    rows, transposed, codes = coded
    d = queries.shape[1]
    nlist = keys.size
    M, dsub, ksub = transposed.shape
    sub_vectors = local_zeros((1, M * dsub), np.float32)
    table = local((1, M, ksub), np.float32)
    quantized = local((1, (M + 3) // 4 * 64), np.uint8)
    step, bias = local(1, np.float32), local(1, np.float32)
    piece = local_zeros((1, 5), np.int64)
    piece[0, 4] = nlist
    threshold = local(1, np.float32)
    found = local((1, 2 * reach + 64), np.float32)
    found_rows = local((1, 2 * reach + 64), np.int64)
    found_count = local(1, np.int64)
    pool = Candidates(found, found_rows, found_count, threshold)
    for q in range(queries.shape[0]):
        for i in range(d):
            sub_vectors[0, i] = queries[q, i]
        fill_lookup_tables(sub_vectors, transposed, l2, table)
        step[0], bias[0] = quantize_lookup_tables(table[0], quantized[0])
        found_count[0], threshold[0] = 0, MINUS_INFINITY
        scan4.scan_pieces(codes, piece, bias, quantized, step, pool, reach, keys)
        cut_pools(pool, reach, keys)
        held, rows_held = np.int64(0), np.int64(0)
        for i in range(found_count[0]):
            if live[found_rows[0, i]] > 0:
                found_rows[0, held] = found_rows[0, i]
                held += 1
        if held < nprobe:
            continue
        found_count[0] = held
        for i in range(held):
            found[0, i] = pair_score(queries, q, rows, found_rows[0, i], d, l2)
        if held > nprobe:
            cut(found[0], found_rows[0], held, nprobe, keys)
        for i in range(nprobe):
            rows_held += live[found_rows[0, i]]
        if rows_held < need:
            continue
        _roughly_sort(found[0], found_rows[0], nprobe)
        for i in range(nprobe):
            lists[q, i] = found_rows[0, i]
            scores[q, found_rows[0, i]] = found[0, i]
        counts[q] = nprobe
