"""Lists and codes of the first dimensions, rescored with all."""

import numpy as np
import pytest

import annvq
from annvq.errors import RecipeError
from annvq.evaluation import exact_neighbors, recall

N, D, DIMS = 3000, 64, 16
RNG = np.random.default_rng(0)
SCALE = 0.9 ** np.arange(D)  # most of what tells vectors apart is in the first dimensions
BASE = (RNG.normal(size=(N, D)) * SCALE).astype(np.float32)
QUERIES = (RNG.normal(size=(40, D)) * SCALE).astype(np.float32)


@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
@pytest.mark.parametrize("codes", ["Flat", "SQfp16", "SQ8", "SQ4", "PQ8", "PQ8x4fsr", "RQ4x8"])
def test_the_refine_store_ranks_with_all_dimensions(codes, metric, tmp_path):
    index = annvq.build(BASE, f"Truncate{DIMS},IVF10,{codes},RFlat", metric=metric)
    trained = index.rows.current.trained
    assert trained.centroids.shape == (10, DIMS)
    assert (index.dim, index.recipe.rotation, index.recipe.dims) == (D, "truncate", DIMS)
    index.save(tmp_path / "index")
    truth, scores = exact_neighbors(BASE, QUERIES, 10, metric)
    for opened in (index, annvq.open(tmp_path / "index", verify=True)):
        hits = opened.search(QUERIES, 10, nprobe=10, rerank=N)
        assert recall(hits.ids, truth) == 1
        np.testing.assert_allclose(hits.scores, scores, rtol=1e-5, atol=1e-5)
        assert recall(opened.search(QUERIES, 10, nprobe=10, rerank=300).ids, truth) > 0.9
        assert np.array_equal(opened.search(QUERIES[0], 10, nprobe=10, rerank=N).ids[0], hits.ids[0])


def test_codes_see_the_first_dimensions_as_they_are():
    index = annvq.build(BASE, f"Truncate{DIMS},Flat", metric="cosine")
    whole = BASE / np.linalg.norm(BASE, axis=1, keepdims=True)
    decoded = index.reconstruct(np.arange(N))
    np.testing.assert_allclose(decoded[:, :DIMS], whole[:, :DIMS], rtol=1e-6)
    assert not decoded[:, DIMS:].any()
    assert index.stats()["bytes_per_vector"] == 4 * DIMS


def test_spellings():
    recipe = annvq.Recipe.from_toml('rotation = "truncate"\ndims = 16\nrefine = "sq8"\n[codebook]\nkind = "sq8"')
    index = annvq.build(BASE, recipe)
    assert annvq.build(BASE, "Truncate16,SQ8,Refine(SQ8)").recipe == index.recipe
    assert annvq.Recipe.from_toml(index.recipe.to_toml()) == index.recipe
    assert index.recipe.search.rerank == 100  # 200 over 8 * 16 / 64 bits for each of all dimensions
    annvq.warmup("Truncate16,SQ8,Refine(SQ8)", metric="ip")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Truncate65,SQ8", "dims = 65 components of vectors with d = 64"),
        ("Truncate0,SQ8", "dims = 0"),
        ("Truncate16,RaBitQ", "needs rotation 'random'"),
        ("Truncate,SQ8", "Truncate"),
    ],
)
def test_what_does_not_fit_is_refused(text, message):
    with pytest.raises(RecipeError, match=message):
        annvq.build(BASE, text)


def test_fields_that_do_not_fit_are_refused():
    for fields in ('rotation = "truncate"', 'rotation = "truncate"\ndims = 0.5', 'rotation = "random"\ndims = 3'):
        with pytest.raises(RecipeError, match="dims"):
            annvq.Recipe.from_toml(f'{fields}\n[codebook]\nkind = "pq"\nM = 4')
    with pytest.raises(RecipeError, match="packed bits"):
        annvq.Recipe.from_toml('rotation = "truncate"\ndims = 3\n[codebook]\nkind = "bits"')
