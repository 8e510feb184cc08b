import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annvq.codebooks import ScalarCodebook
from annvq.errors import CorruptIndexError, NonFiniteError, ParameterError, ShapeError, StateError


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(("kind", "levels"), [("sq8", 256), ("sq4", 16)])
@pytest.mark.parametrize("n", [1, 2, 33, 500])
def test_nearest_level(kind, levels, n):
    vectors = normal(n, n, 19) * np.linspace(0.01, 100, 19, dtype=np.float32)
    codebook = ScalarCodebook.train(vectors, kind=kind)
    codes = codebook.encode(vectors)
    assert codes.shape == (n, 19)
    assert codes.dtype == np.uint8
    assert codes.max() < levels
    grid = codebook.minimum[:, None] + codebook.step[:, None].astype(np.float64) * np.arange(levels)
    distances = np.abs(vectors[:, :, None] - grid[None])
    chosen = np.take_along_axis(distances, codes[:, :, None].astype(int), 2)[..., 0]
    np.testing.assert_allclose(chosen, distances.min(axis=2), atol=2e-5)
    np.testing.assert_allclose(codebook.decode(codes), vectors, atol=0.501 * codebook.step.max())


def test_ends_of_the_range_and_beyond():
    vectors = np.array([[0, -5], [10, 5]], np.float32)
    codebook = ScalarCodebook.train(vectors, kind="sq8")
    assert codebook.encode(vectors).tolist() == [[0, 0], [255, 255]]
    far = np.array([[-1e30, 1e30], [11, -6]], np.float32)
    assert codebook.encode(far).tolist() == [[0, 255], [255, 0]]
    for value in (np.nan, np.inf):
        with pytest.raises(NonFiniteError, match="row 1"):
            codebook.encode(np.array([[0, 0], [0, value]]))
    np.testing.assert_allclose(codebook.decode(codebook.encode(vectors)), vectors, atol=1e-6)


@pytest.mark.parametrize("kind", ["sq8", "sq4"])
def test_constant_dimension(kind):
    vectors = normal(0, 50, 4)
    vectors[:, 1] = 3.25
    vectors[:, 2] = 0
    codebook = ScalarCodebook.train(vectors, kind=kind)
    assert codebook.step[1] == codebook.step[2] == 0
    decoded = codebook.decode(codebook.encode(vectors))
    assert np.array_equal(decoded[:, 1:3], vectors[:, 1:3])


def test_denormal_range():
    vectors = np.array([[0], [1e-44]], np.float32)
    codebook = ScalarCodebook.train(vectors, kind="sq8")
    assert np.isfinite(codebook.decode(codebook.encode(vectors))).all()


def test_float16():
    vectors = np.concatenate([normal(1, 40, 5), [[70000, -1e30, 1e-8, 0, 65504]]]).astype(np.float32)
    codebook = ScalarCodebook.train(vectors, kind="fp16")
    codes = codebook.encode(vectors)
    assert codes.shape == (41, 10)
    assert codebook.code_bytes == 10
    decoded = codebook.decode(codes)
    assert np.array_equal(decoded[:40], vectors[:40].astype(np.float16).astype(np.float32))
    assert decoded[40].tolist() == [65504, -65504, 0, 0, 65504]
    with pytest.raises(StateError, match="float16"):
        codebook.lookup_tables(vectors[:1], "ip")


@pytest.mark.parametrize("kind", ["sq8", "sq4"])
@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_tables_sum_to_the_score(kind, metric):
    vectors, queries = normal(2, 60, 13), normal(3, 5, 13)
    codebook = ScalarCodebook.train(vectors, kind=kind)
    codes = codebook.encode(vectors)
    tables = codebook.lookup_tables(queries, metric)
    assert tables.shape == (5, 13, 256 if kind == "sq8" else 16)
    assert tables.dtype == np.float32
    sums = tables.astype(np.float64)[:, np.arange(13), codes].sum(axis=2)
    decoded = codebook.decode(codes).astype(np.float64)
    exact = queries @ decoded.T if metric == "ip" else -np.square(queries[:, None] - decoded).sum(axis=2)
    np.testing.assert_allclose(sums, exact, rtol=1e-5, atol=1e-5)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(n=st.integers(0, 70), d=st.integers(1, 40), seed=st.integers(0, 2**31))
def test_any_shape_and_threads(n, d, seed):
    codebook = ScalarCodebook.train(normal(seed, 20, d), kind="sq8")
    vectors = normal(seed + 1, n, d)
    codes = codebook.encode(vectors)
    assert codes.shape == codebook.decode(codes).shape == (n, d)
    assert codes.tobytes() == codebook.encode(vectors, threads=3).tobytes()
    again = codebook.encode(codebook.decode(codes))  # decoded values are levels
    assert np.array_equal(again, codes)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    n=st.integers(1, 70), d=st.integers(1, 40), kind=st.sampled_from(["sq8", "sq4"]),
    scale=st.sampled_from([1e-30, 1.0, 1e30]), middle=st.sampled_from([0, -1e4]), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_any_range_is_coded_to_the_nearest_level(n, d, kind, scale, middle, seed):
    rng = np.random.default_rng(seed)
    vectors = (scale * (middle + normal(seed, n, d) * rng.choice([0, 0.01, 1], d))).astype(np.float32)
    codebook = ScalarCodebook.train(vectors, kind=kind)
    codes = codebook.encode(vectors)
    exact = codebook.minimum + codebook.step.astype(np.float64) * codes
    assert (np.abs(exact - vectors) <= 0.5002 * codebook.step).all()
    assert np.array_equal(codebook.decode(codes), exact.astype(np.float32))
    assert codes.max() == (0 if not codebook.step.any() else 255 if kind == "sq8" else 15)


def test_wrong_input():
    with pytest.raises(ParameterError, match="sq8, sq4, fp16"):
        ScalarCodebook.train(normal(0, 5, 3), kind="sq6")
    with pytest.raises(ParameterError, match="at least 1"):
        ScalarCodebook.train(normal(0, 0, 3))
    with pytest.raises(NonFiniteError):
        ScalarCodebook.train(np.array([[1, np.nan]], np.float32))
    codebook = ScalarCodebook.train(normal(0, 5, 3))
    with pytest.raises(ShapeError, match="dimension 4"):
        codebook.encode(normal(0, 5, 4))
    with pytest.raises(ParameterError, match="cosine"):
        codebook.lookup_tables(normal(0, 1, 3), "cosine")


def test_from_arrays():
    codebook = ScalarCodebook.train(normal(0, 9, 3), kind="sq4")
    again = ScalarCodebook.from_arrays(codebook.config(), codebook.arrays())
    assert again.kind == "sq4"
    assert again.step.tobytes() == codebook.step.tobytes()
    arrays = codebook.arrays()
    for config, wrong in (
        ({"kind": "sq5"}, arrays),
        (codebook.config(), {**arrays, "step": arrays["step"][:2]}),
        (codebook.config(), {**arrays, "step": -arrays["step"]}),
        (codebook.config(), {"minimum": arrays["minimum"]}),
    ):
        with pytest.raises(CorruptIndexError):
            ScalarCodebook.from_arrays(config, wrong)
