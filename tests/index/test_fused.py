"""The one-call search and the search stage by stage give the same, to the bit."""

from __future__ import annotations

import numpy as np
import pytest

import annvq
from annvq.index import fused
from annvq.index.recipe import CodebookSpec, Recipe

RNG = np.random.default_rng(2)
BASE = (RNG.normal(size=(2500, 40)) * np.linspace(2, 0.1, 40)).astype(np.float32)
QUERIES = (RNG.normal(size=(70, 40)) * np.linspace(2, 0.1, 40)).astype(np.float32)


def both(index: annvq.Index, monkeypatch, *args, **options) -> tuple[annvq.hits.Hits, annvq.hits.Hits]:
    calls = []
    one_call = fused.search_block
    monkeypatch.setattr(fused, "search_block", lambda *given: calls.append(given) or one_call(*given))
    together = index.search(*args, **options)
    assert calls
    monkeypatch.setattr(fused, "takes", lambda trained, snapshot: False)
    staged = index.search(*args, **options)
    monkeypatch.undo()
    return together, staged


@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
@pytest.mark.parametrize("refine", [None, "sq8", "fp16"])
@pytest.mark.parametrize(("rotation", "residual", "M"), [(None, True, 20), ("pca", True, 12), ("random", False, 7)])
def test_same_hits_whatever_the_recipe(metric, refine, rotation, residual, M, monkeypatch):
    spec = CodebookSpec(kind="pq", M=M, nbits=4, residual=residual)
    dims = 24 if rotation == "pca" else None
    index = annvq.build(
        BASE, Recipe(rotation=rotation, dims=dims, nlist=40, codebook=spec, refine=refine), metric=metric
    )
    for queries in (QUERIES, QUERIES[:1], QUERIES[3:8]):
        for options in ({"nprobe": 1}, {"nprobe": 7, "rerank": 33}, {"nprobe": 40, "rerank": 3000, "threads": 2}):
            for k in (10, 2500):
                together, staged = both(index, monkeypatch, queries, k, **options)
                assert together.ids.tolist() == staged.ids.tolist()
                assert together.scores.tobytes() == staged.scores.tobytes()


def test_same_hits_with_filters_and_removed_rows(monkeypatch):
    index = annvq.build(BASE, "fast", ids=[f"x{i}" for i in range(len(BASE))])
    index.remove([f"x{i}" for i in range(0, 2500, 3)])
    for rows in (np.arange(2500) % 7 == 0, np.arange(2500) == 5):
        together, staged = both(
            index, monkeypatch, QUERIES, 20, filter=[f"x{i}" for i in np.flatnonzero(rows) if i % 3]
        )
        assert together.ids.tolist() == staged.ids.tolist()
        assert together.scores.tobytes() == staged.scores.tobytes()
