"""RaBitQ: codes, factors, estimator and bound against float64, and against Faiss."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annvq.codebooks.rabitq import RaBitQCodebook
from annvq.errors import CorruptIndexError, DtypeError, ParameterError, ShapeError
from annvq.kernels.compile import isa
from annvq.kernels.scan import scanbits, topk
from annvq.kernels.scan.lists import Visits

DIMS = [1, 7, 63, 64, 65, 100, 384]


def gaussian(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def half_integers(codebook, encoded):
    """Return u (n, D) float64 of codes."""
    n, width = encoded["codes1"].shape
    planes = [encoded["codes1"], *encoded["codes_ex"].reshape(n, codebook.nbits - 1, width).transpose(1, 0, 2)]
    code = 0
    for plane in planes:
        code = 2 * code + np.unpackbits(plane, axis=1, bitorder="little").astype(np.float64)
    return code - (2**codebook.nbits - 1) / 2


def true_scores(queries, vectors, metric):
    queries, vectors = queries.astype(np.float64), vectors.astype(np.float64)
    products = queries @ vectors.T
    if metric == "ip":
        return products
    return 2 * products - (queries**2).sum(axis=1)[:, None] - (vectors**2).sum(axis=1)


def estimates(codebook, encoded, queries, centroid, metric, one_bit=False):
    """Return the scores that factors and codes stand for, in float64."""
    rotated, u = codebook.rotate(queries).astype(np.float64), half_integers(codebook, encoded)
    factors = encoded["factors"].astype(np.float64)
    base = true_scores(queries, centroid[None], metric)
    if one_bit or codebook.nbits == 1:
        return base + factors[:, 0] + factors[:, 1] * (rotated @ np.where(u > 0, 0.5, -0.5).T)
    return base + factors[:, 3] + factors[:, 4] * (rotated @ u.T)


def search(codebook, encoded, queries, centroid, metric, keep, parts=1):
    n, nq = len(encoded["codes1"]), len(queries)
    prepared = codebook.prepare(queries)
    pools = topk.empty_pools(nq, topk.capacity_for(keep))
    base = true_scores(queries, centroid[None], metric).astype(np.float32)
    distance = np.linalg.norm(queries - centroid, axis=1, keepdims=True).astype(np.float32)
    codes = scanbits.BitCodes(*encoded.values(), np.array([0, n]), np.empty(0, np.uint8), 0)
    visited = np.zeros((nq, 1), np.int64), np.ones(nq, np.int64)
    for part in range(parts):
        scanbits.scan_lists(codes, prepared, base, distance, Visits(*visited, part, parts), pools, keep, np.arange(n))
    return topk.best(pools, keep, np.arange(n))


def recall(rows, queries, vectors, metric):
    best = np.argsort(-true_scores(queries, vectors, metric), axis=1)[:, : rows.shape[1]]
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(rows, best)])


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("d", DIMS)
def test_factors_are_the_published_ones(d, metric):
    vectors, centroid = gaussian(40, d) + 1, np.linspace(0.5, 1.5, d, dtype=np.float32)
    codebook = RaBitQCodebook.train(vectors, nbits=3, seed=2)
    residuals = vectors - centroid
    encoded = codebook.encode(residuals, centroids=centroid[None], metric=metric)
    u, r = half_integers(codebook, encoded), codebook.rotate(residuals).astype(np.float64)
    c = codebook.rotate(centroid[None])[0].astype(np.float64)
    square, unit = (r**2).sum(axis=1), 2.0 if metric == "l2" else 1.0
    wanted = np.empty((40, 5))
    for v, column in ((np.where(u > 0, 0.5, -0.5), 0), (u, 3)):
        wanted[:, column + 1] = unit * square / (r * v).sum(axis=1)
        wanted[:, column] = (-square if metric == "l2" else r @ c) - wanted[:, column + 1] * (v @ c)
    D = r.shape[1]
    cosine = (r * np.where(u > 0, 0.5, -0.5)).sum(axis=1) / np.sqrt(square * D / 4)
    wanted[:, 2] = unit * 1.9 * np.sqrt(square * (1 / cosine**2 - 1) / (D - 1))
    np.testing.assert_allclose(encoded["factors"], wanted, rtol=2e-4, atol=2e-4 * np.abs(wanted).max())
    np.testing.assert_array_equal(u > 0, r > 0)


@pytest.mark.parametrize("bits", range(1, 9))
def test_the_code_is_nearly_the_best_one(bits):
    """Against an exhaustive search of the scale, in float64."""
    codebook = RaBitQCodebook.train(np.empty((0, 100)), nbits=bits)
    vectors = gaussian(30, 100)
    encoded = codebook.encode(vectors)
    r, u = codebook.rotate(vectors).astype(np.float64), half_integers(codebook, encoded)

    def excess(v):
        return (r**2).sum(axis=1) * (v**2).sum(axis=1) / (r * v).sum(axis=1) ** 2 - 1

    best = np.full(30, np.inf)
    for scale in np.linspace(0.05, 1.3, 800) * 2 ** (bits - 1):
        level = np.minimum(np.floor(scale * np.abs(r) / np.abs(r).max(axis=1, keepdims=True)), 2 ** (bits - 1) - 1)
        best = np.minimum(best, excess(level + 0.5))
    assert np.sqrt(excess(u).mean()) < 1.03 * np.sqrt(best.mean())


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("bits", [1, 2, 5, 8])
def test_the_bound_holds_at_its_rate(d, bits, metric):
    vectors, queries = gaussian(500, d, 1) + 0.5, gaussian(20, d, 2)
    centroid = vectors.mean(axis=0)
    inside = []
    for seed in range(3):
        codebook = RaBitQCodebook.train(vectors, nbits=bits, seed=seed)
        encoded = codebook.encode(vectors - centroid, centroids=centroid[None], metric=metric)
        true, distance = true_scores(queries, vectors, metric), np.linalg.norm(queries - centroid, axis=1)[:, None]
        noise = 1e-4 * (1 + np.abs(true))  # of float32 factors
        error = np.abs(estimates(codebook, encoded, queries, centroid, metric, one_bit=True) - true)
        inside.append(error <= encoded["factors"][:, 2] * distance + noise)
    # P(|N(0, 1)| <= 1.9) = 0.943; in low dimensions the d vectors share few random directions.
    assert np.mean(inside) > (0.93 if d > 7 else 0.9)
    if d >= 64:
        assert np.mean(inside) < 0.96  # and is no looser than it says


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("d", [7, 64, 100])
def test_the_estimator_is_unbiased(d, bits):
    vectors, queries = gaussian(30, d, 3), gaussian(5, d, 4)
    centroid = np.full(d, 0.3, np.float32)
    true = true_scores(queries, vectors, "l2")
    errors = []
    for seed in range(200):
        codebook = RaBitQCodebook.train(vectors, nbits=bits, seed=seed)
        encoded = codebook.encode(vectors - centroid, centroids=centroid[None], metric="l2")
        errors.append(estimates(codebook, encoded, queries, centroid, "l2") - true)
    errors = np.array(errors)
    z = errors.mean(axis=0) / (errors.std(axis=0) / np.sqrt(len(errors)))
    assert np.abs(z).max() < 5  # 150 pairs: the largest of so many normal values is about 2.9
    assert abs(z.mean()) < 0.6
    assert z.std() < 1.4


@pytest.mark.parametrize("d", [64, 100, 384])
def test_more_bits_decode_and_search_better(d):
    vectors, queries = gaussian(2000, d, 5), gaussian(20, d, 6)
    centroid = np.zeros(d, np.float32)
    errors, recalls = [], []
    for bits in (1, 2, 4, 6, 8):
        codebook = RaBitQCodebook.train(vectors, nbits=bits)
        encoded = codebook.encode(vectors)
        errors.append(((codebook.decode(encoded) - vectors) ** 2).sum() / (vectors**2).sum())
        recalls.append(recall(search(codebook, encoded, queries, centroid, "ip", 10)[1], queries, vectors, "ip"))
    assert all(low < high / 3 for low, high in zip(errors[1:], errors))
    # 1 - 2 / pi, and the rates of uniform quantizers of a normal distribution
    for error, most in zip(errors, (0.37, 0.125, 0.0125, 0.0011, 0.0001)):
        assert error < most
    assert recalls == sorted(recalls)
    assert recalls[2] > 0.8
    assert recalls[-1] > 0.95


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_decoding_does_not_depend_on_the_metric(metric):
    vectors, centroid = gaussian(50, 64), np.ones((1, 64), np.float32)
    codebook = RaBitQCodebook.train(vectors, nbits=4)
    plain = codebook.decode(codebook.encode(vectors))
    other = codebook.decode(codebook.encode(vectors, centroids=centroid, metric=metric), metric=metric)
    np.testing.assert_allclose(other, plain, atol=1e-5)
    # The nearest multiple: what is left is at a right angle.
    assert np.abs(((vectors - plain) * plain).sum(axis=1)).max() < 1e-3


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("bits", [1, 4])
@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_the_scan_returns_the_estimates(d, bits, metric):
    vectors, queries = gaussian(200, d, 7) + 0.2, gaussian(4, d, 8)
    centroid = vectors.mean(axis=0)
    codebook = RaBitQCodebook.train(vectors, nbits=bits)
    encoded = codebook.encode(vectors - centroid, centroids=centroid[None], metric=metric)
    scores, rows = search(codebook, encoded, queries, centroid, metric, 200)
    wanted = np.take_along_axis(estimates(codebook, encoded, queries, centroid, metric), rows, axis=1)
    tolerance = 2e-4 * np.abs(wanted).max()
    assert (scores <= wanted + tolerance).all()  # never above the estimate
    assert np.mean(np.abs(scores - wanted) < tolerance) > 0.9  # below it where the first stage's bound is
    parts = search(codebook, encoded, queries, centroid, metric, 200, parts=3)
    np.testing.assert_array_equal(parts[0], scores)
    np.testing.assert_array_equal(parts[1], rows)


@pytest.mark.parametrize("d", DIMS)
def test_both_forms_of_a_query(d):
    codebook = RaBitQCodebook.train(np.empty((0, d)), nbits=2)
    queries = 3 * gaussian(5, d)
    rotated, prepared = codebook.rotate(queries).astype(np.float64), codebook.prepare(queries)
    D = codebook.padded_dim
    level = 256 * prepared.high.view(np.int8).astype(np.int64) + prepared.low.view(np.int8)
    step = 2 * prepared.factors[:, 2:].astype(np.float64)
    assert (np.abs(level * step - rotated) <= 0.51 * step).all()  # rounded to the nearest
    assert (np.abs(level).max(axis=1) == 32512).all()
    np.testing.assert_array_equal(prepared.totals, level.sum(axis=1))
    planes = np.unpackbits(prepared.planes.view(np.uint8), axis=2, bitorder="little")[:, :, :D].astype(np.float64)
    u = planes.transpose(0, 2, 1) @ [1, 2, 4, 8] - 7.5
    rest = rotated - 4 * prepared.factors[:, :1] * u
    assert (np.abs((rest * u).sum(axis=1)) < 1e-3).all()  # the nearest multiple of u
    np.testing.assert_allclose(prepared.factors[:, 1], 0.95 * np.linalg.norm(rest, axis=1), rtol=1e-3)
    assert np.mean(rest**2) < 0.02 * np.mean(rotated**2)


@pytest.mark.parametrize("bits", [1, 4])
@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_a_vector_at_its_centroid_is_exact(bits, metric):
    vectors = gaussian(33, 65)
    vectors[[0, 32]] = centroid = np.full(65, 2.0, np.float32)
    codebook = RaBitQCodebook.train(vectors, nbits=bits)
    encoded = codebook.encode(vectors - centroid, centroids=centroid[None], metric=metric)
    assert not encoded["factors"][[0, 32]].any()
    assert np.isfinite(encoded["factors"]).all()
    assert not codebook.decode(encoded, metric=metric)[[0, 32]].any()
    queries = gaussian(3, 65, 1)
    scores, rows = search(codebook, encoded, queries, centroid, metric, 33)
    base = true_scores(queries, centroid[None], metric).astype(np.float32)
    for q in range(3):
        np.testing.assert_array_equal(scores[q][np.isin(rows[q], [0, 32])], base[q, 0])


def test_a_zero_query_scores_zero():
    vectors = gaussian(20, 30)
    codebook = RaBitQCodebook.train(vectors, nbits=2)
    scores, rows = search(codebook, codebook.encode(vectors), np.zeros((1, 30), np.float32), np.zeros(30), "ip", 20)
    assert not scores.any()
    np.testing.assert_array_equal(rows[0], np.arange(20))


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    d=st.integers(1, 200), n=st.integers(0, 40), bits=st.integers(1, 8), seed=st.integers(0, 99),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)  # fmt: skip
def test_codes_round_trip(d, n, bits, seed, scale):
    """Each coordinate of the code is the nearest level on its ray, and shapes are what they say."""
    vectors = scale * gaussian(n, d, seed)
    codebook = RaBitQCodebook.train(vectors, nbits=bits, seed=seed)
    encoded = codebook.encode(vectors, threads=2)
    assert codebook.code_bytes * n == sum(array.nbytes for array in encoded.values())
    decoded = codebook.decode(encoded)
    assert decoded.shape == (n, d)
    assert decoded.dtype == np.float32
    left, whole = np.linalg.norm(decoded - vectors, axis=1), np.linalg.norm(vectors, axis=1)
    assert (left <= (0.85, 0.6, 0.35, 0.2, 0.1, 0.06, 0.03, 0.02)[bits - 1] * whole).all()


def test_rows_do_not_depend_on_batches_or_threads():
    vectors, centroids = gaussian(9000, 20), gaussian(5, 20, 1)
    labels = np.arange(9000) % 5
    codebook = RaBitQCodebook.train(vectors, nbits=3)
    whole = codebook.encode(vectors, centroids=centroids, labels=labels, threads=1)
    for name, array in codebook.encode(vectors, centroids=centroids, labels=labels, threads=3).items():
        np.testing.assert_array_equal(array, whole[name])
    part = codebook.encode(vectors[4000:4100], centroids=centroids[labels[4000:4100]])
    for name, array in part.items():
        np.testing.assert_array_equal(array, whole[name][4000:4100])
    prepared, one = codebook.prepare(vectors[:10]), codebook.prepare(vectors[7:8])
    for array, of_all in zip(one, prepared, strict=True):
        np.testing.assert_array_equal(array, of_all[7:8])


@pytest.mark.skipif(isa.ACTIVE == "portable", reason="nothing to compare with")
def test_results_do_not_depend_on_the_instruction_set():
    script = Path(__file__).with_name("digest_of_rabitq.py")
    lines = [
        subprocess.run(
            [sys.executable, str(script)], env={**os.environ, **env}, capture_output=True, text=True, check=True
        ).stdout.split()
        for env in ({}, {"ANNVQ_ISA": "portable"})
    ]
    assert lines[0][0] != lines[1][0] == "portable"
    assert lines[0][1] == lines[1][1]


def test_arrays_make_the_codebook_again():
    codebook = RaBitQCodebook.train(gaussian(3, 70), nbits=5, seed=9)
    again = RaBitQCodebook.from_arrays(codebook.config(), codebook.arrays())
    assert (again.dim, again.nbits, again.padded_dim) == (70, 5, 128)
    vectors = gaussian(4, 70)
    for name, array in again.encode(vectors).items():
        np.testing.assert_array_equal(array, codebook.encode(vectors)[name])
    with pytest.raises(ValueError, match="read-only"):
        again.signs[0] = 0


@pytest.mark.parametrize(
    ("config", "signs"),
    [
        ({}, np.zeros((4, 16), np.uint8)),
        ({"dim": 70}, np.zeros((4, 16), np.uint8)),
        ({"dim": 70, "bits": 9}, np.zeros((4, 16), np.uint8)),
        ({"dim": 70, "bits": True}, np.zeros((4, 16), np.uint8)),
        ({"dim": -70, "bits": 1}, np.zeros((4, 16), np.uint8)),
        ({"dim": 1 << 40, "bits": 1}, np.zeros((4, 16), np.uint8)),
        ({"dim": 70, "bits": 1}, np.zeros((4, 8), np.uint8)),
        ({"dim": 70, "bits": 1}, np.zeros((4, 16), np.int8)),
        ({"dim": 70, "bits": 1}, None),
    ],
)
def test_damaged_codebooks_are_refused(config, signs):
    with pytest.raises(CorruptIndexError):
        RaBitQCodebook.from_arrays(config, {} if signs is None else {"signs": signs})


def test_wrong_arguments_are_refused():
    vectors = gaussian(5, 10)
    codebook = RaBitQCodebook.train(vectors, nbits=2)
    for bits in (0, 9, 1.5, "2"):
        with pytest.raises(ParameterError, match="1 to 8"):
            RaBitQCodebook.train(vectors, nbits=bits)
    for shape in ((5,), (5, 0), (0, 65_537)):
        with pytest.raises(ShapeError, match=r"\(n, d\) with d"):
            RaBitQCodebook.train(np.empty(shape, np.float32), nbits=1)
    with pytest.raises(ShapeError, match="10"):
        codebook.encode(gaussian(5, 11))
    with pytest.raises(ShapeError, match="labels"):
        codebook.encode(vectors, centroids=gaussian(3, 10))
    with pytest.raises(ParameterError, match="0 to 2"):
        codebook.encode(vectors, centroids=gaussian(3, 10), labels=np.full(5, 3))
    with pytest.raises(ParameterError, match="cosine"):
        codebook.encode(vectors, metric="cosine")
    encoded = codebook.encode(vectors)
    with pytest.raises(ShapeError, match="codes_ex"):
        codebook.decode({**encoded, "codes_ex": encoded["codes_ex"][:, :-1]})
    with pytest.raises(DtypeError, match="float64"):
        codebook.decode({**encoded, "factors": encoded["factors"].astype(np.float64)})


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_not_worse_than_faiss(bits):
    faiss = pytest.importorskip("faiss")
    vectors, queries = gaussian(5000, 128, 10), gaussian(100, 128, 11)
    rotation = faiss.RandomRotationMatrix(128, 128)
    rotation.init(1)
    try:
        index = faiss.IndexRaBitQ(128, faiss.METRIC_L2, bits)
    except TypeError:
        pytest.skip("this Faiss has 1-bit RaBitQ only")
    theirs = faiss.IndexPreTransform(rotation, index)
    theirs.train(vectors)
    theirs.add(vectors)
    centroid = vectors.mean(axis=0)
    codebook = RaBitQCodebook.train(vectors, nbits=bits)
    encoded = codebook.encode(vectors - centroid, centroids=centroid[None], metric="l2")
    _, rows = search(codebook, encoded, queries, centroid, "l2", 10)
    ours = recall(rows, queries, vectors, "l2")
    assert ours > recall(theirs.search(queries, 10)[1], queries, vectors, "l2") - 0.03
