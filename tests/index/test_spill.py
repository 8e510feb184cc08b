"""Rows that are coded in two lists: found more often, returned once."""

from __future__ import annotations

import numpy as np
import pytest
from small_indexes import Parts

import annvq
from annvq.errors import CorruptIndexError, RecipeError
from annvq.index.codes import spill
from annvq.index.recipe import CodebookSpec, Recipe
from annvq.index.search.fused import Fused
from annvq.index.versions.persist import segment_from_sections, segment_sections
from annvq.kernels.vectors import bytematrix, gemm

RNG = np.random.default_rng(5)
CENTRES = RNG.normal(size=(60, 24))
BASE = (CENTRES[RNG.integers(0, 60, 3000)] + 0.7 * RNG.normal(size=(3000, 24))).astype(np.float32)
BASE /= np.linalg.norm(BASE, axis=1, keepdims=True)
QUERIES = RNG.normal(size=(200, 24)).astype(np.float32)  # unlike the vectors, as questions are
EXACT = np.argsort(-(QUERIES @ BASE.T), axis=1, kind="stable")[:, :10]


def recipe(spilled: bool, refine: str | None = "fp32") -> Recipe:
    return Recipe(
        nlist=64, codebook=CodebookSpec(kind="pq", M=12, nbits=4, residual=True), refine=refine, spill=spilled
    )


def recall(index: annvq.Index, **options) -> float:
    found = index.search(QUERIES, 10, **options).ids
    return float(np.mean([np.isin(f, e).mean() for f, e in zip(found, EXACT, strict=True)]))


def in_stages(index: annvq.Index, monkeypatch, *args, **options) -> annvq.hits.Hits:
    with monkeypatch.context() as patch:
        patch.setitem(index.rows.current.view.__dict__, "fused", None)
        patch.setattr(Fused, "of", lambda *given: None)
        return index.search(*args, **options)


@pytest.mark.parametrize("metric", ["ip", "cosine"])
def test_second_lists_find_what_the_first_miss(metric):
    once, twice = (annvq.build(BASE, recipe(spilled), metric=metric) for spilled in (False, True))
    assert recall(twice, nprobe=6, rerank=100) > recall(once, nprobe=6, rerank=100) + 0.05
    assert recall(twice, nprobe=64, rerank=3000) == recall(once, nprobe=64, rerank=3000) == 1.0


def test_second_lists_minimize_the_published_loss():
    centroids = CENTRES.astype(np.float32)
    labels = np.argmin(((BASE[:, None] - centroids) ** 2).sum(axis=2), axis=1)
    found = spill.SecondLists(centroids).of(BASE, labels, threads=2)
    first = BASE.astype(np.float64) - centroids[labels]
    second = BASE[:, None].astype(np.float64) - centroids
    along = np.einsum("nd,nld->nl", first, second) ** 2 / (first**2).sum(axis=1)[:, None]
    losses = (second**2).sum(axis=2) + 1.5 * along
    losses[np.arange(len(BASE)), labels] = np.inf
    chosen = losses[np.arange(len(BASE)), found]
    assert (found != labels).all()
    np.testing.assert_allclose(chosen, losses.min(axis=1), rtol=5e-3)  # lists are compared in bytes
    assert (found == losses.argmin(axis=1)).mean() > 0.99


@pytest.mark.parametrize(("centroids", "expected"), [([[1.0, 0]], 0), ([[1.0, 0], [0, 1]], 1), ([[0.5, 0.5]] * 2, 1)])
def test_second_lists_of_few_and_of_equal_centroids(centroids, expected):
    centroids = np.array(centroids, np.float32)
    vectors = np.array([[1, 0], [0.5, 0.5], [0, 0]], np.float32)
    found = spill.SecondLists(centroids).of(vectors, np.zeros(3, np.int64), threads=1)
    assert found.tolist() == [expected] * 3
    assert len(spill.SecondLists(centroids).of(vectors[:0], np.zeros(0, np.int64), threads=1)) == 0


@pytest.mark.parametrize("refine", [None, "sq8", "fp16"])
def test_rows_come_once_and_as_in_stages(refine, monkeypatch):
    index = annvq.build(BASE, recipe(True, refine))
    for nprobe, k in ((1, 10), (9, 100), (64, 3000)):
        for queries in (QUERIES[:1], QUERIES[:70]):
            found = index.search(queries, k, nprobe=nprobe)
            staged = in_stages(index, monkeypatch, queries, k, nprobe=nprobe)
            split = in_stages(index, monkeypatch, queries, k, nprobe=nprobe, threads=2)
            for other in (staged, split):
                assert found.ids.tolist() == other.ids.tolist()
                assert found.scores.tobytes() == other.scores.tobytes()
            for ids in found.ids:
                assert len(set(ids.tolist())) == k
    assert sorted(index.search(QUERIES[0], 3000, nprobe=1).ids[0].tolist()) == list(range(3000))


