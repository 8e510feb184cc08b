from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annvq.codebooks import ResidualCodebook
from annvq.errors import CorruptIndexError, ParameterError, ShapeError

PROPERTY = settings(max_examples=40, deadline=None, derandomize=True)


def correlated(n, d, seed=0):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(7).standard_normal((d, d)) * np.linspace(2, 0.1, d)
    return (rng.standard_normal((n, d)) @ mixing / np.sqrt(d)).astype(np.float32)


def error(vectors, codebook):
    return np.square(vectors - codebook.decode(codebook.encode(vectors))).sum(axis=1).mean()


@pytest.mark.parametrize(("M", "nbits"), [(6, 4), (3, 8)])
def test_each_stage_and_wider_beams_lower_the_error(M, nbits):
    vectors = correlated(1500, 20)
    codebook = ResidualCodebook.train(vectors, M=M, nbits=nbits)
    stages = [error(vectors, ResidualCodebook(codebook.codebooks[: m + 1], 4)) for m in range(M)]
    assert all(after < before for before, after in pairwise(stages))
    beams = [error(vectors, ResidualCodebook(codebook.codebooks, beam)) for beam in (1, 2, 4, 16)]
    assert beams[3] < beams[2] < beams[1] < beams[0]


def reference_beam_search(vector, codebooks, beam):
    """Equal errors go to the lower code, then to the earlier beam."""
    codes, left = np.empty((1, 0), np.int64), vector[None].astype(np.float64)
    for stage in codebooks.astype(np.float64):
        longer = left - stage[:, None]  # (ksub, beams, d)
        best = np.argsort(np.square(longer).sum(axis=2), axis=None, kind="stable")[:beam]
        code, source = np.divmod(best, len(left))
        codes, left = np.column_stack([codes[source], code]), longer[code, source]
    return codes[0]


@pytest.mark.parametrize("beam", [1, 3, 5, 16])
@pytest.mark.parametrize("n", [0, 1, 31, 67])
def test_beam_search(n, beam):
    codebook = ResidualCodebook.train(correlated(400, 11), M=4, nbits=4, beam=beam, niter=3)
    vectors = correlated(n, 11, seed=1)
    codes = codebook.encode(vectors)
    assert codes.shape == (n, 4)
    assert codes.dtype == np.uint8
    assert codes.tolist() == [reference_beam_search(v, codebook.codebooks, beam).tolist() for v in vectors]


