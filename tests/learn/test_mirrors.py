"""Mirrors hold the same numbers, decode what codebooks decode, and come back unchanged."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from annvq.codebooks import ProductCodebook, ResidualCodebook, Rotation, ScalarCodebook
from annvq.errors import ParameterError
from annvq.learn.parts.mirrors import CentroidsMirror, ProductMirror, ResidualMirror, RotationMirror, mirror_of


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(0).normal(size=(600, 22)).astype(np.float32)


@pytest.mark.parametrize(("M", "nbits"), [(4, 8), (5, 4), (22, 8), (1, 4)])
def test_product_codebooks_come_back(vectors, M, nbits):
    codebook = ProductCodebook.train(vectors, M=M, nbits=nbits, niter=3)
    mirror = mirror_of(codebook)
    assert isinstance(mirror, ProductMirror)
    back = mirror.to_codebook()
    np.testing.assert_array_equal(back.codebooks, codebook.codebooks)
    assert (back.dim, back.anisotropic_eta) == (codebook.dim, codebook.anisotropic_eta)
    codes = codebook.encode(vectors)
    np.testing.assert_array_equal(mirror.decode(torch.from_numpy(codes)).detach().numpy(), codebook.decode(codes))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ksub", [None, 64, 7, 1])
@pytest.mark.parametrize("rows", [0, 1, 33])
def test_codes_are_of_the_nearest_centroids(vectors, dtype, ksub, rows):
    mirror = ProductMirror(ProductCodebook.train(vectors, M=5, nbits=8, niter=2)).to(dtype)
    given = torch.from_numpy(vectors[:rows]).to(dtype)
    codes = mirror.nearest(given, ksub)
    parts = np.zeros((rows, 25))
    parts[:, :22] = vectors[:rows]
    centroids = mirror.codebooks.detach().double().numpy()[:, :ksub]
    distances = np.square(parts.reshape(rows, 5, 1, 5) - centroids).sum(3)
    assert codes.shape == (rows, 5)
    assert codes.dtype == torch.int64
    found = np.take_along_axis(distances, codes.numpy()[:, :, None], 2)[:, :, 0]
    np.testing.assert_allclose(found, distances.min(2), rtol=1e-5)


def test_score_aware_codebooks_keep_their_weight(vectors):
    codebook = ProductCodebook.train(vectors, M=11, nbits=4, niter=2, anisotropic_eta=3.0)
    assert mirror_of(codebook).to_codebook().anisotropic_eta == 3.0


def test_residual_codebooks_come_back(vectors):
    codebook = ResidualCodebook.train(vectors, M=3, nbits=4, niter=2, beam=2)
    mirror = mirror_of(codebook)
    assert isinstance(mirror, ResidualMirror)
    back = mirror.to_codebook()
    np.testing.assert_array_equal(back.codebooks, codebook.codebooks)
    assert back.beam == 2
    codes = codebook.encode(vectors)
    decoded = mirror.decode(torch.from_numpy(codes)).detach().numpy()
    np.testing.assert_allclose(decoded, codebook.decode(codes), atol=1e-5)


def test_centroids_and_rotations_come_back(vectors):
    mirror = CentroidsMirror(vectors[:7])
    np.testing.assert_array_equal(mirror.to_centroids(), vectors[:7])
    np.testing.assert_array_equal(mirror.decode(torch.tensor([3, 0])).detach().numpy(), vectors[[3, 0]])
    rotation = Rotation.random(22, 1)
    np.testing.assert_array_equal(RotationMirror(rotation).to_rotation().matrix, rotation.matrix)


def test_a_rotation_stays_one_wherever_it_moves(vectors):
    mirror = RotationMirror(Rotation.random(22, 1))
    with torch.no_grad():
        mirror.skew.normal_()
    moved = mirror.to_rotation()
    Rotation.from_arrays(moved.config(), moved.arrays())  # raises unless orthonormal
    np.testing.assert_allclose(mirror(torch.from_numpy(vectors)).detach().numpy(), moved.apply(vectors), atol=1e-4)


def test_what_cannot_be_trained_is_refused(vectors):
    with pytest.raises(ParameterError, match="ScalarCodebook cannot be trained"):
        mirror_of(ScalarCodebook.train(vectors, kind="sq8"))


def test_a_rotation_to_fewer_dimensions_is_as_it_was(vectors):
    rotation = Rotation.pca(vectors, 8)
    mirror = RotationMirror(rotation)
    assert not list(mirror.parameters())
    np.testing.assert_array_equal(mirror.to_rotation().matrix, rotation.matrix)
    np.testing.assert_allclose(mirror(torch.from_numpy(vectors)).numpy(), rotation.apply(vectors), atol=1e-4)


def test_distances_are_those_of_float64(vectors):
    codebook = ProductCodebook.train(vectors, M=4, nbits=4, niter=2)  # 22 = 4 * 6 - 2: padded
    found = mirror_of(codebook).distances(torch.from_numpy(vectors)).detach().numpy()
    parts = np.pad(vectors, ((0, 0), (0, 2))).reshape(-1, 4, 1, 6).astype(np.float64)
    expected = np.square(parts - codebook.codebooks[None]).sum(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found.argmin(2), codebook.encode(vectors))


def test_one_hot_weights_decode(vectors):
    codebook = ProductCodebook.train(vectors, M=4, nbits=4, niter=2)
    mirror, codes = mirror_of(codebook), codebook.encode(vectors)
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(codes).long(), 16).float()
    np.testing.assert_allclose(mirror.mix(one_hot).detach().numpy(), codebook.decode(codes), atol=1e-6)


def test_gradients_reach_the_centroids_that_were_used(vectors):
    mirror = mirror_of(ProductCodebook.train(vectors, M=4, nbits=4, niter=2))
    rng = np.random.default_rng(1)
    codes, slope = rng.integers(0, 16, (50, 4)), rng.normal(size=(50, 22)).astype(np.float32)
    (mirror.decode(torch.from_numpy(codes)) * torch.from_numpy(slope)).sum().backward()
    expected = np.zeros((4, 16, 6))
    parts = np.pad(slope, ((0, 0), (0, 2))).reshape(50, 4, 6)
    for m in range(4):
        np.add.at(expected[m], codes[:, m], parts[:, m])
    np.testing.assert_allclose(mirror.codebooks.grad.numpy(), expected, atol=1e-5)