def test_changes_keep_second_lists(tmp_path):
    index = annvq.build(BASE[:1500], recipe(True))
    index.add(BASE[1500:2500])
    index.add(BASE[2500:])
    index.remove(np.arange(0, 3000, 7))
    left = np.setdiff1d(np.arange(3000), np.arange(0, 3000, 7))
    before = index.search(QUERIES, 10, nprobe=8)
    index.compact()
    after = index.search(QUERIES, 10, nprobe=8)
    assert after.ids.tolist() == before.ids.tolist()
    assert np.isin(after.ids, left).all()
    segment = index.rows.current.snapshot.segments[0]
    assert sorted(segment.arrays[spill.ROWS].tolist()) == list(range(len(left)))
    index.save(tmp_path / "index")
    with annvq.open(tmp_path / "index") as opened:
        opened.verify()
        again = opened.search(QUERIES, 10, nprobe=8)
        assert again.ids.tolist() == after.ids.tolist()
        assert again.scores.tobytes() == after.scores.tobytes()
        assert opened.recipe.spill
        wanted = left[left % 2 == 1]
        assert sorted(opened.search(QUERIES[0], len(wanted), filter=wanted, nprobe=1).ids[0]) == wanted.tolist()


def test_bytes_count_both_codes():
    once, twice = (annvq.build(BASE, recipe(spilled)) for spilled in (False, True))
    assert twice.stats()["bytes_per_vector"] == once.stats()["bytes_per_vector"] + 6 + 4
    assert recipe(True).bytes_per_vector(24) == twice.stats()["bytes_per_vector"]
    assert recipe(True).bytes_per_vector(24, "l2") == recipe(False).bytes_per_vector(24, "l2")
    assert twice.stats()["bytes"]["codes"] > 2 * once.stats()["bytes"]["codes"]


def test_no_second_lists_for_distances_nor_without_lists():
    assert not annvq.build(BASE, recipe(True), metric="l2").recipe.spill
    few = annvq.build(BASE[:100], "fast")
    assert not few.recipe.spill
    assert few.search(BASE[:1]).ids[0, 0] == 0


@pytest.mark.parametrize(
    "options",
    [
        {"nlist": 8, "codebook": CodebookSpec(kind="pq", M=4, nbits=8, residual=True)},
        {"nlist": 8, "codebook": CodebookSpec(kind="pq", M=4, nbits=4)},
        {"nlist": 8, "codebook": CodebookSpec(kind="fp32")},
    ],
)
def test_recipes_that_cannot_spill_are_refused(options):
    with pytest.raises(RecipeError, match="spill"):
        Recipe(spill=True, **options)
    with pytest.raises(RecipeError, match="spill"):
        Recipe(spill=1, **options)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (spill.ROWS, lambda a: np.where(np.arange(len(a)) == 5, len(a), a).astype(np.uint32)),
        (spill.ROWS, lambda a: a.astype(np.int64)),
        (spill.ROWS, lambda a: a[:-1]),
        (spill.OFFSETS, lambda a: a[:-1]),
        (spill.OFFSETS, lambda a: a[::-1].copy()),
        (spill.OFFSETS, lambda a: np.where(np.arange(len(a)) == 3, 1 << 40, a)),
        (spill.OFFSETS, lambda a: a.astype(np.int32)),
        (spill.CODES, lambda a: a[:-64]),
        (spill.CODES, lambda a: None),
        (spill.ROWS, lambda a: None),
        (spill.OFFSETS, lambda a: None),
    ],
)
def test_damaged_second_lists_are_refused(name, change):
    index = annvq.build(BASE[:1200], recipe(True))
    sections = dict(segment_sections(index.rows.current.snapshot.segments[0]))
    changed = change(sections.pop(f"array.{name}"))
    if changed is not None:
        sections[f"array.{name}"] = changed
    with pytest.raises(CorruptIndexError):
        segment_from_sections(sections, index.rows.current.trained, "segment")


def test_second_lists_that_name_a_row_twice_are_neither_verified_nor_merged(tmp_path):
    """Another row's code would have no place, and merging would take it from anywhere."""
    annvq.build(BASE[:1200], recipe(True)).save(tmp_path / "good")
    parts = Parts(tmp_path / "good")
    rows = parts.segments[0][f"array.{spill.ROWS}"].copy()
    rows[5] = rows[6]
    parts.segments[0][f"array.{spill.ROWS}"] = rows
    parts.write(tmp_path / "index")
    with annvq.open(tmp_path / "index", "rw") as index:
        hits = index.search(BASE[:5], 50, nprobe=64)
        assert all(len(set(ids)) == 50 for ids in hits.ids.tolist())
        index.remove([1])
        before = index.version
        for use in (index.verify, index.compact, lambda: index.add(BASE[1200:2400])):  # which merges
            with pytest.raises(CorruptIndexError, match=r"spill\.rows does not name row"):
                use()
        assert index.version == before


def test_rotation_and_centroids_are_prepared_once_for_all_rows_to_come(monkeypatch):
    index = annvq.build(BASE, "fast", metric="ip")
    index.add(BASE[:1] + 1)
    made = []
    for module, name in ((spill, "byte_sites"), (bytematrix, "pack"), (gemm, "pack")):
        of_old = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, of=of_old: made.append(of) or of(*given))
    index.add(np.concatenate([BASE, BASE]) + 2)
    assert made == []
