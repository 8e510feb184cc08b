"""Scans of uncoded rows against plain NumPy."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from annvq.kernels.scan import scanflat, topk
from annvq.kernels.scan.lists import Visits
from annvq.kernels.vectors.dots import Store, padded

PROPERTY = settings(deadline=None, max_examples=40, derandomize=True)
KINDS, SEEDS = st.sampled_from(["fp32", "fp16", "sq8"]), st.integers(0, 2**31)
DIMS = st.one_of(st.integers(1, 40), st.just(9000))  # of the last, few rows fill the cache
NOTHING, ROW_BASE = np.empty(0, np.float32), 7


class Integers:
    """A store, two queries and their scores, all integers of few values: nothing is rounded, many scores are tied."""

    def __init__(self, kind, n, d, l2, seed):
        rng = np.random.default_rng(seed)
        rows, queries = rng.integers(-2, 3, (n, d)), rng.integers(-2, 3, (2, d))
        minimum = step = NOTHING
        store = rows.astype(np.float32)
        if kind == "fp16":
            store = store.astype(np.float16).view(np.uint16)
        if kind == "sq8":
            minimum, step, codes = rng.integers(-9, 10, (d,)), rng.integers(0, 3, (d,)), rng.integers(0, 6, (n, d))
            rows, store = minimum + step * codes, codes.astype(np.uint8)
        self.scores = -np.square(queries[:, None] - rows).sum(axis=2) if l2 else queries @ rows.T
        self.arguments = padded(queries), Store(store.reshape(-1), d, padded(minimum), padded(step)), l2
        self.keys = rng.permutation(ROW_BASE + n)

    def best(self, q, found, keep):
        candidates = np.flatnonzero(found)
        order = np.lexsort((self.keys[candidates + ROW_BASE], -self.scores[q, candidates]))[:keep]
        rows, missing = candidates[order], keep - len(order)
        return [*self.scores[q, rows], *[-np.inf] * missing], [*(rows + ROW_BASE), *[-1] * missing]


@PROPERTY
@given(
    kind=KINDS, sizes=st.lists(st.sampled_from([0, 1, 3, 31, 32, 33, 70]), min_size=1, max_size=4), d=DIMS,
    l2=st.booleans(), keep=st.integers(1, 100), parts=st.integers(1, 3), filtered=st.booleans(), seed=SEEDS,
)  # fmt: skip
def test_pools_hold_the_head_of_numpys_order(kind, sizes, d, l2, keep, parts, filtered, seed):
    rng, n, nlist = np.random.default_rng(seed), sum(sizes), len(sizes)
    case = Integers(kind, n, d, l2, seed)
    allow = rng.integers(0, 2, n).astype(np.uint8) if filtered else np.empty(0, np.uint8)
    allowed = allow == 1 if filtered else np.ones(n, bool)
    lists, counts = np.stack([rng.permutation(nlist) for _ in range(2)]), rng.integers(0, nlist + 1, 2)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    begin, end = np.sort(rng.integers(0, n + 1, 2))
    of_lists, of_all = (topk.empty_pools(2, topk.capacity_for(keep)) for _ in range(2))
    for part in range(parts):
        scanflat.scan_lists(
            *case.arguments, offsets, allow, ROW_BASE, Visits(lists, counts, part, parts), of_lists, keep, case.keys
        )
    scanflat.scan_all(*case.arguments, begin, end, allow, ROW_BASE, of_all, keep, case.keys)
    for pools, of_query in (
        (of_lists, lambda q: np.isin(np.repeat(np.arange(nlist), sizes), lists[q, : counts[q]])),
        (of_all, lambda q: (begin <= np.arange(n)) & (np.arange(n) < end)),
    ):
        scores, rows = topk.best(pools, keep, case.keys)
        for q in range(2):
            assert (scores[q].tolist(), rows[q].tolist()) == case.best(q, of_query(q) & allowed, keep)


@PROPERTY
@given(kind=KINDS, n=st.integers(1, 70), d=DIMS, l2=st.booleans(), seed=SEEDS)
def test_rescoring_is_exact_and_leaves_other_rows(kind, n, d, l2, seed):
    case, rng = Integers(kind, n, d, l2, seed), np.random.default_rng(seed)
    rows, counts = rng.integers(0, n + 2 * ROW_BASE, (2, 20)), rng.integers(0, 21, 2)
    scores = np.full((2, 20), 0.5, np.float32)
    pools = topk.Candidates(scores, rows, counts, np.zeros(2, np.float32))
    scanflat.rescore(*case.arguments, ROW_BASE, pools)
    rows -= ROW_BASE
    ours = (0 <= rows) & (rows < n) & (np.arange(20) < counts[:, None])
    for q in range(2):
        assert scores[q, ours[q]].tolist() == case.scores[q, rows[q, ours[q]]].tolist()
    assert (scores[~ours] == 0.5).all()
