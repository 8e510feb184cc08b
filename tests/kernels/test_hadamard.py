"""The randomized Hadamard rotation against its definition in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annvq.kernels.vectors import hadamard

DIMS = [1, 7, 63, 64, 65, 100, 128, 192, 384, 1000]


def rotated(vectors, signs):
    out = np.empty((len(vectors), 8 * signs.shape[1]), np.float32)
    hadamard.rotate(np.ascontiguousarray(vectors, np.float32), signs, out)
    return out


def walsh(t):
    matrix = np.ones((1, 1))
    while len(matrix) < t:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix / np.sqrt(t)


def reference(vectors, signs):
    n, d = vectors.shape
    D = 8 * signs.shape[1]
    t = 1 << (D.bit_length() - 1)
    rows = np.zeros((n, D))
    rows[:, :d] = vectors
    for r in range(4):
        rows *= 1.0 - 2.0 * np.unpackbits(signs[r], bitorder="little")
        window = slice(0, t) if r % 2 == 0 else slice(D - t, D)
        rows[:, window] = rows[:, window] @ walsh(t)
        if t < D:
            x, y = rows[:, : D // 2], rows[:, D // 2 :]
            rows = np.hstack([x + y, x - y]) / np.sqrt(2)
    return rows


@pytest.mark.parametrize("d", DIMS)
def test_follows_its_definition(d):
    vectors = np.random.default_rng(d).normal(size=(5, d)).astype(np.float32)
    signs = hadamard.random_signs(d, 3)
    np.testing.assert_allclose(rotated(vectors, signs), reference(vectors, signs), atol=1e-5)


@pytest.mark.parametrize("d", DIMS)
def test_is_orthonormal(d):
    D = hadamard.padded_dim(d)
    assert D % 64 == 0
    assert d <= D < d + 64
    matrix = rotated(np.eye(D), hadamard.random_signs(d, 0)).astype(np.float64)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(D), atol=1e-5)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(d=st.integers(1, 300), seed=st.integers(0, 1000), scale=st.sampled_from([1e-20, 1.0, 1e15]))
def test_the_inverse_undoes_it(d, seed, scale):
    vectors = (scale * np.random.default_rng(seed).normal(size=(3, d))).astype(np.float32)
    signs = hadamard.random_signs(d, seed)
    forth, back = rotated(vectors, signs), np.empty_like(vectors)
    np.testing.assert_allclose(forth, reference(vectors, signs), atol=1e-5 * scale)
    hadamard.unrotate(forth, signs, back)
    np.testing.assert_allclose(back, vectors, atol=3e-5 * scale)


def test_a_row_does_not_depend_on_the_others():
    vectors = np.random.default_rng(0).normal(size=(9, 100)).astype(np.float32)
    signs = hadamard.random_signs(100, 0)
    together = rotated(vectors, signs)
    for i in range(9):
        np.testing.assert_array_equal(rotated(vectors[i : i + 1], signs), together[i : i + 1])


def test_no_rows_and_zero_rows():
    signs = hadamard.random_signs(70, 0)
    assert rotated(np.empty((0, 70)), signs).shape == (0, 128)
    assert not rotated(np.zeros((2, 70)), signs).any()


@pytest.mark.parametrize("d", DIMS)
def test_single_coordinates_are_spread(d):
    matrix = rotated(np.eye(d), hadamard.random_signs(d, 1)).astype(np.float64)
    D = matrix.shape[1]
    assert np.abs(matrix).max() * np.sqrt(D) < 12  # 1 coordinate of D would give sqrt(D)
    assert 1.5 < np.mean(matrix**4) * D**2 < 6  # 3 for a uniformly random rotation, D for none


def test_the_seed_names_the_rotation():
    same, other = hadamard.random_signs(65, 5), hadamard.random_signs(65, 6)
    np.testing.assert_array_equal(same, hadamard.random_signs(65, 5))
    assert (same != other).any()
    assert same.shape == (4, 16)
