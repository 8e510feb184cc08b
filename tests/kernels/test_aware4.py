"""Score-aware codes of 4 bits in registers, beside the same steps written out."""

import numpy as np
import pytest

from annvq.codebooks.anisotropic import ROUNDS, loss
from annvq.kernels.clusters.aware4 import encode_aware
from annvq.kernels.codes.encode import product_sites

M = 5


def coded(vectors, directions, codebooks, rounds, eta=8.0):
    codes = np.empty((len(vectors), len(codebooks)), np.uint8)
    for array in (vectors, directions):
        array.flags.writeable = False
    encode_aware(vectors, directions, len(codebooks), *product_sites(codebooks), np.float32(eta), rounds, codes)
    return codes


def decoded(codes, codebooks, d):
    return np.concatenate([codebooks[m][codes[:, m]] for m in range(len(codebooks))], axis=1)[:, :d]


@pytest.mark.parametrize("d", [10, 9])
@pytest.mark.parametrize("n", [1, 16, 37])
def test_codes_are_nearest_entries_without_rounds_and_have_a_lower_loss_with_them(n, d):
    rng = np.random.default_rng(n)
    vectors, directions = (rng.normal(size=(n, d)).astype(np.float32) for _ in range(2))
    codebooks = rng.normal(size=(M, 16, 2)).astype(np.float32)
    nearest = coded(vectors, directions, codebooks, 0)
    padded = np.pad(vectors, [(0, 0), (0, 2 * M - d)]).reshape(n, M, 2)
    distances = np.square(padded[:, :, None] - codebooks).sum(axis=3)
    assert np.array_equal(nearest, distances.argmin(axis=2))
    losses = [loss(vectors, decoded(codes, codebooks, d), directions, 8.0) for codes in
              (nearest, *(coded(vectors, directions, codebooks, rounds) for rounds in (1, ROUNDS)))]  # fmt: skip
    assert losses[0] * (1 + 1e-6) >= losses[1] >= losses[2] * (1 - 1e-6)
    assert n < 16 or losses[0] > losses[1]


def test_codes_depend_neither_on_other_rows_nor_on_the_length_of_directions():
    rng = np.random.default_rng(3)
    vectors, directions = (rng.normal(size=(40, 10)).astype(np.float32) for _ in range(2))
    codebooks = rng.normal(size=(M, 16, 2)).astype(np.float32)
    whole = coded(vectors, directions, codebooks, ROUNDS)
    assert np.array_equal(coded(vectors[7:9].copy(), directions[7:9].copy(), codebooks, ROUNDS), whole[7:9])
    for scale in (2.0**-100, 2.0**60):
        assert np.array_equal(coded(vectors, directions * np.float32(scale), codebooks, ROUNDS), whole)


def test_directions_of_zeros_leave_the_nearest_entries():
    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(20, 10)).astype(np.float32)
    codebooks = rng.normal(size=(M, 16, 2)).astype(np.float32)
    nothing = np.zeros_like(vectors)
    assert np.array_equal(coded(vectors, nothing, codebooks, ROUNDS), coded(vectors, nothing, codebooks, 0))
