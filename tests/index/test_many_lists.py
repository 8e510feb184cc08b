"""Indexes with so many lists that their centroids are found by codes."""

from __future__ import annotations

import numpy as np
import pytest

import annvq
from annvq.index.codes.probes import coarse_of
from annvq.index.recipe import CodebookSpec, Recipe

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(900, 32))
BASE = (CENTRES[RNG.integers(0, 900, 12_000)] + 0.5 * RNG.normal(size=(12_000, 32))).astype(np.float32)
QUERIES = RNG.normal(size=(100, 32)).astype(np.float32)
RECIPE = Recipe(nlist=800, codebook=CodebookSpec(kind="pq", M=16, nbits=4, residual=True), refine="fp32", spill=True)


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_lists_found_by_codes_hold_what_all_centroids_would_find(metric, tmp_path):
    built = annvq.build(BASE, RECIPE, metric=metric)
    assert built.rows.current.trained.coarse_codebook is not None
    built.save(tmp_path / "index")
    exact = annvq.build(BASE, "flat", metric=metric).search(QUERIES, 10).ids
    with annvq.open(tmp_path / "index") as opened:
        opened.verify()
        found = opened.search(QUERIES, 10, nprobe=20, rerank=100)
        in_memory = built.search(QUERIES, 10, nprobe=20, rerank=100)
        assert found.ids.tolist() == in_memory.ids.tolist()
        assert found.scores.tobytes() == in_memory.scores.tobytes()
        assert opened.search(QUERIES[3], 10, nprobe=20, rerank=100).ids[0].tolist() == found.ids[3].tolist()
        by_codes = np.mean([np.isin(f, e).mean() for f, e in zip(found.ids, exact, strict=True)])
        few = np.arange(0, 12_000, 997)  # too few lists hold these: all centroids are scored
        ids = opened.search(QUERIES[:5], len(few), filter=few, nprobe=1).ids
        assert all(sorted(row) == few.tolist() for row in ids.tolist())
    trained = built.rows.current.trained
    trained.__dict__["coarse"] = coarse_of(trained.centroids, trained.l2)
    built.rows.current.view.__dict__.pop("fused", None)
    found = built.search(QUERIES, 10, nprobe=20, rerank=100)
    by_all = np.mean([np.isin(f, e).mean() for f, e in zip(found.ids, exact, strict=True)])
    assert by_codes > by_all - 0.01
