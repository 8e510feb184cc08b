"""The parts of a search in one kernel call that do not depend on the kind of code.

A single query takes some tens of microseconds, and every call of a kernel from Python would add a few. The kinds of
codes that have to be fastest therefore run all stages of `annvq.index.search.stages` in one kernel
(`annvq.kernels.scan.pipeline4`, `annvq.kernels.scan.pipelinebits`). The stages are the same kernels, so that the
results are the same.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import empty, local, local_zeros
from annvq.kernels.registers import simd
from annvq.kernels.registers.tiles import LANES, ROWS
from annvq.kernels.scan import scanflat
from annvq.kernels.scan.coarse import ByteCentroids, Coarse, CodedCentroids, ExactCentroids
from annvq.kernels.scan.lists import PackedCodes
from annvq.kernels.scan.plan import GIVEN, plan_of
from annvq.kernels.scan.topk import cut_pools
from annvq.kernels.vectors import lvq
from annvq.kernels.vectors.bytematrix import ByteMatrix, fill_products_of
from annvq.kernels.vectors.dots import Store
from annvq.kernels.vectors.finite import first_non_finite
from annvq.kernels.vectors.gemm import fill_products
from annvq.kernels.vectors.unit import unit_rows


class Rotation(NamedTuple):
    """What is done to queries before lists are chosen; each array is empty if its step is left out.

    The rotation is in floats or, with the subtraction of the center, in bytes.
    """

    panels: np.ndarray  # the rotation, as `annvq.kernels.vectors.gemm.pack` lays it out
    center: np.ndarray  # (width,) float32, subtracted from rotated queries
    mean: np.ndarray  # (d,) float32, subtracted from queries that are rotated in bytes
    matrix: ByteMatrix  # the rotation (d, width) in bytes; adds are the rotated mean less the center


class Refined(NamedTuple):
    """The rows for rescoring, of which at most one kind is there."""

    store: Store
    local: lvq.LocalRows


class Searched(NamedTuple):
    """Everything except the codes that a search of one segment in lists reads."""

    rotation: Rotation
    coarse: Coarse
    searchable: np.ndarray  # (nlist,) int64, the number of rows per list that may be returned
    refined: Refined
    keys: np.ndarray  # (rows of the index,) int64: of equal scores, the row with the lower key is better
    row_base: int  # the index-wide number of the segment's row 0
    l2: bool  # whether scores are minus squared distances
    normalize: bool  # whether queries that have not been checked are scaled to length one
    with_ids: bool  # whether ``keys`` are the ids of the rows
    word: int = 0  # `annvq.kernels.turns.WORD`, or 0 if nobody waits for others


# Trees like those from which plans are made; see `annvq.kernels.scan.plan.reader_of`.
FLOATS, FLOATS_3D = np.empty(0, np.float32), np.empty((0, 0, 0), np.float32)
BYTES, WORDS = np.empty(0, np.uint8), np.empty(0, np.int64)
CODES = PackedCodes(BYTES, WORDS, WORDS, FLOATS, BYTES, np.empty(0, np.uint32), 0)
MATRIX = ByteMatrix(BYTES, np.empty(0, np.int32), FLOATS, FLOATS)
SEARCHED = Searched(
    Rotation(GIVEN, FLOATS, FLOATS, MATRIX),
    Coarse(
        ExactCentroids(FLOATS_3D, FLOATS, FLOATS), CodedCentroids(FLOATS, FLOATS_3D, CODES),
        ByteCentroids(FLOATS, MATRIX, False), WORDS,
    ),
    WORDS, Refined(Store(GIVEN, 0, FLOATS, FLOATS), lvq.LocalRows(BYTES, 0, 0, 1, FLOATS)),
    WORDS, 0, False, False, False,
)  # fmt: skip

Plan = tuple[np.ndarray, np.ndarray, np.ndarray]


def plan(searched: Searched, tree: Any) -> Plan:
    """Return the arguments of a ``search_planned`` that depend on the index alone.

    These are the plan of ``tree``, which holds ``searched`` and the codes, and two empty arrays with the dtypes and
    numbers of axes of the rotation and of the store, which differ between indexes.
    """
    rotation, store = searched.rotation.panels, searched.refined.store.rows
    return plan_of(tree), np.empty((0,) * rotation.ndim, rotation.dtype), np.empty(0, store.dtype)


@kernel
def turned(queries, rotation, width):
    """Return queries (nq, d) float32 in the form in which lists and codes take them, (nq, width) float32."""
    rotated = empty((queries.shape[0], width), np.float32)
    turn(queries, rotation, rotated)
    return rotated


@kernel
def turn(queries, rotation, rotated):
    """Write queries (nq, d) float32 to ``rotated``, (nq, width) float32, in the form that lists and codes take."""
    nq, width = rotated.shape
    panels, center, mean, matrix = rotation
    if matrix.panels.size > 0:
        fill_products_of(queries, mean, matrix, np.float32(1.0), rotated)
        return
    if panels.size > 0:
        fill_products(queries, panels, width, local(ROWS * LANES, np.float32), rotated)
    else:
        for q in range(nq):
            for i in range(width):
                rotated[q, i] = queries[q, i]
    if center.size > 0:
        for q in range(nq):
            for i in range(width):
                rotated[q, i] -= center[i]


@kernel
def rescore(queries, searched, k, pools):
    """Rescore the pooled rows of a segment with its refine store, which it has.

    ``queries (nq, d)`` float32 are not rotated. Local rows leave only so many rows in the pools as may be among the
    best ``k``.
    """
    nq, d = queries.shape
    l2, row_base, rows = searched.l2, searched.row_base, searched.refined.local
    if rows.rows.size > 0:
        lvq.propose(queries, rows, l2, row_base, pools)
        cut_pools(pools, lvq.finalists(k), searched.keys)
        lvq.rescore(queries, rows, l2, row_base, pools)
        return
    padded_queries = local_zeros((nq, (d + 15) // 16 * 16), np.float32)
    for q in range(nq):
        for i in range(d):
            padded_queries[q, i] = queries[q, i]
    scanflat.rescore(padded_queries, searched.refined.store, l2, row_base, pools)


@kernel
def refines(searched):
    """Return whether there is a refine store."""
    return searched.refined.store.rows.size > 0 or searched.refined.local.rows.size > 0


@kernel
def _copy(queries, q, out):
    """Copy query ``q`` of (nq, d) float32; return its squared length, NaN or infinity if it holds one."""
    d = queries.shape[1]
    start, whole = q * d, d - d % 32
    first = second = simd.zero_f32x16()
    for i in range(start, start + whole, 32):
        x, y = simd.load_f32x16(queries, i), simd.load_f32x16(queries, i + 16)
        simd.store_f32x16(out, i, x)
        simd.store_f32x16(out, i + 16, y)
        first, second = simd.fma(x, x, first), simd.fma(y, y, second)
    total = simd.hsum(simd.add(first, second))
    for i in range(whole, d):
        out[q, i] = queries[q, i]
        total += queries[q, i] * queries[q, i]
    return total


@kernel
def accepted(queries, normalize, longest, accepted_queries):
    """Check queries that are as the user gave them, and write them as the index takes them; return whether all are fit.

    No query may hold NaN or infinity. If queries are to be scaled to length one (``normalize``), none may be zero;
    otherwise, none may have a squared length of ``longest`` or more. ``accepted_queries`` is float32, of the shape of
    ``queries`` (nq, d) float32.
    """
    if normalize:
        return first_non_finite(queries) < 0 and unit_rows(queries, accepted_queries) < 0
    for q in range(queries.shape[0]):
        if not _copy(queries, q, accepted_queries) < longest:
            return False
    return True


@kernel
def to_ids(rows, keys):
    """Replace row numbers (nq, k) int64 by the keys of the rows, in place."""
    for q in range(rows.shape[0]):
        for i in range(rows.shape[1]):
            rows[q, i] = keys[rows[q, i]]
