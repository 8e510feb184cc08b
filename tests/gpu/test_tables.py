"""Codes with look-up tables on a device: hits and scores are those of the CPU, to the bit."""

import numpy as np
import pytest
from alike import same, same_search

import annvq
from annvq.index.recipe import CodebookSpec, Recipe

N, D = 200, 37
SPILLED = Recipe(nlist=8, codebook=CodebookSpec(kind="pq", M=9, nbits=4, residual=True), refine="fp16", spill=True)


@pytest.fixture(scope="module")
def vectors():
    made = np.random.default_rng(1).normal(size=(N, D)).astype(np.float32)
    made[7] = made[3]  # equal scores
    return made


RECIPES = [
    "PQ9x4fs", "IVF4,PQ9x4fsr", "IVF4,PQ9x4fs", "IVF4,PQ5", "IVF4,RQ3x4", "RQ2x8", "SQ4", "fast", "balanced",
    "IVF4,PQ9x4fsr,Refine(SQfp16)", "IVF4,PQ9x4fsr,Refine(LVQ8)", "IVF4,PQ5,Refine(LVQ8x8)",
]  # fmt: skip


@pytest.mark.parametrize(("recipe", "metric"), [*((r, m) for r in RECIPES for m in ("ip", "l2")), ("fast", "cosine")])
def test_few_queries(device, recipe, metric, vectors):
    index = annvq.build(vectors, recipe, metric=metric)
    queries = np.vstack([vectors[3:4], np.random.default_rng(2).normal(size=(1, D))]).astype(np.float32)
    there = index.to(device)
    same_search(there, index, queries, 40, nprobe=2)


@pytest.mark.parametrize("recipe", ["IVF4,PQ9x4fsr", "IVF4,PQ5", SPILLED], ids=str)
def test_filters_changes_and_radius(device, recipe, vectors):
    metric = "ip" if recipe is SPILLED else "l2"
    index = annvq.build(vectors, recipe, metric=metric)
    index.add(vectors[:40] + np.float32(0.5))
    index.remove([3, 60])
    there, queries = index.to(device), vectors[:2] + np.float32(0.2)
    for given in (None, [1, 5, 9], np.arange(len(index)) % 2 == 0):
        same_search(there, index, queries, 10, filter=given)
    radius = 10.0 if metric == "ip" else 60.0
    wanted = index.range_search(queries, radius)
    assert len(wanted.ids)
    same(there.range_search(queries, radius), wanted)


@pytest.mark.parametrize("nbits", [4, 8])
def test_lists_on_several_devices(device, nbits, vectors):
    index = annvq.build(vectors, f"IVF5,PQ6x{nbits}", metric="l2")
    there = index.to([device] * 2, split="lists")
    same_search(there, index, vectors[:2], 10, nprobe=3)


def test_second_codes_are_not_shared(device, vectors):
    with pytest.raises(annvq.errors.DeviceError, match="split='replicas'"):
        annvq.build(vectors, SPILLED, metric="ip").to([device] * 2, split="lists")
