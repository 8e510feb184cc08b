"""A whole search of a graph in one call: look-up tables, walk, sorting."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from annvq.kernels import turns
from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import local, local_zeros
from annvq.kernels.graph.coding import bring_beside, prepare_walks
from annvq.kernels.graph.rows import GraphRows
from annvq.kernels.graph.walk import search_graph
from annvq.kernels.scan import pipeline
from annvq.kernels.scan.plan import reader_of
from annvq.kernels.scan.topk import Candidates, clear, take_best


class SearchedGraph(NamedTuple):
    """Everything that a search of one segment's graph reads.

    The rotation of ``searched`` projects and centres queries, and its store has the vectors of ``rows``.
    """

    searched: pipeline.Searched
    transposed: np.ndarray  # (M, dsub, 16) float32: the codebooks
    rows: GraphRows  # without vectors
    length: np.ndarray  # (1,) float32: how long queries are made to be; empty if they stay as they are


_ROWS = GraphRows(
    pipeline.BYTES, np.empty(0, np.uint32), pipeline.FLOATS, pipeline.BYTES, pipeline.FLOATS, pipeline.FLOATS,
    pipeline.BYTES, 0, 0, 0, 0, 0, 0,
)  # fmt: skip
_read = reader_of(SearchedGraph(pipeline.SEARCHED, pipeline.FLOATS_3D, _ROWS, pipeline.FLOATS))


@kernel
def search_planned(queries, planned, rotation_like, store_like, k, keep, capacity, nprobe, need, longest, scores, rows):
    """Do what `annvq.kernels.scan.pipeline4.search_planned` does; ``keep`` is the length of the queue of a walk."""
    searched, transposed, held, length = _read(planned, (rotation_like, store_like))
    turns.pass_on(searched.word)
    as_given = longest > np.float32(0.0)
    if as_given:
        fit = local(queries.shape, np.float32)
        if not pipeline.accepted(queries, searched.normalize, longest, fit):
            return False
        queries = fit
    nq, d = queries.shape
    scales = local(nq, np.float32)
    if length.size > 0:
        beside = local(queries.shape, np.float32)
        bring_beside(queries, length[0], beside, scales)
        queries = beside
    padded = local_zeros((nq, (d + 15) // 16 * 16), np.float32)
    for q in range(nq):
        for i in range(d):
            padded[q, i] = queries[q, i]
    quantized = local((nq, held.groups * 64), np.uint8)
    steps, biases = local(nq, np.float32), local(nq, np.float32)
    prepare_walks(queries, searched.rotation, transposed, quantized, steps, biases)
    pools = Candidates(
        local((nq, capacity), np.float32), local((nq, capacity), np.int64), local(nq, np.int64), local(nq, np.float32)
    )
    clear(pools)
    graph = GraphRows(
        searched.refined.store.rows, held.neighbors, held.numbers, held.packed, held.minimum, held.step, held.allow,
        held.d, held.n, held.row_bytes, held.groups, held.passing, held.row_base,
    )  # fmt: skip
    search_graph(
        padded, quantized, steps, biases, graph, searched.l2, pools, keep, searched.keys, local_zeros(nq, np.int64)
    )
    take_best(pools, k, searched.keys, scores, rows)
    if length.size > 0:
        for q in range(nq):
            for i in range(k):
                scores[q, i] /= scales[q]
    if as_given and searched.with_ids:
        pipeline.to_ids(rows, searched.keys)
    turns.await_turn(searched.word)
    return True
