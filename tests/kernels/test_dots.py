import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annvq.kernels.vectors import dots

NOTHING = np.empty(0, np.float32)


def scores_of(queries, store, d, l2, minimum=NOTHING, step=NOTHING):
    out = np.empty((len(queries), store.size // d), np.float32)
    dots.score_rows(dots.padded(queries), store.reshape(-1), d, dots.padded(minimum), dots.padded(step), l2, out)
    return out


def exact(queries, rows, l2):
    q, x = queries.astype(np.float64), rows.astype(np.float64)
    return -((q[:, None] - x[None]) ** 2).sum(-1) if l2 else q @ x.T


@pytest.mark.parametrize("l2", [False, True])
@pytest.mark.parametrize("n", [1, 3, 31, 32, 33, 65])
@pytest.mark.parametrize("d", [1, 7, 15, 16, 17, 100])
def test_float_rows_match_float64(d, n, l2):
    rng = np.random.default_rng(d * n)
    rows = rng.normal(size=(n, d)).astype(np.float32)
    queries = rng.normal(size=(3, d)).astype(np.float32)
    np.testing.assert_allclose(scores_of(queries, rows, d, l2), exact(queries, rows, l2), rtol=1e-5, atol=1e-4)
    halves = rows.astype(np.float16)
    found = scores_of(queries, halves.view(np.uint16), d, l2)
    np.testing.assert_allclose(found, exact(queries, halves, l2), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("l2", [False, True])
@pytest.mark.parametrize("d", [1, 16, 33])
def test_coded_rows_match_float64(d, l2):
    rng = np.random.default_rng(d)
    codes = rng.integers(0, 256, (9, d)).astype(np.uint8)
    minimum, step = rng.normal(size=d).astype(np.float32), rng.random(d).astype(np.float32) / 50
    queries = rng.normal(size=(2, d)).astype(np.float32)
    rows = minimum + step.astype(np.float64) * codes
    np.testing.assert_allclose(
        scores_of(queries, codes, d, l2, minimum, step), exact(queries, rows, l2), rtol=1e-4, atol=1e-3
    )


def test_a_score_does_not_depend_on_its_neighbours():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(70, 50)).astype(np.float32)
    queries = rng.normal(size=(5, 50)).astype(np.float32)
    together = scores_of(queries, rows, 50, False)
    for q in (0, 4):
        for row in (0, 33, 69):
            alone = scores_of(queries[q : q + 1], np.ascontiguousarray(rows[row]), 50, False)
            assert alone[0, 0] == together[q, row]


def test_non_finite_values_are_not_hidden():
    rows = np.zeros((2, 17), np.float32)
    rows[0, 16], rows[1, 3] = np.nan, np.inf
    found = scores_of(np.ones((1, 17), np.float32), rows, 17, False)
    assert np.isnan(found[0, 0])
    assert found[0, 1] == np.inf


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    n=st.integers(0, 140), nq=st.integers(0, 4), d=st.integers(1, 70), l2=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float16, np.uint8]), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_integers_are_exact(n, nq, d, l2, dtype, seed):
    rng = np.random.default_rng(seed)
    minimum, step = NOTHING, NOTHING
    rows = stored = rng.integers(-99, 100, (n, d)).astype(np.float32)
    queries = rng.integers(-99, 100, (nq, d)).astype(np.float32)
    if dtype == np.float16:
        stored = rows.astype(dtype).view(np.uint16)
    if dtype == np.uint8:
        minimum, step = (rng.integers(low, 3, d).astype(np.float32) for low in (-99, 0))
        stored = rng.choice([0, 1, 127, 128, 255], (n, d)).astype(dtype)
        rows = minimum + step * stored
    wanted = exact(queries, rows, l2)
    assert np.array_equal(scores_of(queries, stored, d, l2, minimum, step), wanted)
    assert np.array_equal(dots.squared_norms(rows), np.square(rows, dtype=np.float64).sum(axis=1))
