"""Torch mirrors of an index's learned parts: codebooks, centroids, rotation; lossless to and from `annvq.codebooks`.

A mirror holds the same numbers as parameters, so that gradients can move them. Codes keep their meaning: what
is decoded here is what the index decodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.codebooks import ProductCodebook, ResidualCodebook, Rotation
from annvq.codebooks.product import encode_nearest
from annvq.errors import ParameterError
from annvq.kernels.codes.encode import product_sites
from annvq.learn.codes.deciding import least_distance
from annvq.learn.runtime import torch

if TYPE_CHECKING:
    from torch import Tensor


def tensor_of(array: np.ndarray) -> Tensor:
    """Return a copy of an array on torch's default device, where new parameters are made."""
    return torch.from_numpy(np.array(array)).to(torch.get_default_device())


def _parameter(array: np.ndarray) -> Any:
    return torch.nn.Parameter(tensor_of(np.asarray(array, np.float32)))


def _array(tensor: Tensor) -> np.ndarray:
    """Return a read-only float32 copy of a tensor."""
    array = tensor.detach().to("cpu", torch.float32).numpy().copy()
    array.flags.writeable = False
    return array


# an operator, so that whatever traces or compiles a model calls it as a black box
@torch.library.custom_op("annvq::nearest_codes", mutates_args=(), device_types="cpu")
def nearest_codes(vectors: torch.Tensor, codebooks: torch.Tensor) -> torch.Tensor:
    """Return the codes (n, M) int64 of the nearest of centroids (M, ksub, dsub) to vectors (n, d), both float32."""
    centroids = _array(codebooks)
    codes = encode_nearest(_array(vectors), centroids, product_sites(centroids), torch.get_num_threads())
    return torch.from_numpy(codes).long()


@torch.library.register_fake("annvq::nearest_codes")
def _(vectors: torch.Tensor, codebooks: torch.Tensor) -> torch.Tensor:
    return vectors.new_empty(vectors.shape[0], codebooks.shape[0], dtype=torch.int64)


class ProductMirror(torch.nn.Module):
    """A `ProductCodebook`: ``codebooks`` (M, ksub, dsub) are the parameter."""

    def __init__(self, codebook: ProductCodebook) -> None:
        super().__init__()
        self.dim = codebook.dim
        self._eta = codebook.anisotropic_eta
        self.codebooks = _parameter(codebook.codebooks)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the vectors (n, dim) that codes (n, M) stand for."""
        M, _, dsub = self.codebooks.shape
        columns = torch.arange(M, device=codes.device)
        return self.codebooks[columns, codes.long()].reshape(len(codes), M * dsub)[:, : self.dim]

    def distances(self, vectors: Tensor) -> Tensor:
        """Return squared distances (n, M, ksub) of the sub-vectors of (n, dim) from all centroids."""
        shift = self.codebooks.detach().mean(1)  # far from the origin, digits would be lost
        parts, codebooks = self.parts(vectors) - shift, self.codebooks - shift[:, None]
        products = torch.einsum("nmd,mkd->nmk", parts, codebooks)
        return parts.square().sum(2, keepdim=True) - 2 * products + codebooks.square().sum(2)

    def parts(self, vectors: Tensor) -> Tensor:
        """Return the sub-vectors (n, M, dsub) of (n, dim)."""
        M, _, dsub = self.codebooks.shape
        return torch.nn.functional.pad(vectors, (0, M * dsub - self.dim)).reshape(len(vectors), M, dsub)

    @torch.no_grad()
    def nearest(self, vectors: Tensor, ksub: int | None = None) -> Tensor:
        """Return the codes (n, M) of the nearest centroids of (n, dim), or of the first ``ksub`` of each sub-space.

        If the library's kernel can read the vectors (float32 on the CPU), it finds the codes, as it does for an index.
        """
        codebooks = self.codebooks[:, :ksub]
        if vectors.device.type == "cpu" and vectors.dtype == codebooks.dtype == torch.float32:
            return nearest_codes(vectors, codebooks)
        parts = self.parts(vectors.to(codebooks.dtype)).transpose(0, 1)
        return least_distance(parts, codebooks).T

    def mix(self, weights: Tensor) -> Tensor:
        """Return the vectors (n, dim) that weights (n, M, ksub) of the centroids make; one-hot rows decode."""
        M, _, dsub = self.codebooks.shape
        return torch.einsum("nmk,mkd->nmd", weights, self.codebooks).reshape(-1, M * dsub)[:, : self.dim]

    def to_codebook(self) -> ProductCodebook:
        """Return the codebook as it stands."""
        return ProductCodebook(_array(self.codebooks), self.dim, self._eta)


class ResidualMirror(torch.nn.Module):
    """A `ResidualCodebook`: ``codebooks`` (M, ksub, d) are the parameter, and a vector is a sum of M rows."""

    def __init__(self, codebook: ResidualCodebook) -> None:
        super().__init__()
        self.dim = codebook.dim
        self._beam = codebook.beam
        self.codebooks = _parameter(codebook.codebooks)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the vectors (n, d) that codes (n, M) stand for."""
        columns = torch.arange(len(self.codebooks), device=codes.device)
        return self.codebooks[columns, codes.long()].sum(1)

    def to_codebook(self) -> ResidualCodebook:
        """Return the codebook as it stands."""
        return ResidualCodebook(_array(self.codebooks), self._beam)


class CentroidsMirror(torch.nn.Module):
    """The lists' centroids (nlist, d)."""

    def __init__(self, centroids: np.ndarray) -> None:
        super().__init__()
        self.centroids = _parameter(centroids)

    def decode(self, labels: Tensor) -> Tensor:
        """Return the centroids (n, d) of lists (n,)."""
        return self.centroids[labels.long()]

    def to_centroids(self) -> np.ndarray:
        """Return the centroids as they stand, (nlist, d) float32."""
        return _array(self.centroids)


class RotationMirror(torch.nn.Module):
    """A `Rotation`, moved by ``skew``: R = exp(A - A^T) R0 stays orthonormal whatever A is.

    A rotation to more or fewer dimensions has no ``skew`` and stays as it is.
    """

    def __init__(self, rotation: Rotation) -> None:
        super().__init__()
        self._start: Tensor
        self.register_buffer("_start", tensor_of(np.asarray(rotation.matrix, np.float32)))
        self.skew = torch.nn.Parameter(torch.zeros_like(self._start)) if rotation.dim == rotation.dim_out else None

    @property
    def matrix(self) -> Tensor:
        """The rotation (dim_out, d)."""
        if self.skew is None or not (self.skew.requires_grad or self.skew.any()):
            return self._start
        return torch.linalg.matrix_exp(self.skew - self.skew.T) @ self._start

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the rotated vectors (n, dim_out)."""
        return vectors @ self.matrix.T

    def to_rotation(self) -> Rotation:
        """Return the rotation as it stands, orthonormal to float32's last digits."""
        if self.skew is None or not self.skew.any():
            return Rotation(_array(self._start))
        u, _, vt = np.linalg.svd(_array(self.matrix).astype(np.float64))
        return Rotation((u @ vt).astype(np.float32))


def mirror_of(codebook: Any) -> ProductMirror | ResidualMirror:
    """Return the mirror of a codebook; ParameterError if it has none."""
    if isinstance(codebook, ProductCodebook):
        return ProductMirror(codebook)
    if isinstance(codebook, ResidualCodebook):
        return ResidualMirror(codebook)
    kind = type(codebook).__name__
    raise ParameterError(f"{kind} cannot be trained; expected a ProductCodebook or a ResidualCodebook")
