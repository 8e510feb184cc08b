"""Products in bytes against plain NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annvq.kernels.registers.tiles import readonly
from annvq.kernels.vectors import bytematrix

SEEDS = st.integers(0, 2**31)


def products(vectors, shift, matrix, adds, factor):
    packed = bytematrix.pack(matrix, adds)
    out = np.full((len(vectors), matrix.shape[1]), np.nan, np.float32)
    bytematrix.fill_products_of(readonly(vectors), readonly(shift), packed, np.float32(factor), out)
    return packed, out


@settings(deadline=None, max_examples=60, derandomize=True)
@given(n=st.integers(0, 4), d=st.integers(1, 130), k=st.integers(1, 70), seed=SEEDS)
def test_products_are_those_of_the_bytes(n, d, k, seed):
    rng = np.random.default_rng(seed)
    vectors, matrix = rng.normal(size=(n, d)).astype(np.float32), rng.normal(size=(d, k)).astype(np.float32)
    shift, adds = rng.normal(size=d).astype(np.float32), rng.normal(size=k).astype(np.float32)
    packed, out = products(vectors, shift, matrix, adds, 2.0)
    moved = vectors - shift
    steps = np.maximum(np.abs(moved).max(axis=1, initial=0), np.float32(1e-30)) / np.float32(127)
    levels = np.floor(moved.astype(np.float64) * (np.float32(1) / steps)[:, None] + 128.5) - 128
    columns = np.rint(matrix / packed.steps[:k])
    assert np.abs(levels).max(initial=0) <= 127
    assert np.abs(columns).max() == 127
    expected = 2.0 * steps[:, None] * packed.steps[:k] * (levels @ columns) + adds
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=2e-3 * d**0.5)
    np.testing.assert_allclose(out, 2.0 * moved.astype(np.float64) @ matrix + adds, atol=0.06 * d**0.5 + 0.01 * d)


@pytest.mark.parametrize("value", [0.0, 1e-38, 1e18, -1e18])
def test_extreme_vectors_stay_finite(value):
    matrix = np.eye(5, 3, dtype=np.float32)
    _, out = products(np.full((1, 5), value, np.float32), np.zeros(5, np.float32), matrix, np.zeros(3, np.float32), 1.0)
    np.testing.assert_allclose(out, value, rtol=1e-2, atol=1e-29)


def test_a_column_of_zeros_gives_what_is_added():
    matrix = np.zeros((9, 2), np.float32)
    vectors = np.arange(9, dtype=np.float32)[None]
    _, out = products(vectors, np.zeros(9, np.float32), matrix, np.array([3, -4], np.float32), 1.0)
    assert out.tolist() == [[3, -4]]


def test_a_product_does_not_depend_on_the_other_vectors():
    rng = np.random.default_rng(5)
    vectors, matrix = rng.normal(size=(7, 33)).astype(np.float32), rng.normal(size=(33, 20)).astype(np.float32)
    shift, adds = np.zeros(33, np.float32), np.zeros(20, np.float32)
    _, together = products(vectors, shift, matrix, adds, 1.0)
    for row, vector in zip(together, vectors, strict=True):
        assert np.array_equal(products(vector[None], shift, matrix, adds, 1.0)[1][0], row)
