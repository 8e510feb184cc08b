import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annvq.codebooks import ProductCodebook
from annvq.codebooks.anisotropic import ROUNDS, eta_from_threshold, loss, unit_directions
from annvq.errors import ParameterError
from annvq.kernels.codes import noise_shaping

PROPERTY = settings(max_examples=40, deadline=None, derandomize=True)


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


def coordinate_descent(vector, g, codebooks, eta):
    """Codes of (M, dsub) parts of a vector and its unit direction: the best centroid of each in turn, some times."""
    errors = np.square(vector[:, None] - codebooks).sum(axis=2)
    along = (g[:, None] * codebooks).sum(axis=2)
    codes, places = errors.argmin(axis=1), np.arange(len(codebooks))
    for _ in range(ROUNDS):
        before = codes.copy()
        for m in places:
            rest = (g * vector).sum() - along[places, codes].sum() + along[m, codes[m]]
            losses = errors[m] + (eta - 1) * np.square(rest - along[m])
            if losses.min() < losses[codes[m]] or codebooks.shape[1:] == (16, 2):  # of equal ones, pairs take the first
                codes[m] = losses.argmin()
        if np.array_equal(codes, before):
            break
    return codes


@PROPERTY
@given(
    n=st.integers(0, 70), d=st.integers(1, 24), ksub=st.sampled_from([16, 256]), threads=st.integers(1, 2),
    eta=st.sampled_from([0.5, 1.0, 2.0, 9.0]), seed=st.integers(0, 2**31), data=st.data(),
)  # fmt: skip
def test_codes_of_integers_are_exact(n, d, ksub, threads, eta, seed, data):
    """Integers, and directions of 1, 4 or 16 equal numbers, leave nothing to rounding."""
    rng, M = np.random.default_rng(seed), data.draw(st.integers(1, d))
    dsub = -(-d // M)
    half = rng.integers(-2, 3, (M, ksub // 2, dsub))
    codebooks = np.concatenate([half, -half], axis=1) + rng.integers(-9, 10, (M, 1, dsub))
    vectors, directions = rng.integers(-9, 10, (n, d)), np.zeros((n, d))
    counts = rng.choice([count for count in (0, 1, 4, 16) if count <= d], n)
    for direction, count in zip(directions, counts):
        direction[rng.permutation(d)[:count]] = rng.choice([-3, 3], count)
    config = {"dim": d, "anisotropic_eta": eta}
    codebook = ProductCodebook.from_arrays(config, {"codebooks": codebooks.astype(np.float32)})
    codes = codebook.encode(vectors, directions=directions, threads=threads)
    unit = directions / np.maximum(1, 3 * np.sqrt(counts))[:, None]
    parts, units = (np.pad(x, ((0, 0), (0, M * dsub - d))).reshape(n, M, dsub) for x in (vectors, unit))
    wanted = [coordinate_descent(part, g, codebooks, eta).tolist() for part, g in zip(parts, units)]
    assert codes.tolist() == wanted


@PROPERTY
@given(n=st.integers(0, 70), M=st.integers(1, 4), dsub=st.integers(1, 6), seed=st.integers(0, 2**31), data=st.data())
def test_normal_equations_of_integers_are_exact(n, M, dsub, seed, data):
    rng, m = np.random.default_rng(seed), data.draw(st.integers(0, M - 1))
    vectors, directions = rng.integers(-9, 10, (2, n, M * dsub))
    before, after = rng.integers(-9, 10, (2, 16, dsub))
    codes, projections = rng.integers(0, 16, (n, M)).astype(np.uint8), rng.integers(-9, 10, n).astype(np.float64)
    lhs, rhs = np.full((16, dsub, dsub), np.nan), np.full((16, dsub), np.nan)
    floats = [array.astype(np.float32) for array in (vectors, directions, before, after)]
    noise_shaping.normal_equations(*floats[:2], projections, codes, m, floats[2], 4.0, lhs, rhs)
    part = slice(m * dsub, (m + 1) * dsub)
    for j in range(16):
        members = codes[:, m] == j
        v, g = vectors[members, part], directions[members, part]
        assert np.array_equal(lhs[j], len(v) * np.eye(dsub) + 3 * g.T @ g)
        assert np.array_equal(rhs[j], v.sum(axis=0) + 3 * (projections[members] + g @ before[j]) @ g)
    moved = projections + (directions[:, part] * (before - after)[codes[:, m]]).sum(axis=1)
    noise_shaping.move_projections(floats[1], codes, m, *floats[2:], projections)
    assert np.array_equal(projections, moved)


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
