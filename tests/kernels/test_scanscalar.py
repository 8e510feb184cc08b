"""The scan by products of bytes puts into pools, bit for bit, what the scan in floats puts there."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annvq.kernels.scan import scanflat, scanscalar, topk
from annvq.kernels.scan.lists import Visits
from annvq.kernels.vectors.dots import Store, padded, score_rows

PROPERTY = settings(deadline=None, max_examples=60, derandomize=True)
DIMS = st.sampled_from([64, 65, 79, 80, 127, 128, 129, 200, 384])
ROW_BASE = 7


def case(d, n, kind, seed):
    """Return queries, minimum, step and codes: (3, d), (d,) and (d,) float32, (n, d) uint8."""
    rng = np.random.default_rng(seed)
    scale = {"huge": 1e15, "beyond sums": 1e25, "small": 1e-20, "below normal": 1e-41}.get(kind, 1.0)
    step = scale * rng.random(d) / 50
    minimum = scale * rng.normal(size=d) + (1e6 if kind == "far" else 0)
    codes = rng.integers(0, 256, (n, d))
    if kind == "ties":
        codes = np.repeat(rng.integers(0, 256, (-(-n // 9), d)), 9, axis=0)[:n]
    if kind == "constant":
        step[rng.random(d) < 0.7] = 0
    if kind == "one wide":
        step[rng.integers(d)] *= 1e4
    if kind == "zero":
        minimum, step = 0 * minimum, 0 * step
    queries = minimum + step * rng.integers(-50, 300, (3, d)) if seed % 2 else scale * rng.normal(size=(3, d))
    return (*(x.astype(np.float32) for x in (queries, minimum, step)), codes.astype(np.uint8))


KINDS = ["plain", "ties", "constant", "huge", "beyond sums", "small", "below normal", "far", "one wide", "zero"]


@PROPERTY
@given(
    sizes=st.lists(st.sampled_from([0, 1, 3, 15, 31, 32, 33, 63, 64, 65, 300]), min_size=1, max_size=4), d=DIMS,
    kind=st.sampled_from(KINDS), l2=st.booleans(), keep=st.sampled_from([1, 10, 100]), parts=st.integers(1, 3),
    filtered=st.booleans(), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_pools_are_those_of_the_scan_in_floats(sizes, d, kind, l2, keep, parts, filtered, seed):
    n, nlist, rng = sum(sizes), len(sizes), np.random.default_rng(seed)
    queries, minimum, step, codes = case(d, n, kind, seed)
    store = Store(codes.reshape(-1), d, padded(minimum), padded(step))
    allow = rng.integers(0, 2, n).astype(np.uint8) if filtered else np.empty(0, np.uint8)
    keys, offsets = rng.permutation(ROW_BASE + n), np.concatenate([[0], np.cumsum(sizes)])
    lists, counts = np.stack([rng.permutation(nlist) for _ in range(3)]), rng.integers(0, nlist + 1, 3)
    begin, end = np.sort(rng.integers(0, n + 1, 2))
    norms, queries = np.zeros(n, np.float32), padded(queries)
    pools = [[topk.empty_pools(3, topk.capacity_for(keep)) for _ in range(2)] for _ in range(2)]
    for part in range(parts):
        visits = Visits(lists, counts, part, parts)
        scanflat.scan_lists(queries, store, l2, offsets, allow, ROW_BASE, visits, pools[0][0], keep, keys)
        scanscalar.scan_lists(queries, store, norms, l2, offsets, allow, ROW_BASE, visits, pools[0][1], keep, keys)
    scanflat.scan_all(queries, store, l2, begin, end, allow, ROW_BASE, pools[1][0], keep, keys)
    scanscalar.scan_all(queries, store, norms, l2, begin, end, allow, ROW_BASE, pools[1][1], keep, keys)
    for expected, found in pools:
        assert found.counts.tolist() == expected.counts.tolist()
        np.testing.assert_array_equal(found.thresholds, expected.thresholds)
        for q, count in enumerate(expected.counts):
            np.testing.assert_array_equal(found.scores[q, :count], expected.scores[q, :count])
            np.testing.assert_array_equal(found.rows[q, :count], expected.rows[q, :count])


@pytest.mark.parametrize("l2", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [64, 100, 200, 2000])
def test_no_row_that_reaches_the_threshold_is_passed_over(d, kind, l2):
    """The codes are those for which the estimate is lowest, and the threshold is the score itself."""
    queries, minimum, step, codes = case(d, 40, kind, 1)
    queries, none = padded(queries), np.empty(0, np.uint8)
    of_bytes = scanscalar.rounded(queries, Store(codes.reshape(-1), d, padded(minimum), padded(step)), l2)
    place = np.arange(d)
    place[d // 64 * 64 :] += 64 - d % 64
    levels = of_bytes.levels.view(np.int8)[:, place].astype(np.float64)
    low, width, asked = (x.astype(np.float64) for x in (minimum, step, queries[:, :d]))
    weights = 2 * (asked - low - 127.5 * width) * width if l2 else asked * width
    with np.errstate(invalid="ignore"):
        lost = weights - levels * of_bytes.units.astype(np.float64)[:, None]
    codes[:3] = np.where(lost > 0, 255, 0)
    store, norms = Store(codes.reshape(-1), d, padded(minimum), padded(step)), np.zeros(40, np.float32)
    scores = np.empty((3, 40), np.float32)
    score_rows(queries, *store, l2, scores)
    for q in range(3):
        for row in range(40):
            pool = topk.empty_pools(1, 64)
            pool.thresholds[0] = scores[q, row]
            scanscalar.scan_all(queries[q : q + 1], store, norms, l2, 0, 40, none, 0, pool, 41, np.arange(40))
            found = pool.rows[0, : pool.counts[0]].tolist()
            assert found == np.flatnonzero(scores[q] >= scores[q, row]).tolist()


def test_sums_that_overflow_are_not_relied_on():
    d = 70_000
    store = Store(np.full(2 * d, 255, np.uint8), d, np.zeros(d, np.float32), np.ones(d, np.float32))
    pool = topk.empty_pools(1, 64)
    pool.thresholds[0] = 1.0
    queries, nothing = np.ones((1, d), np.float32), np.empty(0, np.float32)
    scanscalar.scan_all(queries, store, nothing, False, 0, 2, np.empty(0, np.uint8), 0, pool, 1, np.arange(2))
    assert pool.rows[0, : pool.counts[0]].tolist() == [0, 1]


@pytest.mark.parametrize("l2", [False, True])
def test_most_rows_are_passed_over(l2):
    """In codes that are like those of embeddings, what estimates may be off is little beside what scores differ by."""
    rng, d, n = np.random.default_rng(0), 384, 2000
    vectors = rng.normal(size=(n, d)).astype(np.float32)
    minimum = vectors.min(axis=0)
    step = (vectors.max(axis=0) - minimum) / np.float32(255)
    codes = np.rint((vectors - minimum) / step).astype(np.uint8)
    queries = padded(rng.normal(size=(3, d)).astype(np.float32))
    store = Store(codes.reshape(-1), d, padded(minimum), padded(step))
    scores = np.empty((3, n), np.float32)
    score_rows(queries, *store, l2, scores)
    assert (2 * scanscalar.rounded(queries, store, l2).slacks < scores.std(axis=1)).all()


@pytest.mark.parametrize("d", [64, 130])
@pytest.mark.parametrize("l2", [False, True])
def test_best_rows_are_numpys(d, l2):
    rng = np.random.default_rng(d)
    for n in (0, 1, 31, 32, 33, 500):
        minimum, step, codes = rng.integers(-9, 10, d), rng.integers(0, 3, d), rng.integers(0, 200, (n, d))
        queries, keys = rng.integers(-2, 3, (2, d)), rng.permutation(n)
        rows = minimum + step * codes
        scores = -np.square(queries[:, None] - rows).sum(axis=2) if l2 else queries @ rows.T
        store = Store(codes.astype(np.uint8).reshape(-1), d, padded(minimum), padded(step))
        pools = topk.empty_pools(2, topk.capacity_for(10))
        given = padded(queries), store, np.zeros(n, np.float32), l2
        scanscalar.scan_all(*given, 0, n, np.empty(0, np.uint8), 0, pools, 10, keys)
        found_scores, found_rows = topk.best(pools, 10, keys)
        for q in range(2):
            order = np.lexsort((keys, -scores[q]))[:10]
            missing = [-1] * (10 - len(order))
            assert found_rows[q].tolist() == [*order, *missing]
            assert found_scores[q, : len(order)].tolist() == scores[q, order].tolist()
