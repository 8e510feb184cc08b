"""Packed bits on a device: hits and distances are those of the CPU."""

import numpy as np
import pytest
from alike import same, same_search

import annvq


@pytest.mark.parametrize(("recipe", "dim"), [("flat", 8), ("flat", 264), ("IVF4,BFlat", 72)])
def test_hamming(device, recipe, dim):
    rows = np.random.default_rng(dim).integers(0, 256, (90, dim // 8), dtype=np.uint8)
    rows[60:80] = rows[:20]
    index = annvq.build(rows, recipe, metric="hamming")
    index.remove([5])
    there = index.to(device)
    for queries in (rows[60:61], rows[:18]):
        for given in (None, np.arange(50)):
            same_search(there, index, queries, 7, nprobe=2, filter=given)
    same(*(one.range_search(rows[:1], dim // 2, nprobe=4) for one in (there, index)))
