from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annvq.codebooks import ProductCodebook
from annvq.errors import CorruptIndexError, NonFiniteError, ParameterError, ShapeError


def correlated(n, d, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((d, d)) * np.linspace(2, 0.1, d)
    return (rng.standard_normal((n, d)) @ mixing / np.sqrt(d)).astype(np.float32)


def subvectors(vectors, codebook):
    M, _, dsub = codebook.codebooks.shape
    padded = np.zeros((len(vectors), M * dsub))
    padded[:, : vectors.shape[1]] = vectors
    return padded.reshape(-1, M, dsub)


def distances(vectors, codebook):
    """(n, M, ksub) float64"""
    parts = subvectors(vectors, codebook)[:, :, None]
    return np.square(parts - codebook.codebooks[None].astype(np.float64)).sum(axis=3)


@pytest.mark.parametrize(("d", "M", "nbits"), [(16, 4, 4), (16, 16, 4), (17, 5, 4), (12, 1, 8), (33, 7, 8), (9, 3, 8)])
def test_encode_is_nearest(d, M, nbits):
    vectors = correlated(600, d)
    codebook = ProductCodebook.train(vectors, M=M, nbits=nbits, niter=4)
    assert codebook.codebooks.shape == (M, 1 << nbits, -(-d // M))
    assert codebook.code_bytes == -(-M * nbits // 8)
    others = correlated(131, d, seed=9)
    codes = codebook.encode(others)
    assert codes.shape == (131, M)
    assert codes.dtype == np.uint8
    exact = distances(others, codebook)
    chosen = np.take_along_axis(exact, codes[:, :, None].astype(int), 2)[..., 0]
    np.testing.assert_allclose(chosen, exact.min(axis=2), rtol=1e-4, atol=1e-5)
    decoded = codebook.decode(codes)
    np.testing.assert_allclose(np.square(others - decoded).sum(axis=1), chosen.sum(axis=1), rtol=1e-4, atol=1e-5)


def test_far_from_the_origin():
    vectors = correlated(400, 8) + np.float32(3e4)
    codebook = ProductCodebook.train(vectors, M=4, nbits=4, niter=5)
    exact = distances(vectors, codebook)
    chosen = np.take_along_axis(exact, codebook.encode(vectors)[:, :, None].astype(int), 2)[..., 0]
    np.testing.assert_allclose(chosen, exact.min(axis=2), atol=2e-2)
    assert chosen.mean() < 0.2 * vectors.var()


@pytest.mark.parametrize("nbits", [4, 8])
@pytest.mark.parametrize("eta", [None, 4.0])
def test_same_bytes_for_any_threads_and_split(nbits, eta):
    vectors = correlated(1500, 22)
    runs = [
        ProductCodebook.train(vectors, M=5, nbits=nbits, niter=3, anisotropic_eta=eta, seed=2, threads=threads)
        for threads in (1, 2, 3)
    ]
    assert len({run.codebooks.tobytes() for run in runs}) == 1
    codes = runs[0].encode(vectors)
    assert codes.tobytes() == runs[0].encode(vectors, threads=3).tobytes()
    split = [runs[0].encode(part) for part in np.split(vectors, [1, 64, 700])]
    assert codes.tobytes() == np.concatenate(split).tobytes()
    other = ProductCodebook.train(vectors, M=5, nbits=nbits, niter=3, anisotropic_eta=eta, seed=3)
    assert other.codebooks.tobytes() != runs[0].codebooks.tobytes()


@pytest.mark.parametrize("nbits", [4, 8])
def test_error_does_not_grow_with_iterations(nbits):
    vectors = correlated(1200, 12)
    errors = []
    for niter in (0, 1, 2, 4, 8, 25):
        codebook = ProductCodebook.train(vectors, M=3, nbits=nbits, niter=niter)
        errors.append(np.square(vectors - codebook.decode(codebook.encode(vectors))).sum(axis=1).mean())
    assert all(after <= before * (1 + 1e-5) for before, after in pairwise(errors))
    assert errors[-1] < 0.9 * errors[0]


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize(("d", "M", "nbits"), [(16, 4, 4), (17, 5, 4), (11, 11, 8), (33, 4, 8)])
def test_tables_sum_to_the_score(d, M, nbits, metric):
    vectors, queries = correlated(300, d), correlated(6, d, seed=1)
    codebook = ProductCodebook.train(vectors, M=M, nbits=nbits, niter=2)
    codes = codebook.encode(vectors)
    tables = codebook.lookup_tables(queries, metric)
    assert tables.shape == (6, M, 1 << nbits)
    assert tables.dtype == np.float32
    assert not codebook.needs_constants(metric, False)
    sums = tables.astype(np.float64)[:, np.arange(M), codes].sum(axis=2)
    decoded = codebook.decode(codes).astype(np.float64)
    exact = queries @ decoded.T if metric == "ip" else -np.square(queries[:, None] - decoded).sum(axis=2)
    np.testing.assert_allclose(sums, exact, rtol=1e-4, atol=1e-4)
    alone = np.concatenate([codebook.lookup_tables(query[None], metric) for query in queries])
    assert alone.tobytes() == tables.tobytes()


def test_tables_of_residuals():
    vectors, queries = correlated(200, 14), correlated(3, 14, seed=1)
    centroids = correlated(5, 14, seed=2)[np.random.default_rng(0).integers(5, size=200)]
    codebook = ProductCodebook.train(vectors - centroids, M=4, nbits=4)
    codes = codebook.encode(vectors - centroids)
    tables = codebook.lookup_tables(queries, "l2", residual=True).astype(np.float64)
    sums = tables[:, np.arange(4), codes].sum(axis=2)
    assert codebook.needs_constants("l2", True)
    assert not codebook.needs_constants("ip", True)
    constants = codebook.residual_constants(codes, centroids)
    base = -np.square(queries[:, None].astype(np.float64) - centroids).sum(axis=2)
    exact = -np.square(queries[:, None].astype(np.float64) - centroids - codebook.decode(codes)).sum(axis=2)
    np.testing.assert_allclose(base + sums + constants, exact, rtol=1e-4, atol=1e-4)
    without = codebook.residual_constants(codes)
    np.testing.assert_allclose(without, -np.square(codebook.decode(codes)).sum(axis=1), rtol=1e-5)


@pytest.mark.parametrize("n", [1, 3, 17])
def test_few_vectors(n):
    vectors = correlated(n, 6)
    codebook = ProductCodebook.train(vectors, M=2, nbits=8)
    np.testing.assert_allclose(codebook.decode(codebook.encode(vectors)), vectors, atol=1e-5)


def test_constant_and_sparse_vectors():
    vectors = np.full((300, 6), 2.5, np.float32)
    codebook = ProductCodebook.train(vectors, M=3, nbits=4)
    assert np.array_equal(codebook.decode(codebook.encode(vectors)), vectors)
    rng = np.random.default_rng(0)
    vectors = np.where(rng.random((1000, 8)) < 0.02, rng.standard_normal((1000, 8)), 0).astype(np.float32)
    codebook = ProductCodebook.train(vectors, M=8, nbits=4)
    # 20 values other than zero a dimension and 15 centroids for them: what starts at zero moves there
    error = np.square(vectors - codebook.decode(codebook.encode(vectors))).sum()
    assert error < 0.02 * np.square(vectors).sum()


@settings(max_examples=25, deadline=None, derandomize=True)
@given(n=st.integers(0, 140), d=st.integers(1, 24), seed=st.integers(0, 2**31), data=st.data())
def test_any_shape(n, d, seed, data):
    M = data.draw(st.integers(1, d))
    codebook = ProductCodebook.train(correlated(30, d, seed), M=M, nbits=4, niter=1)
    vectors = correlated(n, d, seed + 1)
    codes = codebook.encode(vectors)
    assert codes.shape == (n, M)
    exact = distances(vectors, codebook)
    chosen = np.take_along_axis(exact, codes[:, :, None].astype(int), 2)[..., 0]
    np.testing.assert_allclose(chosen, exact.min(axis=2), rtol=1e-4, atol=1e-5)
    assert codebook.decode(codes).shape == (n, d)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    n=st.integers(0, 140), d=st.integers(1, 24), ksub=st.sampled_from([16, 256]), threads=st.integers(1, 2),
    seed=st.integers(0, 2**31), data=st.data(),
)  # fmt: skip
def test_integers_are_exact(n, d, ksub, threads, seed, data):
    """Nothing is rounded where the mean centroid is an integer: codes, ties included, and tables are NumPy's."""
    rng, M = np.random.default_rng(seed), data.draw(st.integers(1, d))
    dsub = -(-d // M)
    half = rng.integers(-2, 3, (M, ksub // 2, dsub))
    codebooks = rng.permutation(np.concatenate([half, -half], axis=1), axis=1) + rng.integers(-99, 100, (M, 1, dsub))
    codebooks = np.where(np.arange(M * dsub).reshape(M, 1, dsub) < d, codebooks, 0)
    config = {"dim": d, "anisotropic_eta": None}
    codebook = ProductCodebook.from_arrays(config, {"codebooks": codebooks.astype(np.float32)})
    near = codebooks[np.arange(M), rng.integers(ksub, size=(n, M))].reshape(n, M * dsub)[:, :d]
    vectors = near + rng.integers(-2, 3, (n, d))
    codes = codebook.encode(vectors, threads=threads)
    assert np.array_equal(codes, distances(vectors, codebook).argmin(axis=2))
    decoded = codebooks[np.arange(M), codes].reshape(n, M * dsub)[:, :d]
    assert np.array_equal(codebook.decode(codes), decoded)
    queries, centroids = rng.integers(-9, 10, (3, d)), rng.integers(-9, 10, (n, d))
    products = np.einsum("qmi,mji->qmj", subvectors(queries, codebook), codebooks)
    queries = queries.astype(np.float32)
    assert np.array_equal(codebook.lookup_tables(queries, "ip"), products)
    assert np.array_equal(codebook.lookup_tables(queries, "l2", residual=True), 2 * products)
    assert np.array_equal(codebook.lookup_tables(queries, "l2"), -distances(queries, codebook))
    constants = -np.square(decoded + centroids).sum(axis=1) + np.square(centroids).sum(axis=1)
    assert np.array_equal(codebook.residual_constants(codes, centroids.astype(np.float32)), constants)


def test_wrong_input():
    vectors = correlated(20, 8)
    for options, message in (
        ({"M": 0}, "M must be 1 to the dimension 8"),
        ({"M": 9}, "M must be 1 to the dimension 8"),
        ({"M": 2, "nbits": 6}, "4 or 8"),
        ({"M": 2, "niter": -1}, "niter"),
        ({"M": 2, "anisotropic_eta": 0.0}, "above 0"),
        ({"M": 2, "anisotropic_eta": np.nan}, "above 0"),
    ):
        with pytest.raises(ParameterError, match=message):
            ProductCodebook.train(vectors, **options)
    with pytest.raises(ParameterError, match="at least 1 vectors, 0"):
        ProductCodebook.train(vectors[:0], M=2)
    with pytest.raises(ShapeError, match="20 vectors with 19 directions"):
        ProductCodebook.train(vectors, M=2, nbits=4, anisotropic_eta=2.0, directions=vectors[:19])
    with pytest.raises(NonFiniteError):
        ProductCodebook.train(np.full((3, 4), np.inf, np.float32), M=2)
    with pytest.raises(ShapeError, match="dimension 7, expected 8"):
        ProductCodebook.train(vectors, M=2, nbits=4).encode(vectors[:, :7])


def test_from_arrays():
    codebook = ProductCodebook.train(correlated(40, 7), M=2, nbits=4, anisotropic_eta=3.0)
    again = ProductCodebook.from_arrays(codebook.config(), codebook.arrays())
    assert (again.dim, again.M, again.nbits, again.anisotropic_eta) == (7, 2, 4, 3.0)
    assert not again.codebooks.flags.writeable
    config, arrays = codebook.config(), codebook.arrays()
    for wrong_config, wrong in (
        ({**config, "dim": 9}, arrays),
        ({**config, "dim": 0}, arrays),
        ({**config, "dim": True}, arrays),
        ({**config, "anisotropic_eta": "much"}, arrays),
        ({**config, "anisotropic_eta": float("nan")}, arrays),
        (config, {"codebooks": arrays["codebooks"][:, :15]}),
        (config, {"codebooks": arrays["codebooks"][0]}),
        (config, {}),
    ):
        with pytest.raises(CorruptIndexError):
            ProductCodebook.from_arrays(wrong_config, wrong)


@pytest.mark.parametrize(("M", "nbits"), [(4, 8), (8, 4)])
def test_as_good_as_faiss(M, nbits):
    faiss = pytest.importorskip("faiss")
    faiss.omp_set_num_threads(1)  # small work: its threads would only wait for each other
    vectors = correlated(6000, 32)
    theirs = faiss.ProductQuantizer(32, M, nbits)
    theirs.train(vectors)
    their_error = np.square(vectors - theirs.decode(theirs.compute_codes(vectors))).sum()
    ours = ProductCodebook.train(vectors, M=M, nbits=nbits)
    assert np.square(vectors - ours.decode(ours.encode(vectors))).sum() < 1.02 * their_error
