"""Chamfer similarity against NumPy, of every form of stored vectors."""

from itertools import pairwise

import numpy as np
import pytest
import reference

from annvq.codebooks import ProductCodebook
from annvq.errors import ShapeError
from annvq.multivector import Ragged, carve_queries, chamfer, pool_tokens
from annvq.multivector.tokens import LABELS, OFFSETS, TokenRows, TokenSpec, TokenStore

LENGTHS = (1, 31, 32, 33, 2, 64, 65, 200, 7)


@pytest.mark.parametrize("dim", [1, 15, 16, 17, 48, 130])
def test_exact_scores_are_numpys(dim):
    queries, documents = reference.sets((1, 3, 17, 40), dim, 1), reference.sets(LENGTHS, dim, 2)
    np.testing.assert_allclose(chamfer(queries, documents), reference.chamfer(queries, documents), rtol=1e-5, atol=1e-5)


def test_empty_sets_have_defined_scores():
    scores = chamfer(reference.sets([0, 2], 4), reference.sets([3, 0], 4))
    assert scores[0].tolist() == [0, 0]
    assert np.isfinite(scores[1, 0])
    assert scores[1, 1] == -np.inf
    assert chamfer([], reference.sets([3], 4)).shape == (0, 1)
    with pytest.raises(ShapeError, match="dimension 4 for documents of dimension 5"):
        chamfer(reference.sets([1], 4), reference.sets([1], 5))


def test_halves_and_bytes():
    queries, documents = reference.sets([4, 9], 20, 1), reference.sets(LENGTHS, 20, 2)
    halves = [one.astype(np.float16) for one in documents]
    np.testing.assert_allclose(chamfer(queries, halves), reference.chamfer(queries, halves), rtol=1e-5, atol=1e-5)
    whole = [np.round(100 * one).astype(np.int8) for one in documents]
    asked = [np.round(100 * one).astype(np.int8) for one in queries]
    assert chamfer(asked, whole).tolist() == reference.chamfer(asked, whole).tolist()


def test_threads_change_nothing():
    queries, documents = reference.sets([4, 9], 20, 1), reference.sets([50] * 400, 20, 2)
    assert np.array_equal(chamfer(queries, documents, threads=1), chamfer(queries, documents, threads=3))


SPECS = [
    TokenSpec(kind="fp32"), TokenSpec(kind="fp16"), TokenSpec(kind="sq8"),
    *(TokenSpec(kind="pq", bits=bits, ncentroids=16) for bits in (1, 2, 4)),
    *(TokenSpec(kind="rabitq", bits=bits) for bits in (1, 4, 8)),
]  # fmt: skip


@pytest.mark.parametrize("dim", [16, 30])
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_stored_vectors_are_scored_as_what_they_decode_to(spec, dim):
    documents = reference.topical(60, dim, 3) + reference.sets(LENGTHS, dim, 4)
    sets = Ragged.of(documents)
    store = TokenStore.train(spec, sets.vectors, {}, seed=0, threads=1)
    rows = store.encode(sets.vectors, sets.offsets, 1)
    sections = store.pack(rows)
    expected = store.layout(sections, len(sets))
    assert {name: (array.dtype, array.shape) for name, array in sections.items()} == {
        name: (np.dtype(dtype), shape) for name, (dtype, shape) in expected.items()
    }
    decoded = Ragged(store.decode(rows), rows.offsets)
    chosen = np.random.default_rng(0).permutation(len(sets))[:40]
    assert np.array_equal(store.decode(store.unpack(sections, chosen)), decoded[chosen].vectors)
    for query in reference.sets([1, 5, 33], dim, 5):
        got = store.score(store.prepare(query), sections, chosen)
        # RaBitQ estimates products with the vectors themselves; queries of product codes have 8 bits.
        kept = [documents[i] for i in chosen] if spec.kind == "rabitq" else list(decoded[chosen])
        want = reference.chamfer([query], kept)[0]
        tolerance = {"pq": 0.02, "rabitq": {1: 0.4, 4: 0.05, 8: 0.01}.get(spec.bits)}.get(spec.kind, 1e-5)
        np.testing.assert_allclose(got, want, atol=tolerance * len(query))
        alone = [store.score(store.prepare(query), sections, chosen[i : i + 1])[0] for i in range(3)]
        assert alone == got[:3].tolist()  # what a document scores does not depend on the others
    assert sections[OFFSETS][-1] == len(sets.vectors)


