"""Rows and sums of product and residual codes against NumPy: sub-rows of all lengths, odd ends, empty bags."""

import itertools

import numpy as np
import pytest

from annvq.kernels.embeddings.embedding import SPARE
from annvq.kernels.embeddings.product_codes import product_rows
from annvq.tables.frozen.codes import ProductCodes, ResidualCodes, packed
from annvq.tables.frozen.form import with_spare

SHAPES = [  # M, ksub, dsub, d
    (32, 256, 2, 64),
    (16, 256, 4, 64),
    (8, 256, 8, 64),
    (64, 16, 1, 64),
    (15, 16, 4, 60),
    (16, 16, 4, 63),
    (5, 256, 3, 14),
    (7, 16, 2, 13),
    (3, 256, 7, 20),
    (3, 256, 8, 20),
    (2, 16, 17, 33),
    (1, 256, 16, 3),
    (1, 256, 1, 1),
    (2, 256, 20, 38),
]


@pytest.mark.parametrize(("M", "ksub", "dsub", "d"), SHAPES)
@pytest.mark.parametrize("special", [False, True])
def test_rows_and_sums(M, ksub, dsub, d, special):
    rng = np.random.default_rng(M * d)
    codebooks = rng.standard_normal((M, ksub, dsub)).astype(np.float32)
    if special:
        codebooks[0, 0], codebooks[-1, 1, 0], codebooks[-1, 2, 0] = np.nan, np.inf, -np.inf
    codes = rng.integers(0, ksub, (300, M)).astype(np.uint8)
    table = ProductCodes(300, d, packed(codes, 8 if ksub == 256 else 4), codebooks)
    full = np.concatenate([codebooks[m, codes[:, m]] for m in range(M)], 1)[:, :d]
    ids = rng.integers(0, 300, 337)
    assert np.array_equal(table.rows(ids), full[ids], equal_nan=True)
    offsets = np.array([0, 0, 1, 65, 130, 130, 337])  # more than are decoded at once, one, none
    weights = rng.standard_normal(337).astype(np.float32)
    for given in (weights, np.empty(0, np.float32)):
        factors = given.astype(np.float64) if len(given) else np.ones(337)
        with np.errstate(invalid="ignore"):
            rows = factors[:, None] * full[ids].astype(np.float64)
            expected = np.stack([rows[a:b].sum(0) for a, b in itertools.pairwise(offsets)])
        found = table.sums(ids, offsets, given)
        assert np.allclose(found, expected, rtol=1e-4, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("ksub", [16, 256])
@pytest.mark.parametrize(("M", "d"), [(1, 1), (3, 15), (7, 16), (62, 17), (4, 64), (2, 100)])
def test_rows_of_residual_codes(ksub, M, d):
    rng = np.random.default_rng(M * d)
    codebooks = rng.standard_normal((M, ksub, d)).astype(np.float32)
    codebooks[0, 0, 0], codebooks[0, 1] = np.nan, np.inf
    codes = rng.integers(0, ksub, (40, M)).astype(np.uint8)
    table = ResidualCodes(40, d, packed(codes, 8 if ksub == 256 else 4), codebooks)
    ids = rng.integers(0, 40, 33)
    expected = codebooks.astype(np.float64)[np.arange(M), codes[ids]].sum(1)
    np.testing.assert_allclose(table.rows(ids), expected, rtol=1e-4, atol=1e-5, equal_nan=True)
    assert table.rows(ids[:0]).shape == (0, d)


def test_no_ids_and_no_bags():
    table = ProductCodes(3, 4, packed(np.zeros((3, 2), np.uint8), 8), np.zeros((2, 256, 2), np.float32))
    none = np.empty(0, np.int64)
    assert table.rows(none).shape == (0, 4)
    assert table.sums(none, np.zeros(1, np.int64), np.empty(0, np.float32)).shape == (0, 4)


@pytest.mark.parametrize("bits", [4, 6, 8])
@pytest.mark.parametrize("dsub", [1, 2, 3, 4, 5, 8, 11, 16, 20])
def test_nothing_is_written_beyond_the_spare_floats(bits, dsub):
    rng = np.random.default_rng(dsub)
    M, ksub = 3, 1 << bits
    codebooks = rng.standard_normal((M, ksub, dsub)).astype(np.float32)
    codes = rng.integers(0, ksub, (9, M)).astype(np.uint8)
    ids = np.array([8, 0, 8])
    for d in range(2 * dsub + 1, 3 * dsub + 1):
        full = np.concatenate([codebooks[m, codes[:, m]] for m in range(M)], 1)[:, :d]
        held = len(ids) * d + dsub + SPARE
        out = np.full(held + 64, 7, np.float32)
        product_rows(packed(codes, bits), bits, with_spare(codebooks), M, ksub, dsub, d, ids, out[:held])
        assert np.array_equal(out[: len(ids) * d].reshape(-1, d), full[ids])
        assert np.all(out[held:] == 7)
