"""Codebooks to Faiss and back: the same codes, the same vectors."""

import numpy as np
import pytest

from annvq import errors
from annvq.codebooks import KMeans, ProductCodebook, Rotation, ScalarCodebook
from annvq.interop import faiss as interop

faiss = pytest.importorskip("faiss")

VECTORS = np.random.default_rng(0).normal(size=(600, 12)).astype(np.float32)


@pytest.mark.parametrize("n", [0, 1, 33])
@pytest.mark.parametrize("M", [1, 2, 3, 8])
@pytest.mark.parametrize("nbits", [4, 8])
def test_codes_are_packed_as_faiss_packs_them(n, M, nbits):
    vectors = VECTORS[:, :1].repeat(M, axis=1) + np.arange(M, dtype=np.float32) / 8
    quantizer = faiss.ProductQuantizer(M, M, nbits)
    quantizer.train(vectors)
    centroids = faiss.vector_to_array(quantizer.centroids).reshape(M, 1 << nbits)
    codes = np.abs(vectors[:n, :, None] - centroids[None]).argmin(axis=2).astype(np.uint8)
    packed = interop.pack_codes(codes, nbits)
    assert packed.shape == (n, quantizer.code_size)
    np.testing.assert_array_equal(interop.unpack_codes(packed, M, nbits), codes)
    if n:
        np.testing.assert_array_equal(packed, quantizer.compute_codes(np.ascontiguousarray(vectors[:n])))


def test_what_cannot_be_unpacked():
    with pytest.raises(errors.ShapeError, match=r"\(n, 3\)"):
        interop.unpack_codes(np.zeros((5, 4), np.uint8), 5, 4)
    with pytest.raises(errors.ParameterError, match="6 bits"):
        interop.unpack_codes(np.zeros((5, 4), np.uint8), 5, 6)


@pytest.mark.parametrize(("M", "nbits"), [(3, 4), (3, 8), (5, 4), (12, 8)])
def test_product_codebooks(M, nbits):
    codebook = ProductCodebook.train(VECTORS, M=M, nbits=nbits, niter=3)
    quantizer = interop.to_product_quantizer(codebook)
    width = M * codebook.codebooks.shape[2]
    padded = np.pad(VECTORS, ((0, 0), (0, width - 12)))
    packed = quantizer.compute_codes(padded)
    codes = interop.unpack_codes(packed, M, nbits)
    assert (codes != codebook.encode(VECTORS)).mean() < 0.001  # ties by rounding
    np.testing.assert_array_equal(quantizer.decode(packed)[:, :12], codebook.decode(codes))
    back = interop.from_product_quantizer(quantizer, 12)
    assert back.dim == 12
    np.testing.assert_array_equal(back.codebooks, codebook.codebooks)


def test_product_quantizers_of_other_lengths():
    with pytest.raises(errors.ParameterError, match="6 bits"):
        interop.from_product_quantizer(faiss.ProductQuantizer(12, 3, 6))


@pytest.mark.parametrize(
    "rotation", [Rotation.random(12, 1), Rotation.opq(VECTORS, 5, nbits=4, niter=2), Rotation.pca(VECTORS, 7)]
)
def test_rotations(rotation):
    transform = interop.to_rotation_transform(rotation)
    rotated = transform.apply(VECTORS)
    np.testing.assert_allclose(rotated, rotation.apply(VECTORS), atol=1e-5)
    if rotation.dim_out == rotation.dim:  # Faiss does not reverse a transform that pads
        np.testing.assert_allclose(transform.reverse_transform(rotated), VECTORS, atol=1e-4)
    np.testing.assert_array_equal(interop.from_rotation_transform(transform).matrix, rotation.matrix)


def test_transforms_that_are_no_rotations():
    pca = faiss.PCAMatrix(12, 6)
    pca.train(VECTORS)
    with pytest.raises(errors.ParameterError, match="bias"):
        interop.from_rotation_transform(pca)
    biased = faiss.LinearTransform(2, 2, True)
    faiss.copy_array_to_vector(np.eye(2, dtype=np.float32).reshape(-1), biased.A)
    faiss.copy_array_to_vector(np.ones(2, np.float32), biased.b)
    with pytest.raises(errors.ParameterError, match="bias"):
        interop.from_rotation_transform(biased)
    for rows in (6, 12):
        stretched = interop.to_rotation_transform(Rotation(2 * np.eye(12, dtype=np.float32)[:rows]))
        with pytest.raises(errors.ParameterError, match=f"from 12 to {rows} dimensions that is not orthonormal"):
            interop.from_rotation_transform(stretched)
    learned = faiss.OPQMatrix(12, 3)
    learned.niter = 2
    learned.train(VECTORS)
    assert interop.from_rotation_transform(learned).dim_out == 12


@pytest.mark.parametrize("kind", ["sq8", "sq4", "fp16"])
def test_scalar_codebooks(kind):
    vectors = VECTORS.copy()
    vectors[:, 3] = 0.5  # no range
    codebook = ScalarCodebook.train(vectors, kind=kind)
    quantizer = interop.to_scalar_quantizer(codebook)
    codes = codebook.encode(vectors)
    packed = interop.pack_codes(codes, 4) if kind == "sq4" else codes
    np.testing.assert_allclose(quantizer.decode(packed), codebook.decode(codes), rtol=1e-5, atol=1e-6)
    theirs = quantizer.compute_codes(vectors)
    theirs = interop.unpack_codes(theirs, 12, 4) if kind == "sq4" else theirs
    differ = np.delete(theirs != codes, 3, axis=1) if kind != "fp16" else theirs != codes
    assert differ.mean() < 0.002  # halves between two levels
    back = interop.from_scalar_quantizer(quantizer)
    assert back.kind == kind
    np.testing.assert_allclose(back.minimum, codebook.minimum, atol=1e-6)
    np.testing.assert_allclose(back.step, codebook.step, rtol=1e-5)


@pytest.mark.parametrize("kind", ["QT_8bit", "QT_8bit_uniform", "QT_4bit", "QT_4bit_uniform", "QT_fp16"])
def test_scalar_quantizers_that_faiss_trained(kind):
    quantizer = faiss.ScalarQuantizer(12, getattr(faiss.ScalarQuantizer, kind))
    quantizer.train(VECTORS)
    packed = quantizer.compute_codes(VECTORS)
    codebook = interop.from_scalar_quantizer(quantizer)
    codes = interop.unpack_codes(packed, 12, 4) if "4bit" in kind else packed
    np.testing.assert_allclose(codebook.decode(codes), quantizer.decode(packed), rtol=1e-5, atol=1e-6)


def test_scalar_quantizers_of_other_types():
    with pytest.raises(errors.ParameterError, match="scalar quantizer"):
        interop.from_scalar_quantizer(faiss.ScalarQuantizer(12, faiss.ScalarQuantizer.QT_6bit))


@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_centroids(metric):
    kmeans = KMeans.train(VECTORS, 9, metric=metric, niter=3)
    coarse = interop.to_centroid_index(kmeans)
    scores, labels = coarse.search(VECTORS, 3)
    own_labels, own_scores = kmeans.assign(VECTORS, 3)
    np.testing.assert_allclose(own_scores, -scores if metric == "l2" else scores, rtol=1e-4, atol=1e-4)
    assert (own_labels != labels).mean() < 0.001
    back = interop.from_centroid_index(coarse)
    assert back.metric == metric
    np.testing.assert_array_equal(back.centroids, kmeans.centroids)


def test_without_faiss(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(errors.MissingExtraError, match=r"annvq\[faiss\]"):
        interop.to_rotation_transform(Rotation.random(3))