@PROPERTY
@given(
    n=st.integers(0, 40), d=st.integers(1, 40), M=st.integers(1, 6), ksub=st.sampled_from([16, 256]),
    beam=st.integers(1, 16), threads=st.integers(1, 2), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_integers_are_exact(n, d, M, ksub, beam, threads, seed):
    """Small integers leave nothing to rounding: codes (ties included), vectors, tables and constants are NumPy's."""
    rng = np.random.default_rng(seed)
    codebooks = rng.integers(-1, 2, (M, ksub, d))
    vectors, queries, centroids = (rng.integers(-3, 4, (rows, d)) for rows in (n, 3, n))
    codebook = ResidualCodebook.from_arrays({"beam": beam}, {"codebooks": codebooks.astype(np.float32)})
    codes = codebook.encode(vectors, threads=threads)
    assert codes.tolist() == [reference_beam_search(v, codebooks, beam).tolist() for v in vectors]
    decoded = codebooks[np.arange(M), codes].sum(axis=1)
    assert np.array_equal(codebook.decode(codes), decoded)
    tables = {metric: codebook.lookup_tables(queries.astype(np.float32), metric) for metric in ("ip", "l2")}
    assert np.array_equal(tables["ip"], np.einsum("qd,mjd->qmj", queries, codebooks))
    assert np.array_equal(tables["l2"], 2 * tables["ip"])
    constants = -np.square(decoded + centroids).sum(axis=1) + np.square(centroids).sum(axis=1)
    assert np.array_equal(codebook.residual_constants(codes, centroids.astype(np.float32)), constants)
    assert np.array_equal(codebook.residual_constants(codes), -np.square(decoded).sum(axis=1))


def test_exhaustive_beam_finds_the_best_sum():
    codebook = ResidualCodebook.train(correlated(300, 6), M=2, nbits=4, beam=16)
    vectors = correlated(50, 6, seed=2)
    sums = (codebook.codebooks[0][:, None] + codebook.codebooks[1]).reshape(-1, 6).astype(np.float64)
    best = np.square(vectors[:, None] - sums).sum(axis=2).min(axis=1)
    found = np.square(vectors - codebook.decode(codebook.encode(vectors))).sum(axis=1)
    np.testing.assert_allclose(found, best, rtol=1e-4, atol=1e-6)


def test_same_bytes_for_any_threads_and_split():
    vectors = correlated(900, 13)
    runs = [ResidualCodebook.train(vectors, M=3, nbits=4, seed=1, threads=threads) for threads in (1, 2, 3)]
    assert len({run.codebooks.tobytes() for run in runs}) == 1
    codes = runs[0].encode(vectors)
    assert codes.tobytes() == runs[0].encode(vectors, threads=3).tobytes()
    assert codes.tobytes() == np.concatenate([runs[0].encode(p) for p in np.split(vectors, [1, 500])]).tobytes()


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("lists", [False, True])
@pytest.mark.parametrize(("M", "nbits"), [(5, 4), (2, 8)])
def test_tables_and_constants_sum_to_the_score(metric, lists, M, nbits):
    vectors, queries = correlated(300, 19), correlated(7, 19, seed=1)
    centroids = correlated(4, 19, seed=2)[np.arange(300) % 4] if lists else np.zeros((300, 19), np.float32)
    codebook = ResidualCodebook.train(vectors - centroids, M=M, nbits=nbits, niter=3)
    codes = codebook.encode(vectors - centroids)
    tables = codebook.lookup_tables(queries, metric, residual=lists)
    assert tables.shape == (7, M, 1 << nbits)
    assert tables.dtype == np.float32
    sums = tables.astype(np.float64)[:, np.arange(M), codes].sum(axis=2)
    decoded = centroids + codebook.decode(codes).astype(np.float64)
    if metric == "ip":
        assert not codebook.needs_constants(metric, lists)
        np.testing.assert_allclose(queries @ centroids.T + sums, queries @ decoded.T, rtol=1e-4, atol=1e-4)
    else:
        assert codebook.needs_constants(metric, lists)
        constants = codebook.residual_constants(codes, centroids if lists else None)
        base = -np.square(queries[:, None].astype(np.float64) - centroids).sum(axis=2)
        exact = -np.square(queries[:, None] - decoded).sum(axis=2)
        np.testing.assert_allclose(base + sums + constants, exact, rtol=1e-4, atol=1e-4)
    alone = np.concatenate([codebook.lookup_tables(query[None], metric, residual=lists) for query in queries])
    assert alone.tobytes() == tables.tobytes()


def test_few_and_constant_vectors():
    vectors = correlated(5, 8)
    codebook = ResidualCodebook.train(vectors, M=2, nbits=8)
    np.testing.assert_allclose(codebook.decode(codebook.encode(vectors)), vectors, atol=1e-5)
    vectors = np.full((40, 8), -1.5, np.float32)
    codebook = ResidualCodebook.train(vectors, M=3, nbits=4)
    assert np.array_equal(codebook.decode(codebook.encode(vectors)), vectors)


def test_wrong_input():
    vectors = correlated(20, 6)
    for options in ({"M": 0}, {"M": 2, "nbits": 5}, {"M": 2, "beam": 0}, {"M": 2, "beam": 17}):
        with pytest.raises(ParameterError):
            ResidualCodebook.train(vectors, **options)
    with pytest.raises(ParameterError, match="at least 1 vectors, 0"):
        ResidualCodebook.train(vectors[:0], M=2)
    with pytest.raises(ShapeError):
        ResidualCodebook.train(vectors, M=2, nbits=4).encode(vectors[:, :5])


def test_from_arrays():
    codebook = ResidualCodebook.train(correlated(30, 5), M=2, nbits=4, beam=3)
    again = ResidualCodebook.from_arrays(codebook.config(), codebook.arrays())
    assert (again.beam, again.M, again.dim, again.code_bytes) == (3, 2, 5, 1)
    arrays = codebook.arrays()
    for config, wrong in (
        ({"beam": 0}, arrays),
        ({"beam": 99}, arrays),
        ({}, arrays),
        (codebook.config(), {"codebooks": arrays["codebooks"][:, :9]}),
        (codebook.config(), {"codebooks": arrays["codebooks"].astype(np.float16)}),
    ):
        with pytest.raises(CorruptIndexError):
            ResidualCodebook.from_arrays(config, wrong)
