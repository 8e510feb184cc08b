import numpy as np
import pytest

from annvq.codebooks import ProductCodebook
from annvq.codebooks.anisotropic import eta_from_threshold, loss, unit_directions
from annvq.errors import ParameterError


def unit_vectors(n, d, seed=0):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).standard_normal((d, d)) * np.linspace(2, 0.1, d)
    vectors = (rng.standard_normal((n, d)) @ mixing).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def exact_loss(vectors, decoded, directions, eta):
    total = 0.0
    for x, y, g in zip(vectors.astype(np.float64), decoded.astype(np.float64), directions.astype(np.float64)):
        r = x - y
        norm = np.linalg.norm(g)
        parallel = (r @ g) / norm**2 * g if norm > 0 else 0 * g
        total += eta * parallel @ parallel + (r - parallel) @ (r - parallel)
    return total / len(vectors)


def test_eta_from_threshold():
    assert eta_from_threshold(0.2, 385) == pytest.approx(384 * 0.04 / 0.96)
    assert eta_from_threshold(0.01, 10) == 1.0
    for wrong in (0, 1, -0.2, 1.5, float("nan")):
        with pytest.raises(ParameterError, match="between 0 and 1"):
            eta_from_threshold(wrong, 100)


def test_loss():
    vectors, decoded = unit_vectors(30, 7), unit_vectors(30, 7, seed=1)
    directions = vectors.copy()
    directions[4] = 0
    assert loss(vectors, decoded, directions, 5.0) == pytest.approx(exact_loss(vectors, decoded, directions, 5.0))
    assert np.array_equal(unit_directions(directions)[4], np.zeros(7))


@pytest.mark.parametrize(("M", "nbits"), [(8, 4), (5, 4), (4, 8)])
@pytest.mark.parametrize("residuals", [False, True])
def test_encoding_lowers_the_loss(M, nbits, residuals):
    originals, eta = unit_vectors(1000, 24), 6.0
    vectors = originals - originals.mean(axis=0) if residuals else originals
    plain = ProductCodebook.train(vectors, M=M, nbits=nbits, niter=8)
    aware = ProductCodebook(plain.codebooks, plain.dim, eta)
    nearest = loss(vectors, plain.decode(plain.encode(vectors)), originals, eta)
    codes = aware.encode(vectors, directions=originals)
    lower = loss(vectors, aware.decode(codes), originals, eta)
    assert lower < 0.99 * nearest
    if residuals:  # other directions are another loss
        assert lower < loss(vectors, aware.decode(aware.encode(vectors)), originals, eta)
    trained = ProductCodebook.train(vectors, M=M, nbits=nbits, niter=8, anisotropic_eta=eta, directions=originals)
    codes = trained.encode(vectors, directions=originals)
    assert loss(vectors, trained.decode(codes), originals, eta) < 0.95 * lower


def test_codes_are_a_local_minimum():
    """No change of a single code lowers the loss."""
    vectors, eta = unit_vectors(70, 10), 4.0
    codebook = ProductCodebook.train(vectors, M=5, nbits=4, anisotropic_eta=eta)
    codes = codebook.encode(vectors)
    errors = vectors.astype(np.float64) - codebook.decode(codes)
    directions = unit_directions(vectors).astype(np.float64)
    best = np.square(errors).sum(axis=1) + (eta - 1) * np.square((errors * directions).sum(axis=1))
    for m in range(5):
        for j in range(16):
            changed = codes.copy()
            changed[:, m] = j
            errors = vectors.astype(np.float64) - codebook.decode(changed)
            other = np.square(errors).sum(axis=1) + (eta - 1) * np.square((errors * directions).sum(axis=1))
            assert np.all(other >= best - 1e-5)


def test_eta_one_is_the_squared_error():
    vectors = unit_vectors(300, 12)
    plain = ProductCodebook.train(vectors, M=4, nbits=4, niter=3)
    assert np.array_equal(ProductCodebook(plain.codebooks, 12, 1.0).encode(vectors), plain.encode(vectors))


def test_zero_vectors():
    vectors = unit_vectors(100, 8)
    vectors[::7] = 0
    codebook = ProductCodebook.train(vectors, M=4, nbits=4, anisotropic_eta=5.0)
    assert np.isfinite(codebook.codebooks).all()
    plain = ProductCodebook(codebook.codebooks, 8)
    assert np.array_equal(codebook.encode(vectors)[::7], plain.encode(vectors)[::7])


def test_better_order_of_the_best():
    """What the loss is for: scores of near neighbours err less."""
    vectors, queries = unit_vectors(4000, 32), unit_vectors(200, 32, seed=5)
    exact = queries @ vectors.T
    near = np.argsort(-exact, axis=1)[:, :10]
    errors = []
    for eta in (None, 4.0):
        codebook = ProductCodebook.train(vectors, M=8, nbits=4, anisotropic_eta=eta)
        scores = queries @ codebook.decode(codebook.encode(vectors)).T
        errors.append(np.abs(np.take_along_axis(scores - exact, near, 1)).mean())
    assert errors[1] < 0.97 * errors[0]
