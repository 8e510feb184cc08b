import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from annvq.kernels.vectors.unit import unit_rows


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    n=st.integers(0, 40), d=st.integers(1, 70), zeros=st.sets(st.integers(0, 39), max_size=2),
    exponents=st.sampled_from([(-44, -38), (-20, 20), (37, 38), (-44, 38)]), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_rows_are_divided_by_their_norm(n, d, zeros, exponents, seed):
    rng, (low, high) = np.random.default_rng(seed), exponents
    vectors = (rng.uniform(1, 3, (n, d)) * 10.0 ** rng.integers(low, high, (n, d))).astype(np.float32)
    vectors *= rng.choice([-1, 1], (n, d))
    zeros = [row for row in zeros if row < n]
    vectors[zeros] *= 0  # of both signs
    out = np.empty_like(vectors)
    assert unit_rows(vectors, out) == min(zeros, default=-1)
    if not zeros:
        exact = vectors.astype(np.float64)
        exact /= np.linalg.norm(exact, axis=1, keepdims=True)
        np.testing.assert_allclose(out, exact, rtol=1.2e-7, atol=1e-45)
