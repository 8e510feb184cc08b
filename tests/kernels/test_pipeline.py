"""The search in one call against plain NumPy, on integers: nothing is rounded, and many scores are tied."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from annvq.index.codes.localrows import NO_LOCAL_ROWS
from annvq.index.codes.probes import NO_MATRIX, NOT_IN_BYTES
from annvq.kernels.registers.tiles import readonly
from annvq.kernels.scan import pipeline, pipeline4, scan4, topk
from annvq.kernels.scan.coarse import Coarse, CodedCentroids, ExactCentroids
from annvq.kernels.scan.lists import PackedCodes, blocks_for
from annvq.kernels.vectors import gemm
from annvq.kernels.vectors.dots import Store

NO_CODES = PackedCodes(
    *(readonly(np.empty(0, dtype)) for dtype in (np.uint8, np.int64, np.int64, np.float32, np.uint8, np.uint32)), 0
)
NOTHING, NO_PANELS, ROW_BASE = readonly(np.empty(0, np.float32)), readonly(np.empty((0, 0, 0), np.float32)), 7


def floats(array):
    return readonly(np.ascontiguousarray(array, np.float32))


def scores_of(queries, rows, l2):
    return -np.square(queries[:, None] - rows).sum(axis=2) if l2 else queries @ rows.T


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 31, 32, 33, 65]), min_size=1, max_size=6), nq=st.integers(0, 5),
    M=st.integers(1, 6), dsub=st.integers(1, 3), k=st.integers(1, 40), nprobe=st.integers(1, 7),
    need=st.integers(0, 80), l2=st.booleans(), seed=st.integers(0, 2**31),
    options=st.sets(st.sampled_from(["rotation", "residual", "refine", "filter"])),
)  # fmt: skip
def test_hits_are_the_head_of_numpys_order(sizes, nq, M, dsub, k, nprobe, need, l2, seed, options):
    """All probed rows are rescored, so that quantized tables decide nothing."""
    rng, n, nlist, width = np.random.default_rng(seed), sum(sizes), len(sizes), M * dsub
    residual, d = "residual" in options, width + ("rotation" in options)
    queries, turn = rng.integers(-3, 4, (nq, d)), np.eye(d, dtype=int)[rng.permutation(d)[:width]]
    rotated = queries @ turn.T if "rotation" in options else queries
    centroids, shift = rng.integers(-2, 3, (nlist, width)), rng.integers(-2, 3, width) * l2
    codebooks, codes = rng.integers(-2, 3, (M, 16, dsub)), rng.integers(0, 16, (n, M)).astype(np.uint8)
    offsets, keys = np.concatenate([[0], np.cumsum(sizes)]), rng.permutation(n + ROW_BASE)
    allowed = rng.integers(0, 2, n) if "filter" in options else np.ones(n, int)
    lists = np.repeat(np.arange(nlist), sizes)
    live = np.bincount(lists, weights=allowed, minlength=nlist).astype(np.int64)
    decoded = codebooks[np.arange(M), codes].reshape(n, width)
    exact = scores_of(rotated, decoded + residual * centroids[lists], l2)
    constants, store = NOTHING, NOTHING
    if residual and l2:
        constants = floats(-(decoded * (decoded + 2 * centroids[lists])).sum(axis=1))
    if "refine" in options and n:
        rows = rng.integers(-2, 3, (n, d))
        exact, store = scores_of(queries, rows, l2), floats(rows.ravel())
    found = np.empty((nq, k), np.float32), np.empty((nq, k), np.int64)
    keep = n + k
    packed = PackedCodes(
        readonly(scan4.pack(codes, offsets)), readonly(offsets), readonly(blocks_for(np.array(sizes))), constants,
        readonly(allowed.astype(np.uint8)) if "filter" in options else NO_CODES.allow, NO_CODES.mapping, ROW_BASE,
    )  # fmt: skip
    squares = floats(np.square(centroids - shift).sum(axis=1)) if l2 else NOTHING
    searched = pipeline.Searched(
        pipeline.Rotation(gemm.pack(floats(turn)) if "rotation" in options else NO_PANELS, NOTHING, NOTHING, NO_MATRIX),
        Coarse(
            ExactCentroids(gemm.pack(floats(centroids - shift)), floats(shift), squares),
            CodedCentroids(NOTHING, NO_PANELS, NO_CODES), NOT_IN_BYTES, readonly(np.arange(nlist)),
        ),
        live, pipeline.Refined(Store(store, d, NOTHING, NOTHING), NO_LOCAL_ROWS), readonly(keys), ROW_BASE, l2,
        normalize=False, with_ids=False,
    )  # fmt: skip
    tree = pipeline4.Searched4(searched, floats(codebooks.transpose(0, 2, 1)), residual, packed, packed)
    pipeline4.search_block(floats(queries), tree, k, keep, topk.capacity_for(keep), nprobe, need, *found)
    for q, near in enumerate(np.argsort(-scores_of(rotated, centroids, l2), axis=1, kind="stable")):
        near = near[live[near] > 0]
        probed = near[: max(nprobe, 1 + np.searchsorted(np.cumsum(live[near]), need))]
        candidates = np.flatnonzero(np.isin(lists, probed) & (allowed == 1))
        best = candidates[np.lexsort((keys[candidates + ROW_BASE], -exact[q, candidates]))][:k]
        assert found[1][q].tolist() == [*(best + ROW_BASE), *[-1] * (k - len(best))]
        assert found[0][q].tolist() == [*exact[q, best], *[-np.inf] * (k - len(best))]
