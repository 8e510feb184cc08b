"""Refine stores with a range per row: nothing is learned or clipped, and candidates are scored in two steps."""

import numpy as np
import pytest

import annvq
from annvq.evaluation import exact_neighbors, recall
from annvq.index.recipe import CodebookSpec, Recipe

RNG = np.random.default_rng(11)
BASE = (RNG.normal(size=(3000, 50)) * np.linspace(2, 0.2, 50) + 3).astype(np.float32)
QUERIES = (RNG.normal(size=(40, 50)) * np.linspace(2, 0.2, 50) + 3).astype(np.float32)


def recipe(refine):
    spec = CodebookSpec(kind="pq", M=25, nbits=4, residual=True)
    return Recipe(nlist=30, rotation="pca", dims=40, codebook=spec, refine=refine)


@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
def test_sixteen_bits_find_what_floats_find(metric):
    exact = exact_neighbors(BASE, QUERIES, 10, metric)[0]
    found = {}
    for refine in ("fp32", "lvq8x8", "lvq8"):
        index = annvq.build(BASE, recipe(refine), metric=metric, seed=3)
        hits = index.search(QUERIES, 10, nprobe=30, rerank=120)
        found[refine] = recall(hits.ids, exact), hits.scores
    assert found["lvq8x8"][0] >= found["fp32"][0] - 0.005
    assert found["lvq8"][0] >= found["fp32"][0] - 0.03
    scale = np.abs(found["fp32"][1]).max()
    np.testing.assert_allclose(found["lvq8x8"][1], found["fp32"][1], atol=1e-4 * scale)


@pytest.mark.parametrize(("refine", "share"), [("lvq8", 1 / 500), ("lvq8x8", 1 / 120_000)])
def test_rows_that_are_unlike_those_learned_from_are_not_clipped(refine, share):
    index = annvq.build(BASE, recipe(refine), metric="l2", seed=3)
    odd = (1000 * RNG.normal(size=(5, 50))).astype(np.float32)
    index.add(odd)
    error = np.abs(index.reconstruct(np.arange(3000, 3005)) - odd).max(axis=1)
    assert (error <= share * np.ptp(odd, axis=1) * 1.05).all()
    assert index.search(odd, 1, nprobe=30).ids[:, 0].tolist() == [3000, 3001, 3002, 3003, 3004]


def test_an_index_keeps_its_rows_on_disk(tmp_path):
    index = annvq.build(BASE, recipe("lvq8x8"), metric="ip", seed=3)
    index.save(tmp_path / "index")
    before = index.search(QUERIES, 10, nprobe=9)
    opened = annvq.open(tmp_path / "index")
    after = opened.search(QUERIES, 10, nprobe=9)
    assert np.array_equal(after.ids, before.ids)
    assert after.scores.tobytes() == before.scores.tobytes()
    assert np.array_equal(opened.reconstruct(range(3000)), index.reconstruct(range(3000)))


@pytest.mark.parametrize("offset", [5000, 5000 * RNG.normal(size=50)])
def test_data_far_from_the_origin_are_found(offset):
    """Queries and rows become bytes after the mean is subtracted; without that, 8 bits would be spent on the mean."""
    far, asked = (BASE + offset).astype(np.float32), (QUERIES + offset).astype(np.float32)
    exact = exact_neighbors(far, asked, 10, "l2")[0]
    for refine in ("lvq8", "lvq8x8"):
        index = annvq.build(far, recipe(refine), metric="l2", seed=3)
        assert recall(index.search(asked, 10, nprobe=30, rerank=120).ids, exact) > 0.95


@pytest.mark.parametrize("refine", ["lvq8", "lvq8x8"])
def test_a_large_constant_multiplies_no_error(refine):
    """An inner product with a query multiplies what a row's codes lose in a dimension by what the query has there."""
    base, asked = BASE.copy(), QUERIES.copy()
    base[:, 7] = asked[:, 7] = 1000
    exact = exact_neighbors(base, asked, 10, "ip")[0]
    plain = CodebookSpec(kind="pq", M=25, nbits=4, residual=True)
    index = annvq.build(base, Recipe(nlist=30, codebook=plain, refine=refine), metric="ip", seed=3)
    assert recall(index.search(asked, 10, nprobe=30, rerank=300).ids, exact) > 0.95
