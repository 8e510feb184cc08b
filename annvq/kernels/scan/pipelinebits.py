"""A whole search of RaBitQ codes in one call: lists, quantized queries, scan, rescoring, sorting."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from annvq.kernels import turns
from annvq.kernels.codes import rabitq
from annvq.kernels.codes.bits import QUERY_BITS
from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import empty, local
from annvq.kernels.scan import pipeline, scanbits
from annvq.kernels.scan.coarse import fill_probes
from annvq.kernels.scan.lists import Visits
from annvq.kernels.scan.plan import reader_of
from annvq.kernels.scan.topk import Candidates, clear, cut_pools, take_best
from annvq.kernels.vectors.hadamard import rotate


class SearchedBits(NamedTuple):
    """Everything that a search of one segment of RaBitQ codes in lists reads."""

    searched: pipeline.Searched
    signs: np.ndarray  # (4, D / 8) uint8: the signs of the rotation (`annvq.kernels.vectors.hadamard`)
    squares: np.ndarray  # (nlist,) float32: |c|^2 for inner products; empty for "l2"
    words: int  # `annvq.kernels.codes.bits.plane_words` of D
    codes: scanbits.BitCodes


_BYTES = np.empty((0, 0), np.uint8)
_read = reader_of(
    SearchedBits(
        pipeline.SEARCHED, _BYTES, pipeline.FLOATS, 0,
        scanbits.BitCodes(_BYTES, _BYTES, np.empty((0, 0), np.float32), pipeline.WORDS, pipeline.BYTES, 0),
    )
)  # fmt: skip


@kernel
def search_block(queries, tree, k, keep, capacity, nprobe, need, scores, rows):
    """Search one segment of RaBitQ codes in lists for a block of queries.

    ``tree`` is `SearchedBits`; the other parameters are those of `annvq.kernels.scan.pipeline4.search_block`.
    """
    searched, signs, squares, words, codes = tree
    keys = searched.keys
    nq = queries.shape[0]
    nlist = searched.coarse.keys.size
    rotated = local((nq, searched.coarse.exact.shift.size), np.float32)
    pipeline.turn(queries, searched.rotation, rotated)
    lists, list_counts, bases = local((nq, nlist), np.int64), local(nq, np.int64), local((nq, nlist), np.float32)
    fill_probes(rotated, searched.coarse, searched.searchable, nprobe, need, lists, list_counts, bases)
    visits = Visits(lists, list_counts, 0, 1)
    distances = local(bases.shape, np.float32)
    scanbits.fill_distances(rotated, bases, squares, visits, distances)
    prepared = _prepared(rotated, signs, words)
    pools = Candidates(
        local((nq, capacity), np.float32), local((nq, capacity), np.int64), local(nq, np.int64), local(nq, np.float32)
    )
    clear(pools)
    scanbits.scan_lists(codes, prepared, bases, distances, visits, pools, keep, keys)
    if pipeline.refines(searched):
        cut_pools(pools, keep, keys)
        pipeline.rescore(queries, searched, k, pools)
    take_best(pools, k, keys, scores, rows)


@kernel
def _prepared(queries, signs, words):
    """Return queries (nq, d) float32, rotated by ``signs`` and quantized.

    ``words`` is `annvq.kernels.codes.bits.plane_words` of D.
    """
    nq, D = queries.shape[0], np.int64(8) * signs.shape[1]
    turned = local((nq, D), np.float32)
    rotate(queries, signs, turned)
    prepared = rabitq.PreparedQueries(
        empty((nq, QUERY_BITS, words), np.uint64),
        empty((nq, D), np.uint8),
        empty((nq, D), np.uint8),
        empty((nq, 3), np.float32),
        empty(nq, np.int64),
    )
    rabitq.prepare(turned, prepared)
    return prepared


@kernel
def search_planned(queries, planned, rotation_like, store_like, k, keep, capacity, nprobe, need, longest, scores, rows):
    """Do what `annvq.kernels.scan.pipeline4.search_planned` does, for the plan of a `SearchedBits`."""
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
