"""Indexes to Faiss and back: the same codes give the same results."""

import numpy as np
import pytest

from annvq import errors
from annvq.codebooks import Rotation
from annvq.index.build import build
from annvq.index.opening import open_index
from annvq.interop.faiss import from_faiss, to_faiss

faiss = pytest.importorskip("faiss")

RNG = np.random.default_rng(0)
CENTERS = RNG.normal(size=(12, 16)).astype(np.float32) * 2
BASE = (CENTERS[RNG.integers(0, 12, 1500)] + RNG.normal(size=(1500, 16))).astype(np.float32)
QUERIES = (CENTERS[RNG.integers(0, 12, 25)] + RNG.normal(size=(25, 16))).astype(np.float32)
K, RERANK = 10, 200


def agree(index, faiss_index):
    """Compare the k best of both, see `same_hits`."""
    scores, ids = faiss_index.search(QUERIES, K)
    scores = -scores if index.metric == "l2" else scores
    same_hits(index.search(QUERIES, K, rerank=RERANK), scores, ids)


def same_hits(hits, scores, ids, tolerance=2e-4):
    """Scores are the same up to rounding, and so is who is above the last: ties there may go to others."""
    np.testing.assert_allclose(hits.scores, scores, rtol=tolerance, atol=tolerance)
    for q in range(len(ids)):
        last = scores[q, -1] + 2 * tolerance * (1 + abs(scores[q, -1]))
        assert set(hits.ids[q, hits.scores[q] > last]) <= set(ids[q])
        assert set(ids[q, scores[q] > last]) <= set(hits.ids[q])


RECIPES = [
    "Flat",
    "SQfp16",
    "SQ8",
    "SQ4",
    "PQ8x8",
    "PQ8x4fs",
    "PQ5x4fs",
    "OPQ8,PQ8x8",
    "IVF12,Flat",
    "IVF12,SQ8",
    "IVF12,SQfp16",
    "IVF12,PQ8x8",
    "IVF12,PQ8x4fs",
    "IVF12,PQ5x8",
    "OPQ4,IVF12,PQ4x8",
    "IVF12,PQ8x4fs,RFlat",
    "OPQ8,IVF12,PQ8x4fs,Refine(SQ8)",
    "PCA10,IVF12,PQ5x8",
    "PCA9,IVF12,PQ5x4fs,Refine(SQ8)",
    "PQ8x4fs,Refine(SQfp16)",
]


# Ids that are neither ascending nor the numbers of rows.
IDS = np.where(np.arange(1500) % 2, np.arange(1500) * 10, -7 - np.arange(1500) * 3)[::-1]


@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_there_and_back(recipe, metric):
    index = build(BASE, recipe, metric=metric, ids=IDS)
    faiss_index = to_faiss(index)
    assert (faiss_index.d, faiss_index.ntotal) == (16, 1500)
    set_k_factor(faiss_index, RERANK / K)
    agree(index, faiss_index)
    back = from_faiss(faiss_index)
    assert (back.metric, back.dim, len(back), back.nprobe) == (metric, 16, 1500, index.nprobe)
    assert back.stats()["bytes_per_vector"] == index.stats()["bytes_per_vector"]
    mine, theirs = index.search(QUERIES, K, rerank=RERANK), back.search(QUERIES, K, rerank=RERANK)
    same_hits(mine, theirs.scores, theirs.ids, tolerance=1e-5)
    back.verify()


def set_k_factor(index, k_factor):
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexRefine):
        index.k_factor = k_factor
    elif hasattr(index, "index"):
        set_k_factor(index.index, k_factor)


def train(index):
    """Train on BASE, without Faiss's search for an order of the centroids that nothing here uses: it takes seconds."""
    inner = faiss.downcast_index(index)
    while hasattr(inner, "index") or hasattr(inner, "base_index"):
        inner = faiss.downcast_index(inner.index if hasattr(inner, "index") else inner.base_index)
    if hasattr(inner, "do_polysemous_training"):
        inner.do_polysemous_training = False
    index.train(BASE)


