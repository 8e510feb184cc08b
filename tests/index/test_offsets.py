"""Vectors far from the origin, or with a large mean: what is found depends on what tells them from each other."""

from __future__ import annotations

import numpy as np
import pytest

import annvq
from annvq.errors import CorruptIndexError, RecipeError
from annvq.index.trained import Trained

RNG = np.random.default_rng(8)
SPREAD = RNG.normal(size=(24, 64))
BASE = RNG.normal(size=(4000, 24)) @ SPREAD
QUERIES = RNG.normal(size=(100, 24)) @ SPREAD


def recall(index: annvq.Index, base: np.ndarray, queries: np.ndarray, metric: str) -> float:
    exact = annvq.build(base, "flat", metric=metric).search(queries, 10).ids
    found = index.search(queries, 10).ids
    return float(np.mean([np.isin(f, e).mean() for f, e in zip(found, exact, strict=True)]))


@pytest.mark.parametrize("recipe", ["balanced", "exact-refine", "ivf-pq-fastscan", "IVF50,PQ32x4fsr", "IVF50,RQ6x8"])
def test_distances_do_not_care_where_the_origin_is(recipe):
    near = annvq.build(BASE.astype(np.float32), recipe, metric="l2")
    expected = recall(near, BASE.astype(np.float32), QUERIES.astype(np.float32), "l2")
    for offset in (300, 3000):
        base, queries = (BASE + offset).astype(np.float32), (QUERIES + offset).astype(np.float32)
        index = annvq.build(base, recipe, metric="l2")
        assert recall(index, base, queries, "l2") > expected - 0.03
        error = index.reconstruct(np.arange(50)) - base[:50]
        error_near = near.reconstruct(np.arange(50)) - BASE[:50]
        assert np.square(error).mean() < 1.2 * np.square(error_near).mean() + 1e-4


@pytest.mark.parametrize("metric", ["ip", "cosine"])
@pytest.mark.parametrize("mean", [0, 1, 3])
def test_fast_holds_its_promise_under_any_mean(metric, mean):
    moved = mean * np.sqrt(BASE.var(axis=0).sum()) * np.eye(64)[3]
    base, queries = (BASE + moved).astype(np.float32), (QUERIES + moved).astype(np.float32)
    assert recall(annvq.build(base, "fast", metric=metric), base, queries, metric) > 0.93


FLOAT16 = "IVF,PQ32x4fsr,Refine(SQfp16)"


def test_what_float16_would_lose_is_refused():
    for base in (1e-8 * BASE, BASE + 30_000):
        with pytest.raises(RecipeError, match="float16 would lose"):
            annvq.build(base.astype(np.float32), FLOAT16, metric="l2")
    with pytest.raises(RecipeError, match="float16 would lose"):
        annvq.build(np.float32(1e-8) * BASE.astype(np.float32), "SQfp16", metric="ip")
    annvq.build(np.zeros((5, 64), np.float32), FLOAT16)
    annvq.build(np.full((5, 64), 1e-9, np.float32), FLOAT16)  # all alike: there is nothing to lose
    index = annvq.build(BASE.astype(np.float32), FLOAT16)
    index.add(np.full((1, 64), 1e-9, np.float32))


@pytest.mark.parametrize(
    "change",
    [lambda c: c[:-1], lambda c: c.astype(np.float64), lambda c: np.where(np.arange(len(c)) == 2, np.nan, c)],
)
def test_a_damaged_center_is_refused(change):
    trained = annvq.build(BASE.astype(np.float32), "balanced", metric="l2").rows.current.trained
    sections = trained.sections()
    assert Trained.from_sections(sections).center is not None
    with pytest.raises(CorruptIndexError, match="center"):
        Trained.from_sections({**sections, "center": change(sections["center"])})
    with pytest.raises(CorruptIndexError, match="center"):
        Trained.from_sections({name: array for name, array in sections.items() if name != "center"})
    under_ip = annvq.build(BASE.astype(np.float32), "balanced").rows.current.trained.sections()
    assert "center" not in under_ip
    with pytest.raises(CorruptIndexError, match="center"):
        Trained.from_sections({**under_ip, "center": sections["center"]})
