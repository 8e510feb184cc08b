import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annvq.codebooks import ProductCodebook, Rotation
from annvq.errors import CorruptIndexError, ParameterError, ShapeError


def correlated(n, d, seed=0):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(7).standard_normal((d, d)) * np.linspace(2, 0.05, d)
    return (rng.standard_normal((n, d)) @ mixing / np.sqrt(d)).astype(np.float32)


@pytest.mark.parametrize("d", [1, 2, 17, 64, 100])
def test_random_rotation(d):
    rotation = Rotation.random(d, seed=3)
    assert rotation.dim == rotation.dim_out == d
    np.testing.assert_allclose(rotation.matrix @ rotation.matrix.T, np.eye(d), atol=1e-5)
    vectors = correlated(33, d)
    rotated = rotation.apply(vectors)
    np.testing.assert_allclose(rotated, vectors.astype(np.float64) @ rotation.matrix.T, atol=1e-5)
    np.testing.assert_allclose(rotation.inverse(rotated), vectors, atol=1e-5)
    assert Rotation.random(d, seed=3).matrix.tobytes() == rotation.matrix.tobytes()
    assert d == 1 or Rotation.random(d, seed=4).matrix.tobytes() != rotation.matrix.tobytes()


@pytest.mark.parametrize("d", [5, 64, 100])
def test_apply_does_not_depend_on_the_batch(d):
    rotation, vectors = Rotation.random(d), correlated(301, d)
    rotated = rotation.apply(vectors)
    assert rotation.apply(vectors[:0]).shape == (0, d)
    assert rotation.apply(vectors, threads=3).tobytes() == rotated.tobytes()
    alone = np.concatenate([rotation.apply(vector[None]) for vector in vectors])
    assert alone.tobytes() == rotated.tobytes()


PROPERTY = settings(max_examples=30, deadline=None, derandomize=True)
SCALES = st.sampled_from([1e-30, 1.0, 1e30])


@PROPERTY
@given(n=st.integers(0, 70), d=st.integers(1, 40), d_out=st.integers(1, 45), scale=SCALES, seed=st.integers(0, 2**31))
def test_any_rotation_is_numpys_product(n, d, d_out, scale, seed):
    rng = np.random.default_rng(seed)
    matrix = np.linalg.qr(rng.normal(size=(max(d, d_out), min(d, d_out))))[0].astype(np.float32)
    matrix = matrix if d_out >= d else matrix.T
    rotation = Rotation.from_arrays({}, {"matrix": matrix})
    for apply, by in ((rotation.apply, matrix.T), (rotation.inverse, matrix)):
        vectors = (scale * rng.normal(size=(n, len(by)))).astype(np.float32)
        found = apply(vectors, threads=2)
        assert found.shape == (n, by.shape[1])
        rounding = len(by) * 2.0**-24 * (np.abs(vectors).astype(np.float64) @ np.abs(by))
        assert (np.abs(found - vectors.astype(np.float64) @ by) <= rounding).all()


@PROPERTY
@given(
    n=st.integers(1, 40), d=st.integers(1, 12), distinct=st.integers(1, 40), niter=st.integers(0, 2), scale=SCALES,
    seed=st.integers(0, 2**31), data=st.data(),
)  # fmt: skip
def test_any_vectors_give_an_orthonormal_rotation(n, d, distinct, niter, scale, seed, data):
    rng, M = np.random.default_rng(seed), data.draw(st.integers(1, d))
    vectors = scale * rng.integers(-2, 3, (distinct, d))[rng.integers(distinct, size=n)]
    rotation = Rotation.opq(vectors.astype(np.float32), M, nbits=4, niter=niter, seed=seed)
    assert rotation.matrix.shape == (M * -(-d // M), d)
    np.testing.assert_allclose(rotation.matrix.T.astype(np.float64) @ rotation.matrix, np.eye(d), atol=1e-5)


def pq_error(vectors, M, nbits, niter=8):
    codebook = ProductCodebook.train(vectors, M=M, nbits=nbits, niter=niter)
    return np.square(vectors - codebook.decode(codebook.encode(vectors))).sum(axis=1).mean()


@pytest.mark.parametrize(("d", "M", "nbits"), [(32, 4, 4), (32, 8, 4), (30, 4, 4), (24, 3, 8)])
def test_opq_lowers_the_error(d, M, nbits):
    vectors = correlated(2000, d)
    rotation = Rotation.opq(vectors, M, nbits=nbits, niter=8)
    assert rotation.matrix.shape == (M * -(-d // M), d)
    np.testing.assert_allclose(rotation.matrix.T @ rotation.matrix, np.eye(d), atol=1e-5)
    rotated = rotation.apply(vectors)
    np.testing.assert_allclose(rotation.inverse(rotated), vectors, atol=1e-4)
    assert pq_error(rotated, M, nbits) < 0.8 * pq_error(vectors, M, nbits)
    start = Rotation.opq(vectors, M, nbits=nbits, niter=0)
    assert pq_error(rotated, M, nbits) < pq_error(start.apply(vectors), M, nbits)


def test_same_bytes_for_any_threads():
    vectors = correlated(700, 16)
    runs = [Rotation.opq(vectors, 4, nbits=4, niter=3, threads=threads) for threads in (1, 2, 3)]
    assert len({run.matrix.tobytes() for run in runs}) == 1


@pytest.mark.parametrize(
    "vectors", [np.zeros((40, 6), np.float32), np.full((40, 6), 3.5, np.float32), correlated(1, 6)]
)
def test_degenerate_vectors(vectors):
    rotation = Rotation.opq(vectors, 3, nbits=4, niter=2)
    np.testing.assert_allclose(rotation.matrix.T @ rotation.matrix, np.eye(6), atol=1e-5)


def test_wrong_input():
    vectors = correlated(10, 6)
    for M in (0, 7):
        with pytest.raises(ParameterError, match="1 to the dimension 6"):
            Rotation.opq(vectors, M)
    with pytest.raises(ParameterError, match="4 or 8"):
        Rotation.opq(vectors, 2, nbits=5)
    with pytest.raises(ParameterError):
        Rotation.random(0)
    with pytest.raises(ShapeError):
        Rotation.random(5).apply(vectors)


def test_from_arrays():
    rotation = Rotation.random(9)
    again = Rotation.from_arrays(rotation.config(), rotation.arrays())
    assert again.matrix.tobytes() == rotation.matrix.tobytes()
    for wrong in (
        {},
        {"matrix": 2 * rotation.matrix},
        {"matrix": rotation.matrix[:5] * np.float32(1.01)},
        {"matrix": rotation.matrix.astype(np.float64)},
    ):
        with pytest.raises(CorruptIndexError):
            Rotation.from_arrays({}, wrong)


def test_nearly_as_good_as_faiss():
    faiss = pytest.importorskip("faiss")
    faiss.omp_set_num_threads(1)  # small work: its threads would only wait for each other
    vectors = correlated(1500, 24)
    theirs = faiss.OPQMatrix(24, 4)
    theirs.niter, theirs.niter_pq, theirs.niter_pq_0 = 20, 2, 8
    theirs.pq = faiss.ProductQuantizer(24, 4, 4)
    theirs.train(vectors)
    ours = Rotation.opq(vectors, 4, nbits=4)
    assert pq_error(ours.apply(vectors), 4, 4, 25) < 1.03 * pq_error(theirs.apply(vectors), 4, 4, 25)