FACTORY = [
    "Flat",
    "PQ8",
    "PQ4x4",
    "SQ8",
    "SQ4",
    "SQfp16",
    "IVF12,Flat",
    "IVF12,PQ8",
    "IVF12,PQ8x4",
    "IVF12,PQ8np",
    "OPQ8,IVF12,PQ8",
    "RR16,PQ8",
    "IDMap,PQ4",
    "IDMap2,OPQ4,PQ4",
    "IVF12,PQ8x4,RFlat",
    "IVF12,PQ8x4,Refine(SQ8)",
]


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("factory", FACTORY)
def test_what_faiss_built(factory, metric):
    faiss_index = faiss.index_factory(16, factory, faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT)
    train(faiss_index)
    if factory.startswith("IDMap"):
        faiss_index.add_with_ids(BASE, np.ascontiguousarray(IDS))
    else:
        faiss_index.add(BASE[:1000])
        faiss_index.add(BASE[1000:])
    if "IVF" in factory:
        faiss.extract_index_ivf(getattr(faiss_index, "base_index", faiss_index)).nprobe = 5
    set_k_factor(faiss_index, RERANK / K)
    index = from_faiss(faiss_index)
    assert index.metric == metric
    assert index.nprobe == (5 if "IVF" in factory else 1)
    agree(index, faiss_index)
    mask = np.zeros(1500, bool)
    mask[7] = True  # by order of insertion, where labels tell it
    only = IDS[np.argsort(np.arange(1500))[7]] if factory.startswith("IDMap") else 7
    assert index.search(QUERIES[:1], 1, nprobe=12 if "IVF" in factory else None, filter=mask).ids.tolist() == [[only]]


def test_cosine_from_faiss():
    faiss_index = faiss.index_factory(16, "L2norm,IVF12,PQ8", faiss.METRIC_INNER_PRODUCT)
    train(faiss_index)
    faiss_index.add(BASE)
    faiss.extract_index_ivf(faiss_index).nprobe = 3  # of one short list, annvq would go on to others
    index = from_faiss(faiss_index)
    assert index.metric == "cosine"
    agree(index, faiss_index)


def test_an_index_that_changed():
    index = build(BASE[:700], "OPQ8,IVF12,PQ8x8", metric="l2", ids=IDS[:700])
    index.add(BASE[700:], ids=IDS[700:])
    index.remove(IDS[::3])
    faiss_index = to_faiss(index)
    assert faiss_index.ntotal == 1000
    agree(index, faiss_index)


@pytest.mark.parametrize("recipe", ["OPQ8,IVF12,PQ8x8", "IVF12,PQ5x4fs", "PQ5x8", "IVF12,PQ8x4fs,Refine(SQ8)"])
def test_files(tmp_path, recipe):
    index = build(BASE, recipe, metric="l2", ids=IDS)
    faiss.write_index(to_faiss(index), str(tmp_path / "index.faiss"))
    faiss_index = faiss.read_index(str(tmp_path / "index.faiss"))
    set_k_factor(faiss_index, RERANK / K)
    agree(index, faiss_index)
    from_faiss(faiss_index).save(tmp_path / "index")
    with open_index(tmp_path / "index") as opened:
        opened.verify()
        agree(opened, faiss_index)


@pytest.mark.parametrize("recipe", ["Flat", "IVF12,Flat"])
def test_both_can_go_on(recipe):
    index = build(BASE[:1000], recipe, metric="l2")
    faiss_index = to_faiss(index)
    faiss_index.add(BASE[1000:])
    index.add(BASE[1000:])
    agree(index, faiss_index)
    back = from_faiss(faiss_index)
    back.add(BASE[:1])
    assert back.search(BASE[:1], 2, nprobe=1 if recipe == "Flat" else None).ids.tolist() == [[0, 1500]]


@pytest.mark.parametrize("recipe", ["Flat", "IVF12,PQ8x8"])
def test_no_rows_are_left(recipe):
    index = build(BASE[:100], recipe)
    index.remove(np.arange(100))
    faiss_index = to_faiss(index)
    assert faiss_index.ntotal == 0
    assert (faiss_index.search(QUERIES, 3)[1] == -1).all()
    back = from_faiss(faiss_index)
    assert len(back) == 0
    back.add(BASE[:5])
    assert back.search(BASE[:1], 1).ids.tolist() == [[0]]


