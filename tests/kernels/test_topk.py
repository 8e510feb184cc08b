import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annvq.kernels.scan import topk


def reference(scores, rows, keys, keep):
    order = np.lexsort((keys[rows], -scores.astype(np.float64)))[:keep]
    return scores[order], rows[order]


def filled(scores, keep, keys):
    pool_scores = np.empty(topk.capacity_for(keep), np.float32)
    pool_rows = np.empty(topk.capacity_for(keep), np.int64)
    count, threshold = np.int64(0), np.float32(-np.inf)
    for row, score in enumerate(scores):
        if score >= threshold:
            pool_scores[count], pool_rows[count] = score, row
            count += 1
            if count == len(pool_scores):
                count, threshold = topk.thinned(pool_scores, pool_rows, count, keep, keys)
                assert keep <= count < len(pool_scores)
    return topk.Candidates(pool_scores[None], pool_rows[None], np.array([count]), np.array([threshold]))


@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 1000])
@pytest.mark.parametrize("keep", [1, 10, 100])
def test_pool_keeps_the_best_by_score_then_key(n, keep):
    rng = np.random.default_rng(n + keep)
    scores = rng.integers(0, 20, n).astype(np.float32)  # many ties
    keys = rng.permutation(max(n, 1)).astype(np.int64)
    pool = filled(scores, keep, keys)
    out_scores, out_rows = np.empty((1, keep), np.float32), np.empty((1, keep), np.int64)
    topk.take_best(pool, keep, keys, out_scores, out_rows)
    want_scores, want_rows = reference(scores, np.arange(n), keys, keep)
    found = len(want_rows)
    assert out_rows[0, :found].tolist() == want_rows.tolist()
    assert out_scores[0, :found].tolist() == want_scores.tolist()
    assert (out_rows[0, found:] == -1).all()
    assert (out_scores[0, found:] == -np.inf).all()


def test_result_does_not_depend_on_the_order_of_arrival():
    rng = np.random.default_rng(7)
    scores = rng.integers(0, 5, 500).astype(np.float32)
    keys = np.arange(500)
    wanted = reference(scores, np.arange(500), keys, 20)[1].tolist()
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(500)
        rows = order.astype(np.int64).copy()
        shuffled = scores[order].copy()
        topk.cut(shuffled, rows, np.int64(500), 20, keys)
        assert sorted(rows[:20].tolist()) == sorted(wanted)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("m", "keep"), [(1, 1), (40, 1), (40, 3), (40, 39), (40, 40), (700, 3), (700, 699)])
def test_the_best_of_columns_are_by_score_then_key(m, keep, shared):
    rng = np.random.default_rng(keep)
    scores = rng.integers(0, 4, (m, 30)).astype(np.float32)
    scores[:, 0], scores[m // 2, 1], scores[m // 3, 1] = 7, np.inf, -np.inf
    scores[:, 2] = np.arange(m)  # every one is better than all before
    keys = rng.permutation(m)[:, None] if shared else rng.integers(0, m, (m, 30))
    places = topk.best_of_columns(scores, keys, keep)
    for column in range(30):
        key = keys[:, 0 if shared else column]
        order = np.lexsort((key, -scores[:, column]))[:keep]
        found = places[:, column]
        assert sorted(zip(scores[found, column], key[found])) == sorted(zip(scores[order, column], key[order]))
        assert len(set(found)) == keep


def test_minus_infinity_is_kept_before_a_missing_place():
    keys = np.arange(3)
    scores = np.array([-np.inf, 1.0, -np.inf], np.float32)
    pool = filled(scores, 3, keys)
    out_scores, out_rows = np.empty((1, 4), np.float32), np.empty((1, 4), np.int64)
    topk.take_best(pool, 4, keys, out_scores, out_rows)
    assert out_rows[0].tolist() == [1, 0, 2, -1]


PROPERTY = settings(deadline=None, max_examples=40, derandomize=True)


@PROPERTY
@given(
    n=st.integers(0, 500), keep=st.integers(1, 60), k=st.integers(1, 70), values=st.integers(1, 600),
    order=st.sampled_from(["any", "rising", "falling", "to the middle"]), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_any_order_of_arrival_leaves_numpys_head(n, keep, k, values, order, seed):
    rng = np.random.default_rng(seed)
    scores = np.sort(rng.integers(values, size=n)).astype(np.float32)
    scores[scores == 0], scores[scores == values - 1] = -np.inf, np.finfo(np.float32).max
    by_order = {"any": rng.permutation(n), "rising": np.arange(n), "falling": np.arange(n)[::-1]}
    scores = scores[by_order.get(order, np.argsort(np.abs(np.arange(n) - n // 2), kind="stable"))]
    keys = rng.permutation(max(n, 1)).astype(np.int64)
    pool = filled(scores, keep, keys)
    topk.cut_pools(pool, keep, keys)
    want_scores, want_rows = reference(scores, np.arange(n), keys, keep)
    assert set(pool.rows[0, : pool.counts[0]]) == set(want_rows)
    out_scores, out_rows = topk.best(pool, k, keys)
    missing = max(0, k - len(want_rows))
    assert out_rows[0].tolist() == [*want_rows[:k], *[-1] * missing]
    assert out_scores[0].tolist() == [*want_scores[:k], *[-np.inf] * missing]


@PROPERTY
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=200), st.integers(1, 50), st.integers(0, 2**31))
def test_cut_and_sort_match_numpy(values, keep, seed):
    scores = np.array(values, np.float32)
    rows = np.arange(len(values))
    keys = np.random.default_rng(seed).permutation(len(values)).astype(np.int64)
    keep = min(keep, len(values))
    want_scores, want_rows = reference(scores, rows, keys, keep)
    topk.cut(scores, rows, np.int64(len(values)), keep, keys)
    topk.sort(scores, rows, np.int64(keep), keys)
    assert rows[:keep].tolist() == want_rows.tolist()
    assert scores[:keep].tolist() == want_scores.tolist()


@PROPERTY
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 12), st.floats(-5, 5, width=32)), max_size=60), max_size=4),
    st.sampled_from([1, 1 << 20, (1 << 40) + 1]),
)
def test_repeated_rows_leave_the_best_of_each(pools, stride):
    capacity = max((len(pool) for pool in pools), default=0) + 3
    scores, rows = np.full((len(pools), capacity), 77, np.float32), np.full((len(pools), capacity), 77, np.int64)
    counts = np.array([len(pool) for pool in pools], np.int64)
    for q, pool in enumerate(pools):
        for i, (row, score) in enumerate(pool):
            rows[q, i], scores[q, i] = row * stride, score
    topk.drop_repeats(topk.Candidates(scores, rows, counts, np.zeros(len(pools), np.float32)))
    for q, pool in enumerate(pools):
        best = {row * stride: max(s for r, s in pool if r == row) for row, _ in pool}
        found = dict(zip(rows[q, : counts[q]].tolist(), scores[q, : counts[q]].tolist(), strict=True))
        assert counts[q] == len(best)
        assert found == best
