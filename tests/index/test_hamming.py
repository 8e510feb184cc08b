"""Packed bits by Hamming distance, against NumPy."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import annvq
from annvq.errors import CorruptIndexError, DtypeError, ParameterError, RecipeError, ShapeError
from annvq.evaluation import exact_neighbors, exact_scores
from annvq.index.trained import Trained
from annvq.kernels.codes.bits import count_flips, plane_words

N, BYTES = 1500, 12  # 96 bits: rows are padded to 128
RNG = np.random.default_rng(3)
BASE = np.packbits(
    RNG.normal(size=(N, 8 * BYTES)) + np.repeat(RNG.normal(size=(15, 8 * BYTES)), 100, axis=0) > 0, axis=1
)
QUERIES = BASE[::150] ^ np.packbits(RNG.random((10, 8 * BYTES)) < 0.1, axis=1)
RECIPES = ("flat", "IVF12,BFlat")


def distances(base, queries):
    return np.unpackbits(base[None] ^ queries[:, None], axis=2).sum(axis=2).astype(np.float32)


def nearest(base, queries, k, ids=None):
    ids = np.arange(len(base)) if ids is None else ids
    scores = -distances(base, queries)
    order = np.stack([np.lexsort((ids, -row))[:k] for row in scores])
    return ids[order], np.take_along_axis(scores, order, axis=1)


@pytest.mark.parametrize("words", [1, 2, 3, 8, 9, 12, 16, 17])
@pytest.mark.parametrize("n", [1, 7, 8, 30])
def test_the_kernel_counts_what_numpy_counts(words, n):
    rng = np.random.default_rng([words, n])
    codes = rng.integers(0, 256, (n, 8 * words), dtype=np.uint8)
    plane = np.zeros(plane_words(64 * words), np.uint64)
    plane[:words] = rng.integers(0, 1 << 63, words, dtype=np.uint64) * 2 + 1
    counts = np.empty(-(-n // 8) * 8, np.int32)
    for begin in {0, n // 2, n - 1}:
        count_flips(codes, begin, n, plane, counts)
        wanted = np.unpackbits(codes[begin:] ^ plane[:words].view(np.uint8), axis=1).sum(axis=1)
        assert counts[: n - begin].tolist() == wanted.tolist()


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("k", [1, 10, 700])
def test_hits_are_those_of_numpy(recipe, k):
    index = annvq.build(BASE, recipe, metric="hamming")
    assert (index.dim, index.metric, index.recipe.codebook.kind) == (8 * BYTES, "hamming", "bits")
    assert index.stats()["bytes_per_vector"] == 16
    ids, scores = nearest(BASE, QUERIES, k)
    for threads in (1, 4):
        hits = index.search(QUERIES, k, nprobe=12, threads=threads)
        assert np.array_equal(hits.ids, ids)
        assert np.array_equal(hits.scores, scores)
    one = index.search(QUERIES[3], k, nprobe=12)
    assert np.array_equal(one.ids[0], ids[3])
    rows, exact = exact_neighbors(BASE, QUERIES, k, "hamming")
    assert np.array_equal(rows, ids)
    assert np.array_equal(exact, scores)
    assert np.array_equal(exact_scores(BASE, QUERIES, rows, "hamming"), scores)


@pytest.mark.parametrize("recipe", RECIPES)
def test_rows_that_change_filters_files_and_radius(recipe, tmp_path):
    table, ids = pa.table({"half": np.arange(N) % 2}), np.arange(N) * 3 + 1
    index = annvq.build(
        BASE[:1000], recipe, metric="hamming", ids=ids[:1000], attributes=table[:1000], path=tmp_path / "i"
    )
    index.add(BASE[1000:], ids[1000:], table[1000:])
    index.remove(ids[::7])
    kept = np.arange(N) % 7 > 0
    index.save(tmp_path / "copy")
    for opened in (index, annvq.open(tmp_path / "copy", verify=True)):
        opened.verify()
        hits = opened.search(QUERIES, 20, nprobe=12)
        assert np.array_equal(hits.ids, nearest(BASE[kept], QUERIES, 20, ids[kept])[0])
        odd = kept & (np.arange(N) % 2 == 1)
        hits = opened.search(QUERIES, 20, nprobe=12, filter=pc.field("half") == 1)
        assert np.array_equal(hits.ids, nearest(BASE[odd], QUERIES, 20, ids[odd])[0])
        within = opened.range_search(QUERIES, 25, nprobe=12)
        near = distances(BASE[kept], QUERIES) <= 25
        assert np.array_equal(np.diff(within.offsets), near.sum(axis=1))
        assert within.scores.min() >= -25
        assert np.array_equal(opened.reconstruct(ids[kept]), BASE[kept])
        rows = opened.to_arrow().read_all()
        assert rows["vector"].type == pa.list_(pa.uint8(), BYTES)
        assert np.array_equal(np.array(rows["vector"].to_pylist(), np.uint8), BASE[kept])
    index.compact()
    assert np.array_equal(index.search(QUERIES, 20, nprobe=12).ids, nearest(BASE[kept], QUERIES, 20, ids[kept])[0])
    again = annvq.build(rows["vector"], recipe, metric="hamming", ids=rows["id"])
    assert np.array_equal(again.search(QUERIES, 20, nprobe=12).ids, hits_of(index))


def hits_of(index):
    return index.search(QUERIES, 20, nprobe=12).ids


def test_signed_bytes_are_the_same_bits():
    signed = (BASE.astype(np.int16) - 128).astype(np.int8)  # as quantize_embeddings makes them
    index = annvq.build(signed, "flat", metric="hamming")
    assert np.array_equal(index.reconstruct(np.arange(N)), BASE)
    asked = (QUERIES.astype(np.int16) - 128).astype(np.int8)
    assert np.array_equal(index.search(asked).ids, annvq.build(BASE, "flat", metric="hamming").search(QUERIES).ids)


def test_streams_tuning_and_recipes():
    blocks = (BASE[start : start + 400] for start in range(0, N, 400))
    index = annvq.build(blocks, "ivf-flat", metric="hamming")
    assert len(index) == N
    report = index.tune(QUERIES, k=10, recall=1.0)
    assert report.reached
    assert annvq.build(BASE, metric="hamming").recipe.codebook.kind == "bits"
    assert annvq.Recipe.from_toml(index.recipe.to_toml()) == index.recipe
    assert annvq.build(BASE[:0], "flat", metric="hamming").search(QUERIES).ids.max() == -1
    annvq.warmup("IVF4,BFlat")


@pytest.mark.parametrize(
    "recipe", ["balanced", "ivf-sq8", "SQ8", "PQ4", "RaBitQ", "Flat,Refine(SQ8)", "exact-refine", "OPQ4,PQ4"]
)
def test_other_recipes_are_refused(recipe):
    with pytest.raises(RecipeError, match=r"hamming|refine"):
        annvq.build(BASE, recipe, metric="hamming")
    with pytest.raises(RecipeError, match="kind 'bits' are for metric 'hamming', not 'l2'"):
        annvq.build(BASE, "BFlat", metric="l2")


def test_shards_that_share_what_was_trained_and_damaged_padding(tmp_path):
    trained = annvq.train(BASE, "IVF12,BFlat", metric="hamming")
    whole = annvq.build(BASE, "IVF12,BFlat", metric="hamming")
    shard = annvq.build(BASE[:700], trained=trained)
    shard.add(BASE[700:])
    assert np.array_equal(hits_of(shard), hits_of(whole))
    codes = whole.rows.current.snapshot.segments[0].arrays["codes"].copy()
    codes[5, -1] = 1
    with pytest.raises(CorruptIndexError, match="beyond the dimension"):
        whole.rows.current.trained.codes.verify({"codes": codes})


@pytest.mark.parametrize("given", [BASE.astype(np.float32), BASE[:3].astype(float).tolist(), BASE[:3].tolist()])
def test_numbers_that_are_not_packed_are_refused(given):
    with pytest.raises(DtypeError, match=r"packed bits for metric 'hamming'.*packbits"):
        annvq.build(given, "flat", metric="hamming")
    index = annvq.build(BASE, "flat", metric="hamming")
    for refused in (lambda: index.search(given), lambda: index.add(given)):
        with pytest.raises(DtypeError, match="packed bits"):
            refused()


def test_other_lengths_metrics_and_files_are_refused():
    index = annvq.build(BASE, "flat", metric="hamming")
    with pytest.raises(ShapeError, match="queries: 11 bytes of 8 bits, expected 12 for dimension 96"):
        index.search(QUERIES[:, :11])
    with pytest.raises(ParameterError, match="hamming"):
        annvq.build(BASE, "flat", metric="jaccard")
    trained = index.rows.current.trained
    sections = trained.sections()
    sections["config"] = np.frombuffer(sections["config"].tobytes().replace(b'"hamming"', b'"l2"'), np.uint8)
    with pytest.raises(CorruptIndexError, match="kind 'bits' with metric 'l2'"):
        Trained.from_sections(sections)