@pytest.mark.parametrize(
    ("recipe", "ids", "words"),
    [("IVF12,RaBitQ4", None, "rabitq"), ("RQ4x8", None, "rvq"), ("Flat", [f"d{i}" for i in IDS], "str")],
)
def test_what_faiss_does_not_have(recipe, ids, words):
    with pytest.raises(errors.ParameterError, match=words):
        to_faiss(build(BASE, recipe, ids=ids))


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("HNSW8", "IndexHNSWFlat"),
        ("PQ8x6", "6 bits"),
        ("SQ6", "scalar quantizer"),
        ("IVF12,SQ8", "by_residual"),
        ("PCA8,PQ4x8", "bias"),
        ("RR16,Flat", "rotation"),
        ("PQ8x4fs", "IndexPQFastScan"),
        ("L2norm,Flat", "under L2"),
        ("RR16,Refine(Flat)", "behind a rotation"),
    ],
)
def test_what_annvq_does_not_have(factory, words):
    if "Refine" in factory:
        inner = faiss.IndexRefineFlat(faiss.IndexPQ(16, 8, 4))
        faiss_index = faiss.IndexPreTransform(faiss.RandomRotationMatrix(16, 16), inner)
    else:
        faiss_index = faiss.index_factory(16, factory)
    train(faiss_index)
    faiss_index.add(BASE)
    with pytest.raises(errors.ParameterError, match=words):
        from_faiss(faiss_index)


def test_a_projection_before_other_codes_than_product_codes():
    projection = faiss.IndexPreTransform(faiss.RandomRotationMatrix(16, 8), faiss.IndexFlat(8))
    train(projection)
    with pytest.raises(errors.ParameterError, match="a projection before codes of kind 'fp32'"):
        from_faiss(projection)


def test_what_is_not_ready():
    with pytest.raises(errors.ParameterError, match="not trained"):
        from_faiss(faiss.index_factory(16, "IVF12,Flat"))
    with pytest.raises(errors.ParameterError, match="metric"):
        from_faiss(faiss.IndexFlat(16, faiss.METRIC_L1))


def test_what_is_no_index():
    for given in (None, 5, BASE, faiss.IndexBinaryFlat(16)):
        with pytest.raises(errors.ParameterError, match="expected an index"):
            from_faiss(given)
        with pytest.raises(errors.ParameterError, match="expected an index"):
            to_faiss(given)
    index = build(BASE, "Flat")
    with pytest.raises(errors.ParameterError, match="Index, expected an index of Faiss"):
        from_faiss(index)
    index.close()
    with pytest.raises(errors.StateError):
        to_faiss(index)


def test_labels_that_cannot_be_ids():
    faiss_index = faiss.IndexIDMap(faiss.IndexFlatL2(16))
    faiss_index.add_with_ids(BASE[:3], np.array([4, 9, 4]))
    with pytest.raises(errors.DuplicateIdError, match="4"):
        from_faiss(faiss_index)
    faiss_index = faiss.IndexIDMap(faiss.IndexFlatL2(16))
    faiss_index.add_with_ids(BASE[:2], np.array([4, -1]))
    with pytest.raises(errors.ParameterError, match="-1"):
        from_faiss(faiss_index)


def test_rotations_are_carried_over():
    index = build(BASE, "OPQ8,PQ8x8", metric="ip")
    back = from_faiss(to_faiss(index))
    rotation = back.rows.current.trained.rotation
    assert isinstance(rotation, Rotation)
    np.testing.assert_array_equal(rotation.matrix, index.rows.current.trained.rotation.matrix)
    assert back.recipe.rotation == "opq"


@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
@pytest.mark.parametrize("refine", ["LVQ8", "LVQ8x8"])
def test_local_rows_become_floats(refine, metric):
    index = build(BASE, f"IVF12,PQ8x4fs,Refine({refine})", metric=metric, ids=IDS)
    faiss_index = to_faiss(index)
    set_k_factor(faiss_index, RERANK / K)
    agree(index, faiss_index)
