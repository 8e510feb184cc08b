"""The codebook of a graph: how a vector is coded relative to a near one, and how vectors themselves are kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from annvq.codebooks.arrays import frozen, generator, part, stored_array
from annvq.codebooks.blas import one_blas_thread
from annvq.codebooks.product import ProductCodebook
from annvq.codebooks.scalar import ScalarCodebook
from annvq.errors import CorruptIndexError, ShapeError
from annvq.kernels.clusters.assign import assign_many
from annvq.kernels.vectors import gemm

_DSUB = 2  # dimensions per code
_LEAST, _MOST = 2.0**-61, 2.0**62  # of lengths: their squares are far from the ends of float32
_QUERIES, _ROWS, _NEAR = 1024, 8192, 8  # vectors whose nearest neighbours among how many are coded to learn from them


@dataclass(frozen=True, eq=False)
class NeighborCodebook:
    """A projection, a product codebook of 4 bits for projected differences of length one, and that of whole vectors.

    Parameters
    ----------
    projection
        (D, d) float32: the principal components of differences between neighbours, turned at random, so that all of the
        codes have equally much to tell.
    product
        Of D dimensions and 4 bits: codes of the projection of x - c, divided by the length of x - c.
    weights
        (2,) float32: the product <q - c, x - c> is best estimated by how much of the estimate that its code gives, and
        how much of |x - c|^2 (`annvq.kernels.graph.coding`).
    scalar
        How vectors are kept in 8 bits per dimension, or None if they are kept as float16.
    centred
        Whether the mean is subtracted from queries before they are projected, because these lie where the vectors do.
        Where scores are inner products of vectors that differ in length, it is not: of a short query, nothing but the
        mean would be left.
    length
        How long queries are made to be, because all vectors have about this length, and that of a query does not matter
        under inner product. None where it matters, or all queries have the length of the vectors.

    """

    projection: np.ndarray
    product: ProductCodebook
    weights: np.ndarray
    scalar: ScalarCodebook | None = None
    centred: bool = True
    length: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "projection", part("projection", self.projection, 2))
        object.__setattr__(self, "weights", part("weights", self.weights, 1))
        width = self.projection.shape[0]
        if self.product.dim != width or self.product.nbits != 4:
            given = f"codes of {self.product.dim} dimensions and {self.product.nbits} bits"
            raise ShapeError(f"{given}, expected {width} dimensions and 4 bits")

    @classmethod
    def train(
        cls,
        vectors: np.ndarray,
        *,
        M: int,
        scalar: bool,
        centred: bool,
        length: float | None = None,
        seed: int,
        threads: int,
    ) -> NeighborCodebook:
        """Learn from vectors (n, d) float32, n >= 1: at most M codes per neighbour, of two dimensions each."""
        rng = generator(seed)
        d = vectors.shape[1]
        width = min(_DSUB * M, d)
        base = np.unique(vectors[:_ROWS], axis=0)  # equal vectors would be each other's neighbours
        few = base[rng.permutation(len(base))[:_QUERIES]]
        near = assign_many(few, base, metric="l2", n_best=min(_NEAR + 1, len(base)), threads=threads)[0]
        differences = base[near[:, 1:]] - few[:, None] if near.shape[1] > 1 else np.zeros((1, 1, d), np.float32)
        wide = differences.reshape(-1, d).astype(np.float64)
        with one_blas_thread():
            components = np.linalg.eigh(wide.T @ wide)[1][:, ::-1][:, :width]
            turn = np.linalg.qr(rng.standard_normal((width, width)))[0]
            projection = np.ascontiguousarray((components @ turn).T, np.float32)
        coded = gemm.products(differences.reshape(-1, d), gemm.pack(projection), width, threads=threads)
        lengths = np.linalg.norm(differences.reshape(-1, d), axis=1, keepdims=True)
        directions = np.divide(coded, lengths, out=np.zeros_like(coded), where=lengths > 0)
        product = ProductCodebook.train(directions, M=-(-width // _DSUB), nbits=4, seed=seed, threads=threads)
        decoded = product.decode_trusted(product.encode_trusted(directions, threads=threads))
        shape = (*differences.shape[:2], width)
        weights = _weights(differences, coded.reshape(shape), decoded.reshape(shape))
        levels = ScalarCodebook.train(vectors) if scalar else None
        return cls(frozen(projection), product, frozen(weights), levels, centred, length)

    @property
    def dim(self) -> int:
        """Dimension d of the vectors."""
        return self.projection.shape[1]

    @property
    def M(self) -> int:
        """Number of codes per neighbour."""
        return self.product.M

    @cached_property
    def _panels(self) -> np.ndarray:
        return gemm.pack(self.projection)

    def project(self, vectors: np.ndarray, threads: int) -> np.ndarray:
        """Return projected vectors (n, D) float32 of vectors (n, d) float32."""
        return gemm.products(vectors, self._panels, len(self.projection), threads=threads)

    def config(self) -> dict[str, Any]:
        """Return the settings, which are all that is not an array."""
        scalar = None if self.scalar is None else self.scalar.config()
        made = {"product": self.product.config(), "scalar": scalar, "centred": self.centred}
        return made if self.length is None else {**made, "length": self.length}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        parts = {"product": self.product, "scalar": self.scalar}
        held = {f"{name}.{key}": a for name, one in parts.items() if one is not None for key, a in one.arrays().items()}
        return {"projection": self.projection, "weights": self.weights, **held}

    @classmethod
    def from_arrays(cls, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> NeighborCodebook:
        """Build from `config` and `arrays`; CorruptIndexError if they do not fit."""

        def below(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
            settings = config.get(name)
            if not isinstance(settings, dict):
                raise CorruptIndexError(f"the settings of the part {name!r} of a codebook of neighbours are missing")
            return settings, {key[len(name) + 1 :]: a for key, a in arrays.items() if key.startswith(f"{name}.")}

        projection, weights = stored_array(arrays, "projection", (None, None)), stored_array(arrays, "weights", (2,))
        product = ProductCodebook.from_arrays(*below("product"))
        scalar = None if config.get("scalar") is None else ScalarCodebook.from_arrays(*below("scalar"))
        if projection.size == 0 or product.nbits != 4 or product.dim != len(projection):
            raise CorruptIndexError(f"a projection {projection.shape} with codes of {product.dim} dimensions")
        if scalar is not None and (scalar.kind != "sq8" or scalar.dim != projection.shape[1]):
            raise CorruptIndexError(f"a projection {projection.shape} with vectors kept as {scalar.kind}, {scalar.dim}")
        centred = config.get("centred", True)  # older files do not say so
        if not isinstance(centred, bool):
            raise CorruptIndexError(f"a codebook of neighbours is centred: {centred!r}, expected true or false")
        length = config.get("length")
        if length is not None and not (isinstance(length, float) and _LEAST < length < _MOST):
            raise CorruptIndexError(f"a codebook of neighbours makes queries {length!r} long")
        return cls(projection, product, weights, scalar, centred, length)


def _weights(differences: np.ndarray, projected: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """Return the weights with which products of differences are estimated best, (2,) float64.

    ``differences`` (m, near, d) are those of some neighbours from each of m vectors, ``projected`` (m, near, D) their
    projections, and ``decoded`` (m, near, D) what the codes of their projected directions stand for. The neighbours of
    a vector take the part of the query in turn.
    """
    differences, projected, decoded = (array.astype(np.float64) for array in (differences, projected, decoded))
    products = np.einsum("mid,mjd->mij", differences, differences)
    squares = np.einsum("mjd,mjd->mj", differences, differences)
    along = np.einsum("mjd,mjd->mj", projected, decoded)
    scales = np.divide(squares, along, out=np.zeros_like(squares), where=along > 0)
    estimates = np.einsum("mid,mjd->mij", projected, decoded) * scales[:, None]
    others = ~np.eye(differences.shape[1], dtype=bool)
    known = np.broadcast_to(squares[:, None], products.shape)[:, others]
    features = np.stack([estimates[:, others].ravel(), known.ravel()], axis=1)
    size = np.abs(features).max(axis=0, initial=0)
    if not (size > 0).all():  # there are no other neighbours, or all vectors are equal
        return np.array([1.0, 0.0])
    largest = size.max()
    return np.linalg.lstsq(features / largest, products[:, others].ravel() / largest, rcond=None)[0]
