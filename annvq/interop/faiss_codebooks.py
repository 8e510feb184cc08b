"""Convert codebooks between annvq and Faiss; the codes stay the same numbers.

    ProductCodebook     ProductQuantizer         centroids (M, ksub, dsub)
    Rotation            LinearTransform          matrix (d_out, d)
    ScalarCodebook      ScalarQuantizer          Faiss puts a level's value in the middle of its interval:
                                                 vmin + vdiff (c + 1/2) / (levels - 1)
    KMeans              IndexFlat                centroids (k, d)

A packed 4-bit code has the earlier sub-quantizer or dimension in the low half of its byte.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from annvq.codebooks import KMeans, ProductCodebook, Rotation, ScalarCodebook
from annvq.errors import CorruptIndexError, MissingExtraError, ParameterError, ShapeError

_LEVELS = {"sq8": 256, "sq4": 16}


def faiss_module() -> Any:
    """Return the module `faiss` (MissingExtraError)."""
    try:
        import faiss
    except ImportError:
        raise MissingExtraError("faiss-cpu", "faiss") from None
    return faiss


def pack_codes(codes: np.ndarray, nbits: int) -> np.ndarray:
    """Pack codes (n, M) uint8, one per byte, as Faiss does: (n, ceil(M nbits / 8)) uint8; nbits is 4 or 8."""
    if nbits == 8:
        return np.ascontiguousarray(codes)
    even = codes if codes.shape[1] % 2 == 0 else np.pad(codes, ((0, 0), (0, 1)))
    return even[:, 0::2] | (even[:, 1::2] << np.uint8(4))


def unpack_codes(packed: np.ndarray, M: int, nbits: int) -> np.ndarray:
    """Return codes (n, M) uint8, one per byte, from what `pack_codes` returns.

    Parameters
    ----------
    packed
        (n, ceil(M * nbits / 8)) uint8.
    M
        Codes per row.
    nbits
        Bits per code: 4 or 8.

    Raises
    ------
    ParameterError
        nbits is neither 4 nor 8.
    ShapeError
        The number of bytes per row is not the one that M codes take.

    """
    if nbits not in (4, 8):
        raise ParameterError(f"{nbits} bits per code, expected 4 or 8")
    if packed.ndim != 2 or packed.shape[1] != -(-M * nbits // 8):
        raise ShapeError(f"packed codes of shape {packed.shape}, expected (n, {-(-M * nbits // 8)})")
    if nbits == 8:
        return np.ascontiguousarray(packed)
    halves = np.stack([packed & np.uint8(15), packed >> np.uint8(4)], axis=2)
    return halves.reshape(len(packed), 2 * packed.shape[1])[:, :M].copy()


def to_product_quantizer(codebook: ProductCodebook) -> Any:
    """Return a `faiss.ProductQuantizer` of dimension M * dsub with the same centroids."""
    faiss = faiss_module()
    M, _, dsub = codebook.codebooks.shape
    quantizer = faiss.ProductQuantizer(M * dsub, M, codebook.nbits)
    fill_product_quantizer(quantizer, codebook)
    return quantizer


def fill_product_quantizer(quantizer: Any, codebook: ProductCodebook) -> None:
    """Copy the centroids into a product quantizer (an index's own) of the same M, ksub and dsub."""
    centroids = np.ascontiguousarray(codebook.codebooks).reshape(-1)
    faiss_module().copy_array_to_vector(centroids, quantizer.centroids)


def from_product_quantizer(quantizer: Any, dim: int | None = None) -> ProductCodebook:
    """Return a product quantizer's codebook; if ``dim`` is given, dimensions from there on are padding.

    Raises
    ------
    ParameterError
        The codes have neither 4 nor 8 bits.

    """
    if quantizer.nbits not in (4, 8):
        raise ParameterError(f"a product quantizer of {quantizer.nbits} bits; annvq has 4 and 8")
    centroids = faiss_module().vector_to_array(quantizer.centroids)
    codebooks = centroids.reshape(quantizer.M, quantizer.ksub, quantizer.dsub)
    return ProductCodebook.from_arrays(
        {"dim": int(quantizer.d) if dim is None else dim, "anisotropic_eta": None}, {"codebooks": codebooks}
    )


def to_linear_transform(matrix: np.ndarray) -> Any:
    """Return a `faiss.LinearTransform` that multiplies by ``matrix`` (d_out, d) float32."""
    faiss = faiss_module()
    d_out, d = matrix.shape
    transform = faiss.LinearTransform(d, d_out, False)
    faiss.copy_array_to_vector(np.ascontiguousarray(matrix, np.float32).reshape(-1), transform.A)
    transform.is_trained = True
    transform.set_is_orthonormal()
    return transform


def linear_matrix(transform: Any) -> np.ndarray:
    """Return the matrix (d_out, d) float32 of a linear transform: a rotation, or a projection to fewer dimensions.

    Raises
    ------
    ParameterError
        It adds a bias, as `PCAMatrix` does, or is not orthonormal.

    """
    if transform.have_bias and np.any(faiss_module().vector_to_array(transform.b)):
        raise ParameterError("a linear transform that adds a bias; annvq has rotations and projections only")
    matrix = faiss_module().vector_to_array(transform.A).reshape(transform.d_out, transform.d_in)
    try:
        return Rotation.from_arrays({}, {"matrix": matrix}).matrix
    except CorruptIndexError as error:
        size = f"from {transform.d_in} to {transform.d_out} dimensions"
        raise ParameterError(f"a linear transform {size} that is not orthonormal; annvq has no others") from error


def to_rotation_transform(rotation: Rotation) -> Any:
    """Return a `faiss.LinearTransform` of the same matrix."""
    return to_linear_transform(rotation.matrix)


def from_rotation_transform(transform: Any) -> Rotation:
    """Return an `OPQMatrix`, `RandomRotationMatrix` or other linear transform as a rotation (ParameterError)."""
    return Rotation.from_arrays({}, {"matrix": linear_matrix(transform)})


def to_scalar_quantizer(codebook: ScalarCodebook) -> Any:
    """Return a `faiss.ScalarQuantizer` that decodes codes to the same vectors (up to rounding)."""
    faiss = faiss_module()
    quantizer = faiss.ScalarQuantizer(codebook.dim, scalar_type(codebook.kind))
    fill_scalar_quantizer(quantizer, codebook)
    return quantizer


def scalar_type(kind: str) -> int:
    """Return Faiss's number of a scalar codebook's kind: "sq8", "sq4" or "fp16"."""
    quantizer = faiss_module().ScalarQuantizer
    return {"sq8": quantizer.QT_8bit, "sq4": quantizer.QT_4bit, "fp16": quantizer.QT_fp16}[kind]


def fill_scalar_quantizer(quantizer: Any, codebook: ScalarCodebook) -> None:
    """Copy the ranges into a scalar quantizer (an index's own) of the same type and dimension."""
    if codebook.kind == "fp16":
        return
    step = codebook.step.astype(np.float64)
    lowest, width = codebook.minimum - step / 2, step * (_LEVELS[codebook.kind] - 1)
    trained = np.concatenate([lowest, width]).astype(np.float32)
    faiss_module().copy_array_to_vector(trained, quantizer.trained)


def from_scalar_quantizer(quantizer: Any) -> ScalarCodebook:
    """Return a scalar quantizer's codebook.

    Raises
    ------
    ParameterError
        The type is not QT_8bit, QT_8bit_uniform, QT_4bit, QT_4bit_uniform or QT_fp16.

    """
    types = faiss_module().ScalarQuantizer
    d = quantizer.d
    if quantizer.qtype == types.QT_fp16:
        return ScalarCodebook("fp16", np.zeros(d, np.float32), np.ones(d, np.float32))
    kinds = {types.QT_8bit: "sq8", types.QT_8bit_uniform: "sq8", types.QT_4bit: "sq4", types.QT_4bit_uniform: "sq4"}
    kind = kinds.get(quantizer.qtype)
    if kind is None:
        raise ParameterError(f"a scalar quantizer of type {quantizer.qtype}; annvq has 8 bits, 4 bits and float16")
    trained = faiss_module().vector_to_array(quantizer.trained).astype(np.float64)
    lowest, width = (np.broadcast_to(part, d) for part in np.split(trained, 2))
    step = width / (_LEVELS[kind] - 1)
    arrays = {"minimum": (lowest + step / 2).astype(np.float32), "step": step.astype(np.float32)}
    return ScalarCodebook.from_arrays({"kind": kind}, arrays)


def to_centroid_index(kmeans: KMeans) -> Any:
    """Return a `faiss.IndexFlat` that assigns vectors as the k-means does, for use as a coarse quantizer."""
    faiss = faiss_module()
    kind = faiss.METRIC_L2 if kmeans.metric == "l2" else faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexFlat(kmeans.dim, kind)
    index.add(np.ascontiguousarray(kmeans.centroids))
    return index


def from_centroid_index(index: Any) -> KMeans:
    """Return the centroids of a coarse quantizer of any kind that can reconstruct them."""
    centroids = index.reconstruct_n(0, index.ntotal)
    metric = "l2" if index.metric_type == faiss_module().METRIC_L2 else "ip"
    return KMeans.from_arrays({"metric": metric}, {"centroids": centroids})
