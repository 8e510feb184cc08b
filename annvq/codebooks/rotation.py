"""Rotations before coding: random, or learned with a product codebook (OPQ)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from annvq.codebooks.arrays import as_rows, frozen, stored_array, training_rows
from annvq.codebooks.product import encode_nearest, start_codebooks, train_codebooks
from annvq.errors import CorruptIndexError, ParameterError
from annvq.kernels import gemm
from annvq.kernels import threads as pool
from annvq.kernels.encode import product_decode, product_sites
from annvq.kernels.tiles import readonly

SAMPLE = 32_768
_USUAL = 32  # exponent up to which squares of numbers are far from the ends of float32
_ORTHONORMAL = 1e-3  # largest error of a stored matrix's products


@dataclass(frozen=True, eq=False)
class Rotation:
    """An orthonormal map of vectors of dimension d to d_out >= d.

    Parameters
    ----------
    matrix
        (d_out, d) float32 with orthonormal columns: norms and inner products stay as they are.

    """

    matrix: np.ndarray

    @classmethod
    def random(cls, d: int, seed: int = 0) -> Rotation:
        """Return a random rotation (d, d), uniformly distributed."""
        if d < 1:
            raise ParameterError(f"a rotation needs a dimension of at least 1, not {d}")
        return cls(frozen(_random(d, d, np.random.default_rng(seed))))

    @classmethod
    def opq(
        cls,
        vectors: Any,
        M: int,
        *,
        nbits: int = 8,
        niter: int = 20,
        sample: int = SAMPLE,
        seed: int = 0,
        threads: int | None = None,
    ) -> Rotation:
        """Learn the rotation under which a product codebook errs least (Ge et al. 2013, section 3.1).

        It starts from principal components, dealt out so that the sub-spaces' variances have about the same
        product (section 3.2); then codes and centroids for the rotation, and the rotation for the codes
        (an orthogonal Procrustes problem), are improved in turn.

        Parameters
        ----------
        vectors
            (n, d), n >= 1.
        M
            Number of sub-spaces, 1 to d. d_out is M * ceil(d / M).
        nbits
            4 or 8.
        niter
            Alternations.
        sample
            Train on at most so many vectors, drawn at random.
        seed
            Of sample and start.
        threads
            None for all CPUs.

        """
        rng, count = np.random.default_rng(seed), pool.resolve(threads)
        rows = training_rows(vectors, sample, rng)
        d = rows.shape[1]
        if not 1 <= M <= d:
            raise ParameterError(f"M must be 1 to the dimension {d}, not {M}")
        if nbits not in (4, 8):
            raise ParameterError(f"nbits must be 4 or 8, not {nbits}")
        rows = _near_one(rows)
        matrix = _allocate(rows, M)
        rotated = _apply(rows, matrix, count)
        codebooks = train_codebooks(rotated, start_codebooks(rotated, M, 1 << nbits, rng), 8, count)
        for _ in range(niter):
            matrix = _procrustes(rows, _decoded(rotated, codebooks, count))
            rotated = _apply(rows, matrix, count)
            codebooks = train_codebooks(rotated, codebooks, 2, count)
        return cls(frozen(matrix))

    @property
    def dim(self) -> int:
        """Dimension d of the vectors."""
        return self.matrix.shape[1]

    @property
    def dim_out(self) -> int:
        """Dimension of the rotated vectors."""
        return self.matrix.shape[0]

    @cached_property
    def _panels(self) -> tuple[np.ndarray, np.ndarray]:
        return gemm.pack(self.matrix), gemm.pack(np.ascontiguousarray(self.matrix.T))

    def apply(self, vectors: Any, *, threads: int | None = None) -> np.ndarray:
        """Return the rotated vectors (n, d_out) float32.

        Each number is summed in the order of the dimensions: a vector's rotation does not depend on what
        else is rotated with it, nor on the threads.
        """
        rows, count = as_rows(vectors, self.dim), pool.resolve(threads)
        return gemm.products(rows, self._panels[0], self.dim_out, threads=count)

    def inverse(self, vectors: Any, *, threads: int | None = None) -> np.ndarray:
        """Return vectors (n, d) float32 whose rotation is nearest to the given (n, d_out)."""
        rows, count = as_rows(vectors, self.dim_out), pool.resolve(threads)
        return gemm.products(rows, self._panels[1], self.dim, threads=count)

    def config(self) -> dict[str, Any]:
        """Return what is not an array: nothing."""
        return {}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {"matrix": self.matrix}

    @classmethod
    def from_arrays(cls, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> Rotation:
        """Build from `config` and `arrays`; CorruptIndexError where the matrix is not orthonormal."""
        matrix = stored_array(arrays, "matrix", (None, None))
        if matrix.shape[0] < matrix.shape[1]:
            raise CorruptIndexError(f"a rotation of shape {matrix.shape} loses dimensions")
        with np.errstate(over="ignore", invalid="ignore"):
            error = np.abs(matrix.T @ matrix - np.eye(matrix.shape[1])).max()
        if not error <= _ORTHONORMAL:  # NaN where products overflow
            raise CorruptIndexError("a rotation whose columns are not orthonormal")
        return cls(matrix)


def _near_one(rows: np.ndarray) -> np.ndarray:
    """Return the rows, times a power of two if they are very large or small: sums of squares stay in range."""
    exponent = math.frexp(float(np.abs(rows).max()))[1]
    return rows if abs(exponent) < _USUAL else np.ldexp(rows, -exponent)


def _random(d_out: int, d: int, rng: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(rng.standard_normal((d_out, d)))
    return q * np.where(np.diag(r) < 0, -1.0, 1.0)  # without the signs it would not be uniform


def _apply(rows: np.ndarray, matrix: np.ndarray, threads: int) -> np.ndarray:
    return gemm.products(rows, gemm.pack(matrix), len(matrix), threads=threads)


def _allocate(rows: np.ndarray, M: int) -> np.ndarray:
    """Return (M * dsub, d) float32: principal components, dealt to M sub-spaces (Ge et al. 2013, 3.2.1)."""
    d = rows.shape[1]
    dsub = -(-d // M)
    variances, components = np.linalg.eigh(np.cov(rows, rowvar=False, bias=True).reshape(d, d))
    logs = np.log(np.maximum(variances, 1e-10 * max(float(variances[-1]), 1e-30)))
    logs -= logs.min()  # a sub-space's sum grows with every component
    matrix = np.zeros((M, dsub, d))
    sums, used = np.zeros(M), np.zeros(M, np.int64)
    for component in range(d - 1, -1, -1):  # eigh orders them ascending
        m = int(np.argmin(np.where(used < dsub, sums, np.inf)))
        matrix[m, used[m]] = components[:, component]
        sums[m] += logs[component]
        used[m] += 1
    return matrix.reshape(M * dsub, d).astype(np.float32)


def _decoded(rotated: np.ndarray, codebooks: np.ndarray, threads: int) -> np.ndarray:
    codes = encode_nearest(rotated, codebooks, product_sites(codebooks), threads)
    decoded = np.empty(rotated.shape, np.float32)
    product_decode(readonly(codes), readonly(codebooks), decoded)
    return decoded


def _procrustes(rows: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """Return the orthonormal (d_out, d) matrix R that brings R x nearest to the decoded vectors."""
    u, _, vt = np.linalg.svd(decoded.T @ rows, full_matrices=False)
    return np.ascontiguousarray(u @ vt, np.float32)