@pytest.mark.parametrize(
    ("M", "dsub", "dim"), [(1, 1, 1), (4, 1, 4), (7, 1, 7), (23, 2, 45), (12, 4, 48), (96, 4, 384)]
)
@pytest.mark.parametrize("size", [1.0, 1e-12, 1e12])
def test_scores_of_codes_are_those_of_the_rounded_numbers(M, dsub, dim, size):
    rng = np.random.default_rng(M)
    entries = (size * rng.normal(size=(M, 16, dsub))).astype(np.float32)
    entries[0] = entries[0, :1]  # a sub-quantizer that knows one value only
    entries[-1, :, dsub - (M * dsub - dim) :] = 0  # dimensions beyond the last
    codebook = ProductCodebook(entries, dim)
    lengths = np.array(LENGTHS)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    codes = rng.integers(0, 16, (offsets[-1], M)).astype(np.uint8)
    labels = rng.integers(0, 5, offsets[-1]).astype(np.uint32)
    centroids = rng.normal(size=(5, dim)).astype(np.float32)
    store = TokenStore(TokenSpec(kind="pq"), dim, {}, centroids, codebook)
    query = rng.normal(size=(5, dim)).astype(np.float32)
    sections = store.pack(TokenRows(offsets, {"codes": codes, LABELS: labels}))
    got = store.score(store.prepare(query), sections, np.arange(len(lengths)))
    rounded = numpys_rounded(query, codebook, codes)
    products = rounded + query.astype(np.float64) @ centroids[labels].T
    want = np.array([products[:, a:b].max(axis=1).sum() for a, b in pairwise(offsets)])
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * max(1, size) * dim)


def numpys_rounded(query, codebook, codes):
    """Return products (t, n) of 8-bit queries and entries on 128 levels, in float64."""
    entries = codebook.codebooks.astype(np.float64)
    least, span = entries.min(axis=1, keepdims=True), np.ptp(entries, axis=1, keepdims=True)
    step = np.where(span > 0, span, 1) / 127
    levels = np.rint((entries - least) / step) - 64
    decoded = levels[np.arange(len(entries)), codes].reshape(len(codes), -1)[:, : codebook.dim]
    steps = np.where(span > 0, step, 0).reshape(-1)[: codebook.dim]
    middles = (least + 64 * np.where(span > 0, step, 0)).reshape(-1)[: codebook.dim]
    scale = np.abs(query * steps).max(axis=1, keepdims=True) / 127
    numbers = np.rint(query * steps / np.where(scale > 0, scale, 1))
    return scale * (numbers @ decoded.T) + (query.astype(np.float64) @ middles)[:, None]


def test_more_bits_are_nearer():
    documents = reference.topical(200, 32, 3)
    sets, queries = Ragged.of(documents), reference.topical(5, 32, 6)
    exact = reference.chamfer(queries, documents)

    def error(spec):
        store = TokenStore.train(spec, sets.vectors, {}, seed=0, threads=1)
        sections = store.pack(store.encode(sets.vectors, sets.offsets, 1))
        every = np.arange(len(sets))
        found = np.stack([store.score(store.prepare(query), sections, every) for query in queries])
        return np.abs(found - exact).mean()

    one, two, four = (error(TokenSpec(kind="pq", bits=bits, ncentroids=32)) for bits in (1, 2, 4))
    assert one > two > four
    assert error(TokenSpec(kind="rabitq", bits=1)) > error(TokenSpec(kind="rabitq", bits=4))


def test_pooling_keeps_the_asked_for_share():
    documents = reference.sets([1, 2, 7, 40], 12)
    pooled = pool_tokens(documents, 3)
    assert pooled.lengths.tolist() == [1, 1, 3, 14]
    assert same(pool_tokens(documents, 1), documents)
    near = np.repeat(reference.sets([4], 12)[0], 5, axis=0) + 1e-3
    (four,) = pool_tokens([near], 5)
    np.testing.assert_allclose(four, near[::5], atol=1e-4)


def test_pooling_is_wards_clustering():
    scipy = pytest.importorskip("scipy.cluster.hierarchy")
    (vectors,) = reference.sets([30], 10, 8)
    labels = scipy.fcluster(scipy.linkage(vectors.astype(np.float64), "ward"), 8, "maxclust")
    means = [vectors[labels == label].mean(axis=0) for label in dict.fromkeys(labels.tolist())]
    want = np.stack([mean / np.linalg.norm(mean) for mean in means])
    (got,) = pool_tokens([vectors], 4)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_carving_sums_balls():
    (base,) = reference.sets([3], 16)
    query = np.concatenate([base, base + 1e-3, base[:1]])
    (carved,) = carve_queries([query], 0.99)
    np.testing.assert_allclose(
        carved, [2 * base[0] + base[0] + 1e-3, 2 * base[1] + 1e-3, 2 * base[2] + 1e-3], atol=1e-5
    )
    assert same(carve_queries([base], 1.0), [base])
    for seed in range(50):
        one = np.random.default_rng(seed).normal(size=(1, 128)).astype(np.float32)
        assert same(carve_queries([np.repeat(one, 2, 0)], 1.0), [2 * one])  # the same vector, whatever is rounded
    documents = reference.sets([20] * 5, 16, 2)
    assert (chamfer(carve_queries([query], 0.5), documents) <= chamfer([query], documents) + 1e-4).all()


def same(ragged, sets):
    return len(ragged) == len(sets) and all(np.allclose(a, b) for a, b in zip(ragged, sets, strict=True))
