"""Vectors of int8 and uint8 are kept without loss at one byte per dimension."""

import numpy as np
import pyarrow as pa
import pytest

import annvq
from annvq.codebooks import ScalarCodebook
from annvq.errors import DtypeError

N, D = 400, 24
RECIPES = {
    "sq8": "SQ8",
    "lists": "IVF4,SQ8",
    "refine": "IVF4,PQ12x4fsr,Refine(SQ8)",
    "local": "IVF4,PQ12x4fsr,Refine(LVQ8)",
    "truncated": "Truncate8,SQ8,Refine(SQ8)",
}


def rows_of(dtype, n=N, seed=0):
    """Return rows that leave out the ends of the range, which a later one has."""
    low, high = (-100, 90) if dtype == np.int8 else (10, 200)
    return np.random.default_rng(seed).integers(low, high, (n, D)).astype(dtype)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_vectors_come_back_and_scores_are_those_of_integers(recipe, metric, dtype, tmp_path):
    rows, ends = rows_of(dtype), np.array([[np.iinfo(dtype).min] * D, [np.iinfo(dtype).max] * D], dtype)
    queries = rows_of(dtype, 9, seed=1)
    index = annvq.build(rows, recipe, metric=metric, path=tmp_path / "index")
    index.add(ends)
    everything = np.concatenate([rows, ends]).astype(np.int64)
    asked = queries.astype(np.int64)
    scores = asked @ everything.T if metric == "ip" else -np.square(asked[:, None] - everything).sum(axis=2)
    for opened in (index, annvq.open(tmp_path / "index")):
        assert np.array_equal(opened.reconstruct(np.arange(N + 2)), everything)
        hits = opened.search(queries, N + 2, nprobe=4, rerank=N + 2)
        assert np.array_equal(hits.scores, np.take_along_axis(scores, hits.ids, axis=1).astype(np.float32))
        assert (np.sort(hits.ids, axis=1) == np.arange(N + 2)).all()
    assert index.stats()["bytes_per_vector"] <= 2 * D


@pytest.mark.parametrize("form", ["stream", "arrow", "train"])
def test_every_form_in_which_they_are_given_keeps_them(form):
    rows, more = rows_of(np.int8), {}
    given = rows
    if form == "stream":
        given = (rows[start : start + 90] for start in range(0, N, 90))
    elif form == "arrow":
        given = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), D)
    else:
        more = {"train": rows[:100]}
    index = annvq.build(given, "SQ8", metric="l2", **more)
    assert np.array_equal(index.reconstruct(np.arange(N)), rows)


def test_floats_cosine_and_rotations_have_levels_of_their_own():
    rows = rows_of(np.int8)
    for given, recipe, metric in (
        (rows.astype(np.float32), "SQ8", "ip"),
        (rows, "SQ8", "cosine"),
        (rows, "RR,SQ8", "ip"),
    ):
        book = annvq.build(given, recipe, metric=metric).rows.current.trained.codebook
        assert not np.array_equal(book.step, np.ones(D))
    with pytest.raises(DtypeError, match="int16"):
        ScalarCodebook.of_integers(np.int16, 3)
