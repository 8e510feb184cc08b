"""Locally adaptive rows against plain NumPy in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annvq.kernels.registers.tiles import readonly
from annvq.kernels.scan.topk import Candidates
from annvq.kernels.vectors import lvq

BASE = 7


def encoded(vectors, *, two, l2, mean=None):
    n, d = vectors.shape
    head = lvq.HEAD_WITH_SQUARE if l2 else lvq.HEAD
    rows = np.empty((n, head + (1 + two) * d), np.uint8)
    mean = np.zeros(d, np.float32) if mean is None else mean
    lvq.encode_rows(readonly(vectors), readonly(mean), rows, head)
    return lvq.LocalRows(readonly(rows.reshape(-1)), d, head, 1 + two, readonly(mean))


def number_of(local):
    return local.rows.size // (local.head + local.levels * local.d)


def decoded(local):
    out = np.empty((number_of(local), local.d), np.float32)
    lvq.decode_rows(local, np.arange(len(out)), out)
    return out


def scored(kernel, queries, local, l2):
    n, nq = number_of(local), len(queries)
    rows = np.tile(np.arange(n), (nq, 1)) + BASE
    pools = Candidates(np.zeros((nq, n), np.float32), rows, np.full(nq, n), np.zeros(nq, np.float32))
    kernel(readonly(queries), local, l2, BASE, pools)
    return pools.scores


CASES = dict(
    n=st.sampled_from([1, 2, 31, 33]), d=st.sampled_from([1, 3, 15, 16, 17, 63, 64, 65, 130]), two=st.booleans(),
    l2=st.booleans(), scale=st.sampled_from([1e-12, 1.0, 1e12]), seed=st.integers(0, 2**31),
)  # fmt: skip


@settings(deadline=None, max_examples=60, derandomize=True)
@given(**CASES)
def test_an_error_is_at_most_half_a_step_of_the_row(n, d, two, l2, scale, seed):
    vectors = (np.random.default_rng(seed).normal(size=(n, d)) * scale).astype(np.float32)
    vectors[0] = vectors[0, 0]
    step = np.ptp(vectors.astype(np.float64), axis=1, keepdims=True) / 255
    error = np.abs(decoded(encoded(vectors, two=two, l2=l2)) - vectors.astype(np.float64))
    assert (error <= step / (512 if two else 2) * 1.02 + 4e-7 * np.abs(vectors).max(axis=1, keepdims=True)).all()


@settings(deadline=None, max_examples=60, derandomize=True)
@given(**CASES)
def test_scores_are_those_of_the_decoded_rows(n, d, two, l2, scale, seed):
    rng = np.random.default_rng(seed)
    vectors, queries = (rng.normal(size=(m, d)).astype(np.float32) * np.float32(scale) for m in (n, 3))
    mean = rng.normal(size=d).astype(np.float32) * np.float32(scale)
    local = encoded(vectors, two=two, l2=l2, mean=mean)
    rows, wide = decoded(local).astype(np.float64), queries.astype(np.float64)
    exact = -np.square(wide[:, None] - rows).sum(axis=2) if l2 else wide @ rows.T
    lengths = np.linalg.norm(wide, axis=1)[:, None] + np.linalg.norm(rows, axis=1)
    assert (np.abs(scored(lvq.rescore, queries, local, l2) - exact) <= 2e-6 * lengths**2).all()
    lengths += np.linalg.norm(mean.astype(np.float64))
    first = decoded(encoded(vectors, two=False, l2=l2, mean=mean)).astype(np.float64)
    proposed = -np.square(wide[:, None] - first).sum(axis=2) if l2 else wide @ first.T
    same = np.square(wide - mean).sum(axis=1) if l2 else -(wide @ mean.astype(np.float64))
    assert (np.abs(scored(lvq.propose, queries, local, l2) - proposed - same[:, None]) <= 4e-5 * lengths**2).all()


@settings(deadline=None, max_examples=60, derandomize=True)
@given(**CASES)
def test_what_does_not_differ_from_the_mean_loses_nothing(n, d, two, l2, scale, seed):
    rng = np.random.default_rng(seed)
    vectors = (rng.normal(size=(n, d)) * scale).astype(np.float32)
    vectors[:, rng.random(d) < 0.3] = 0
    straddling = (vectors.min(axis=1) < 0) & (vectors.max(axis=1) > 0)
    error = np.abs(decoded(encoded(vectors, two=two, l2=l2)))[straddling]
    least = np.ptp(vectors[straddling], axis=1, keepdims=True) * 1e-6
    assert (error <= least)[vectors[straddling] == 0].all()


@pytest.mark.parametrize("two", [False, True])
@pytest.mark.parametrize("lowest", [-128, 0, 1000])
def test_whole_numbers_within_a_range_of_255_lose_nothing(two, lowest):
    vectors = np.random.default_rng(3).integers(lowest, lowest + 256, (40, 37)).astype(np.float32)
    assert np.array_equal(decoded(encoded(vectors, two=two, l2=True)), vectors)


def test_rows_of_other_stores_keep_their_scores():
    vectors = np.ones((3, 20), np.float32)
    local = encoded(vectors, two=True, l2=False)
    rows = np.array([[BASE - 1, BASE, BASE + 2, BASE + 3, -1]])
    for kernel in (lvq.propose, lvq.rescore):
        pools = Candidates(np.full((1, 5), 9, np.float32), rows, np.array([5]), np.zeros(1, np.float32))
        kernel(readonly(2 * vectors[:1]), local, False, BASE, pools)
        assert pools.scores[0].tolist() == [9, 40, 40, 9, 9]


def test_what_lies_behind_the_last_row_does_not_count():
    vectors = np.random.default_rng(1).normal(size=(4, 70)).astype(np.float32)
    local = encoded(vectors, two=False, l2=True)
    beyond = np.concatenate([local.rows, np.full(64, 255, np.uint8)])
    other = local._replace(rows=readonly(beyond[: local.rows.size]))
    queries = vectors[:2] + 1
    assert np.array_equal(scored(lvq.propose, queries, local, True), scored(lvq.propose, queries, other, True))


@pytest.mark.parametrize("k", [1, 10, 100])
def test_finalists_are_more_than_k(k):
    assert k + 4 <= lvq.finalists(k) <= k + 4 + k / 16


def test_sums_of_many_dimensions_do_not_overflow():
    vectors = np.full((2, 100_000), 5, np.float32)
    vectors[1] = 2.5
    vectors[:, 0] = 0.1
    local, ones = encoded(vectors, two=False, l2=False), np.ones((1, 100_000), np.float32)
    exact = vectors.sum(axis=1, dtype=np.float64)
    np.testing.assert_allclose(scored(lvq.propose, ones, local, False)[0], exact, rtol=1e-3)
