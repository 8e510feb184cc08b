"""Kernels for sub-spaces of two dimensions and 16 entries: the same bits as those for sub-spaces of any shape."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from annvq.kernels.clusters import nearest4
from annvq.kernels.codes import encode
from annvq.kernels.registers.tiles import LANES, aligned, readonly
from annvq.kernels.vectors import transpose

PROPERTY = settings(deadline=None, max_examples=40, derandomize=True)
SEEDS = st.integers(0, 2**31)


def drawn(seed, *shape, ties):
    rng = np.random.default_rng(seed)
    return (rng.integers(-2, 3, shape) if ties else rng.normal(size=shape)).astype(np.float32)


@PROPERTY
@given(n=st.integers(1, 70), M=st.integers(1, 40), odd=st.booleans(), ties=st.booleans(), seed=SEEDS)
def test_codes_are_those_of_the_nearest_entries(n, M, odd, ties, seed):
    vectors = readonly(drawn(seed, n, 2 * M - odd, ties=ties))
    codebooks = drawn(seed + 1, M, 16, 2, ties=ties)
    sites = encode.product_sites(codebooks)
    codes, wanted = np.full((n, M), 99, np.uint8), np.empty((n, M), np.uint8)
    nearest4.encode_nearest4(vectors, M, *sites, codes)
    encode.product_encode(vectors, M, 16, 2, *sites, aligned(2 * M * LANES), wanted)
    assert np.array_equal(codes, wanted)


@PROPERTY
@given(n=st.integers(1, 40), M=st.integers(1, 9), dsub=st.integers(1, 4), short=st.integers(0, 3), seed=SEEDS)
def test_constants_of_codes_are_those_of_decoded_rows(n, M, dsub, short, seed):
    rng, d = np.random.default_rng(seed), M * dsub - min(short, dsub - 1)
    codebooks, centroids = drawn(seed, M, 16, dsub, ties=False), drawn(seed + 1, n, d, ties=False)
    codes = rng.integers(0, 16, (n, M)).astype(np.uint8)
    decoded = np.empty((n, d), np.float32)
    encode.product_decode(readonly(codes), codebooks, decoded)
    constants, wanted = np.empty(n, np.float32), np.empty(n, np.float32)
    encode.product_constants(readonly(codes), codebooks, readonly(centroids), constants)
    encode.residual_constants(readonly(decoded), readonly(centroids), wanted)
    assert np.array_equal(constants, wanted)


@PROPERTY
@given(n=st.integers(1, 40), d=st.integers(1, 50), seed=SEEDS)
def test_lanes_are_columns(n, d, seed):
    vectors = drawn(seed, n, d, ties=False)
    for first in range(0, n, transpose.LANES):
        count = min(transpose.LANES, n - first)
        panel = np.full(d * transpose.LANES, np.nan, np.float32)
        transpose.fill_lanes(readonly(vectors), first, count, panel)
        wanted = np.zeros((d, transpose.LANES), np.float32)
        wanted[:, :count] = vectors[first : first + count].T
        assert np.array_equal(panel.reshape(wanted.shape), wanted)
