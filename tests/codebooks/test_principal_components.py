import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annvq.codebooks import Rotation
from annvq.errors import CorruptIndexError, ParameterError


def decaying(n: int, d: int, seed: int = 0, mean: float = 0.0) -> np.ndarray:
    """Vectors whose variances fall by a constant factor, turned at random."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return ((rng.standard_normal((n, d)) * 0.8 ** np.arange(d)) @ turn + mean).astype(np.float32)


@given(st.integers(1, 60), st.integers(1, 40), st.data(), st.booleans(), st.integers(0, 2**16))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_components_are_the_leading_eigenvectors(n, d, data, keep_mean, seed):
    keep = data.draw(st.integers(1, d))
    dsub = data.draw(st.integers(1, keep + 3))
    vectors = decaying(n, d, seed, mean=1.0)
    rotation = Rotation.pca(vectors, keep, dsub=dsub, keep_mean=keep_mean)
    assert rotation.dim == d
    assert rotation.dim_out == -(-keep // dsub) * -(-keep // -(-keep // dsub))
    kept = rotation.matrix[rotation.matrix.any(axis=1)].astype(np.float64)
    assert len(kept) == keep
    exact = rotation.dim_out >= d  # projections are rounded to 8 bits
    np.testing.assert_allclose(kept @ kept.T, np.eye(keep), atol=1e-5 if exact else 1.5e-2)
    rows, mean = vectors.astype(np.float64), vectors.astype(np.float64).mean(axis=0)
    moments = np.cov(rows, rowvar=False, bias=True).reshape(d, d)
    if keep_mean and keep > 1:
        direction = mean / np.linalg.norm(mean)
        along = kept @ direction
        np.testing.assert_allclose(along, 1 / np.sqrt(keep), atol=1e-4 if exact else 1e-2)
        away = np.eye(d) - np.outer(direction, direction)
        kept, moments = kept @ away, away @ moments @ away
        keep -= 1
    largest = np.linalg.eigvalsh(moments)[::-1][:keep].sum()  # no subspace of so many dimensions holds more
    assert np.trace(kept @ moments @ kept.T) == pytest.approx(largest, rel=1e-4 if exact else 2e-2, abs=1e-6)


@pytest.mark.parametrize(("share", "d"), [(0.5, 64), (0.9, 64), (0.999, 64), (0.9, 10), (0.9, 1)])
def test_a_share_keeps_the_fewest_components_that_hold_it_in_steps_of_16(share, d):
    vectors = decaying(500, d)
    rotation = Rotation.pca(vectors, share, dsub=1)
    variances = np.linalg.eigvalsh(np.cov(vectors, rowvar=False, bias=True).reshape(d, d))[::-1]
    least = int(np.searchsorted(np.cumsum(variances) / variances.sum(), share)) + 1
    assert rotation.dim_out == min(d, -(-least // 16) * 16)


def test_sub_spaces_share_the_variance():
    vectors = decaying(2000, 32)
    rotated = Rotation.pca(vectors, 16, dsub=2).apply(vectors)
    products = rotated.var(axis=0).reshape(8, 2).prod(axis=1)
    assert products.max() / products.min() < 3  # dealt in order it would be 0.8^28, some 500


def test_projection_and_its_inverse():
    vectors = decaying(400, 48)
    rotation = Rotation.pca(vectors, 40, keep_mean=True)
    back = rotation.inverse(rotation.apply(vectors))
    assert ((back - vectors) ** 2).sum() < 1e-5 * (vectors**2).sum()
    again = Rotation.from_arrays(rotation.config(), rotation.arrays())
    assert again.apply(vectors).tobytes() == rotation.apply(vectors).tobytes()
    assert Rotation.pca(vectors, 40, keep_mean=True).matrix.tobytes() == rotation.matrix.tobytes()


@pytest.mark.parametrize(("keep", "dsub"), [(0, 1), (9, 1), (-1, 1), (4, 0), (float("nan"), 1)])
def test_wrong_input(keep, dsub):
    with pytest.raises(ParameterError):
        Rotation.pca(decaying(20, 8), keep, dsub=dsub)


def test_a_stored_projection_that_is_not_orthonormal_is_refused():
    matrix = Rotation.pca(decaying(100, 8), 4).matrix.copy()
    for place, value in (((0, 0), 2.0), ((1, 3), np.nan), ((1, 3), np.inf)):
        wrong = matrix.copy()
        wrong[place] = value
        with pytest.raises(CorruptIndexError):
            Rotation.from_arrays({}, {"matrix": wrong})
    with pytest.raises(CorruptIndexError):
        Rotation.from_arrays({}, {"matrix": np.empty((0, 8), np.float32)})


@pytest.mark.parametrize(("mean", "dims"), [(0.0, 16), (1.0, 16), (3.0, 64)])
def test_a_large_mean_asks_for_more_components_of_inner_products(mean, dims):
    vectors = decaying(2000, 64)
    vectors += np.float32(mean * np.sqrt(vectors.var(axis=0).sum())) * np.eye(64, dtype=np.float32)[5]
    assert Rotation.pca(vectors, 0.9, dsub=1).dim_out == 16
    assert Rotation.pca(vectors, 0.9, dsub=1, keep_mean=True).dim_out == dims
