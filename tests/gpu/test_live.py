"""Codes that are being learned, searched on a device: tables change, and codes stay where they are."""

from dataclasses import replace

import numpy as np

import annvq
from annvq.codebooks import ProductCodebook
from annvq.learn.training.live import LiveIndex


def test_tables_change_and_codes_stay(device):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 24)).astype(np.float32)
    trained = annvq.train(vectors, "PQ6")
    codes = trained.codebook.encode(vectors)
    labels = np.zeros(200, np.int64)
    there, here = (LiveIndex(trained, labels, codes, 1, where) for where in (device, "cpu"))
    queries = rng.normal(size=(2, 24)).astype(np.float32)
    before = there.search(queries, 10, 1)
    np.testing.assert_array_equal(before, here.search(queries, 10, 1))
    words = there._index._groups[0][0].segments[0].sections["codes.words"]
    moved = ProductCodebook(trained.codebook.codebooks[:, ::-1].copy(), 24)
    for live in (there, here):
        live.update(replace(trained, codebook=moved))
    found = there.search(queries, 10, 1)
    np.testing.assert_array_equal(found, here.search(queries, 10, 1))
    assert (found != before).any()
    assert there._index._groups[0][0].segments[0].sections["codes.words"] is words
