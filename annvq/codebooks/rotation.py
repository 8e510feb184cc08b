"""Rotations before coding: random, learned with a product codebook (OPQ), or to principal components."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from annvq.arguments import as_count, as_flag, as_function, as_number
from annvq.codebooks.accelerator import in_place_of_cpu
from annvq.codebooks.arrays import (
    as_niter,
    as_rows,
    finite,
    frozen,
    generator,
    part,
    raw_rows,
    stored_array,
    training_rows,
    workers,
)
from annvq.codebooks.blas import one_blas_thread
from annvq.codebooks.product import as_M, as_nbits, encode_nearest, start_codebooks, train_codebooks
from annvq.errors import CorruptIndexError, ParameterError
from annvq.kernels import threads as pool
from annvq.kernels.codes.encode import product_decode, product_sites
from annvq.kernels.registers.tiles import readonly
from annvq.kernels.vectors import bytematrix, bytetiles, gemm

OPQ_ITERATIONS = 20  # by default
SAMPLE = 32_768
_LEAST, _PER_DIMENSION = 16_384, 16  # vectors from which principal components are learned
_USUAL = 32  # exponent up to which squares of numbers are far from the ends of float32
_LARGEST_DIM = 65_536  # of a random rotation
_ROWS_A_TASK = 1024
_SQUARED = 1024  # rows whose products are summed in float32
_STEP = 16  # of numbers of components: whole registers
_ORTHONORMAL = 1e-3  # largest error of a stored matrix's products
_NEARLY = 2e-2  # of a projection's, which is rounded to bfloat16


@dataclass(frozen=True, eq=False)
class Rotation:
    """An orthonormal map of vectors of dimension d to d_out.

    Parameters
    ----------
    matrix
        (d_out, d) float32. If d_out >= d, its columns are orthonormal, so norms and inner products stay the
        same. If d_out < d, its rows are orthonormal: it projects on d_out directions.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError, ParameterError
        In the constructor and all methods: the matrix, vectors or arguments given do not fit.

    Examples
    --------
    >>> vectors = np.random.default_rng(0).normal(size=(1000, 32))
    >>> turn = annvq.codebooks.Rotation.random(32)
    >>> np.allclose(turn.inverse(turn.apply(vectors)), vectors, atol=1e-4)
    True
    >>> annvq.codebooks.Rotation.pca(vectors, keep=8).apply(vectors).shape
    (1000, 8)

    """

    matrix: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "matrix", part("matrix", self.matrix, 2))

    @classmethod
    def random(cls, d: int, seed: int = 0) -> Rotation:
        """Return a random rotation (d, d), uniformly distributed."""
        d = as_count("d", d, most=_LARGEST_DIM)
        return cls(frozen(_random(d, d, generator(seed))))

    @classmethod
    def truncation(cls, d: int, dims: int) -> Rotation:
        """Return the projection (dims, d) on the first ``dims`` dimensions."""
        d = as_count("d", d, most=_LARGEST_DIM)
        return cls(frozen(np.eye(as_count("dims", dims, most=d), d)))

    @classmethod
    def opq(
        cls,
        vectors: Any,
        M: int,
        *,
        nbits: int = 8,
        niter: int = OPQ_ITERATIONS,
        sample: int = SAMPLE,
        seed: int = 0,
        threads: int | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> Rotation:
        """Learn the rotation under which the error of a product codebook is least (Ge et al. 2013, section 3.1).

        Training starts from principal components, assigned so that the sub-spaces' variances have about the same
        product (section 3.2). Then codes and centroids are improved for the rotation, and the rotation for the codes
        (an orthogonal Procrustes problem), in turn.

        Parameters
        ----------
        vectors
            (n, d), n >= 1.
        M
            Number of sub-spaces, 1 to d. d_out is M * ceil(d / M).
        nbits
            4 or 8.
        niter
            Number of alternations.
        sample
            The maximum number of vectors to train on, drawn at random.
        seed
            The seed of sample and start.
        threads
            None for all CPUs.
        progress
            A function that is called with the number of alternations done.

        """
        rng, count = generator(seed), workers(threads)
        nbits, niter, progress = as_nbits(nbits), as_niter(niter), as_function("progress", progress)
        rows = training_rows(vectors, sample, rng)
        M = as_M(M, rows.shape[1])
        rows = _near_one(rows)
        matrix = _deal(*_principal(_moments(rows)[1]), M)
        rotated = _apply(rows, matrix, count)
        codebooks = train_codebooks(rotated, start_codebooks(rotated, M, 1 << nbits, rng), 8, count)
        for done in range(niter):
            if progress is not None:
                progress(done)
            matrix = _procrustes(rows, _decoded(rotated, codebooks, count))
            rotated = _apply(rows, matrix, count)
            codebooks = train_codebooks(rotated, codebooks, 2, count)
        return cls(frozen(matrix))

    @classmethod
    def pca(
        cls,
        vectors: Any,
        keep: float,
        *,
        dsub: int = 2,
        keep_mean: bool = False,
        sample: int | None = None,
        seed: int = 0,
    ) -> Rotation:
        """Learn the projection on the principal components that hold most of the variance.

        The matrix of a projection is rounded to bfloat16, because every query reads all of it.

        Parameters
        ----------
        vectors
            (n, d), n >= 1.
        keep
            The number of components, 1 to d; or, below 1, the least share of the variance that they must hold.
            The number that a share needs is rounded up to a multiple of 16, as far as there are dimensions; with
            ``keep_mean`` it is first multiplied by |mean|^2 / variance if that is above 1, since errors of more codes
            along a large mean even out.
        dsub
            Dimensions per sub-space of the product codebook that will code them: components are assigned
            so that the sub-spaces' variances have about the same product (Ge et al. 2013, section 3.2.1),
            and zeros fill the last sub-spaces.
        keep_mean
            Whether the mean's direction is kept too, and spread evenly over all sub-spaces. This is for inner products:
            for queries that share a large mean, differences along it matter much though they hold little of the
            variance, and errors of one code along it would weigh as much as all others together. Not with ``keep`` 1.
        sample
            The maximum number of vectors to learn from, drawn at random. None: 16 d, but at least 16,384 and at most
            32,768.
        seed
            The seed of the sample.

        Raises
        ------
        ParameterError
            An argument is outside its range.

        """
        dsub, keep_mean = as_count("dsub", dsub), as_flag("keep_mean", keep_mean)
        raw = raw_rows(vectors)
        d = raw.shape[1]
        most = min(max(_LEAST, _PER_DIMENSION * d), SAMPLE) if sample is None else sample
        rows = _near_one(training_rows(raw, most, generator(seed)))
        if as_number("keep", keep, above=0) > d:
            raise ParameterError(f"keep must be 1 to the dimension {d}, or a share below 1, not {keep}")
        mean, covariances = _moments(rows)
        with_mean = keep_mean and keep != 1
        variances, components = _principal_and_mean(mean, covariances) if with_mean else _principal(covariances)
        if keep >= 1:
            dims = int(keep)
        else:
            dims = _dims_for(variances, keep, _mean_over_variance(mean, covariances) if keep_mean else 0.0)
        matrix = _deal(variances[-dims:], components[:, -dims:], -(-dims // dsub))
        if with_mean:
            matrix = _evenly(matrix, components[:, -1])
        return cls(frozen(gemm.to_bfloat16(matrix) if len(matrix) < d else matrix))

    @property
    def dim(self) -> int:
        """Dimension d of the vectors."""
        return self.matrix.shape[1]

    @property
    def dim_out(self) -> int:
        """Dimension of the rotated vectors."""
        return self.matrix.shape[0]

    @cached_property
    def panels(self) -> np.ndarray:
        """The matrix in the layout by which `annvq.kernels.vectors.gemm` multiplies."""
        return gemm.pack(self.matrix, halved=gemm.is_bfloat16(self.matrix))

    @cached_property
    def _inverse_panels(self) -> np.ndarray:
        return gemm.pack(np.ascontiguousarray(self.matrix.T))

    def apply(self, vectors: Any, *, threads: int | None = None) -> np.ndarray:
        """Return the rotated vectors (n, d_out) float32.

        Each number is summed in the order of the dimensions, so a vector's rotation depends neither on the other
        vectors nor on the number of threads.
        """
        rows, count = as_rows(vectors, self.dim), workers(threads)
        accelerator = in_place_of_cpu()
        if accelerator is not None:
            return finite(accelerator.products(rows, self.matrix), "rotated vectors")
        return finite(gemm.products(rows, self.panels, self.dim_out, threads=count), "rotated vectors")

    def inverse(self, vectors: Any, *, threads: int | None = None) -> np.ndarray:
        """Return the vectors (n, d) float32 whose rotation is nearest to the given ones (n, d_out)."""
        rows, count = as_rows(vectors, self.dim_out), workers(threads)
        return finite(gemm.products(rows, self._inverse_panels, self.dim, threads=count), "rotated vectors")

    def config(self) -> dict[str, Any]:
        """Return the settings, of which a rotation has none."""
        return {}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {"matrix": self.matrix}

    @classmethod
    def from_arrays(cls, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> Rotation:
        """Build from `config` and `arrays`; CorruptIndexError if the matrix is not orthonormal."""
        matrix = stored_array(arrays, "matrix", (None, None))
        if matrix.size == 0:
            raise CorruptIndexError(f"a rotation of shape {matrix.shape}")
        most = _ORTHONORMAL if matrix.shape[0] >= matrix.shape[1] else _NEARLY
        with np.errstate(over="ignore", invalid="ignore"):
            if matrix.shape[0] >= matrix.shape[1]:
                error = np.abs(matrix.T @ matrix - np.eye(matrix.shape[1])).max()
            else:
                is_padding = ~matrix.any(axis=1)  # in a sub-space with fewer components than others
                error = np.abs(matrix @ matrix.T - np.diag(np.where(is_padding, 0, 1))).max()
        if not error <= most:  # NaN if products overflow
            raise CorruptIndexError("a rotation that is not orthonormal")
        return cls(matrix)


class ByteRotation:
    """A rotation of vectors in bytes, which takes a third of the time; it is made once, for all vectors to come.

    What is rounded to bytes are the differences of the vectors from ``mean`` (d,) float32.
    """

    def __init__(self, rotation: Rotation, mean: np.ndarray) -> None:
        self.width, self.mean = rotation.dim_out, readonly(mean)
        columns = np.zeros((rotation.dim, -(-self.width // bytetiles.COLUMNS) * bytetiles.COLUMNS), np.float32)
        columns[:, : self.width] = rotation.matrix.T
        adds = np.zeros(columns.shape[1], np.float32)
        adds[: self.width] = rotation.apply(mean[None])[0]
        self.matrix = bytematrix.pack(columns, adds)

    def apply(self, vectors: np.ndarray, threads: int) -> np.ndarray:
        """Return about what `Rotation.apply` does, of finite float32 vectors (n, d).

        A vector's rotation depends neither on the other vectors nor on the number of threads.
        """
        accelerator = in_place_of_cpu()
        if accelerator is not None:
            return accelerator.products_of_bytes(vectors, self.mean, self.matrix, self.width)
        rotated = np.empty((len(vectors), self.width), np.float32)

        def fill(part: slice) -> None:
            bytetiles.fill_many_products(readonly(vectors[part]), self.mean, self.matrix, rotated[part])

        pool.run(fill, pool.slices(len(rotated), -(-len(rotated) // _ROWS_A_TASK)), threads)
        return rotated


def _near_one(rows: np.ndarray) -> np.ndarray:
    """Return the rows, scaled by a power of two if they are very large or small; sums of squares stay in range."""
    exponent = math.frexp(float(np.abs(rows).max()))[1]
    return rows if abs(exponent) < _USUAL else np.ldexp(rows, -exponent)


def _random(d_out: int, d: int, rng: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(rng.standard_normal((d_out, d)))
    return q * np.where(np.diag(r) < 0, -1.0, 1.0)  # without the signs it would not be uniform


def _apply(rows: np.ndarray, matrix: np.ndarray, threads: int) -> np.ndarray:
    accelerator = in_place_of_cpu()
    if accelerator is not None:
        return accelerator.products(rows, matrix)
    return gemm.products(rows, gemm.pack(matrix), len(matrix), threads=threads)


def _moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (d,) and the covariances (d, d) of rows (n, d) float32, both float64."""
    mean = rows.mean(axis=0, dtype=np.float64)
    squares = np.zeros((rows.shape[1], rows.shape[1]))
    with one_blas_thread():
        for start in range(0, len(rows), _SQUARED):
            some = (rows[start : start + _SQUARED] - mean).astype(np.float32)
            squares += some.T @ some
    return mean, squares / len(rows)


def _principal(covariances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the variances (d,), ascending, and the components (d, d), one per column, of covariances (d, d)."""
    with one_blas_thread():
        return np.linalg.eigh(covariances)


def _principal_and_mean(mean: np.ndarray, covariances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Do what `_principal` does, but put the direction of the mean (d,) last, as if it varied most."""
    length = np.linalg.norm(mean)
    if length == 0:
        return _principal(covariances)
    direction = mean / length
    mirror = direction.copy()  # of the reflection that makes the direction the first axis, and so leaves d - 1 others
    mirror[0] += np.copysign(1.0, direction[0])
    factor = 2 / (mirror @ mirror)
    moved = factor * (covariances @ mirror)
    moved -= 0.5 * factor * (moved @ mirror) * mirror
    reflected = covariances - np.outer(mirror, moved) - np.outer(moved, mirror)
    variances, components = _principal(reflected[1:, 1:])
    basis = np.zeros_like(covariances)
    basis[1:, :-1] = components
    basis -= np.outer(mirror, factor * (mirror @ basis))
    basis[:, -1] = direction
    return np.append(variances, direction @ covariances @ direction), basis


def _evenly(matrix: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Return the rows (m, d), turned so that all have the same product with ``direction`` (d,), which they span.

    A reflection turns them, which changes the rows only a little if there are many of them.
    """
    used = np.flatnonzero(matrix.any(axis=1))
    rows = matrix[used].astype(np.float64)
    along = rows @ direction
    mirror = along - np.linalg.norm(along) / np.sqrt(len(used))
    squared = mirror @ mirror
    if squared > 0:
        rows -= np.outer(mirror, mirror @ rows) * (2 / squared)
    turned = np.zeros_like(matrix)
    turned[used] = rows
    return turned


def _mean_over_variance(mean: np.ndarray, covariances: np.ndarray) -> float:
    variance = covariances.trace()
    return float(mean @ mean / variance) if variance > 0 else 0.0


def _dims_for(variances: np.ndarray, share: float, factor: float) -> int:
    """Return how many of the largest variances (d,), given ascending, hold a share of their sum; times a factor."""
    held = np.cumsum(np.maximum(variances[::-1], 0))
    dims = (int(np.searchsorted(held, share * held[-1])) + 1) * min(max(factor, 1.0), len(variances))
    return min(len(variances), math.ceil(dims / _STEP) * _STEP)


def _deal(variances: np.ndarray, components: np.ndarray, M: int) -> np.ndarray:
    """Return (M * ceil(dims / M), d) float32: components assigned to M sub-spaces (Ge et al. 2013, section 3.2.1).

    ``variances (dims,)`` are ascending; the columns of ``components (d, dims)`` belong to them.
    """
    dims = len(variances)
    dsub = -(-dims // M)
    logs = np.log(np.maximum(variances, 1e-10 * max(float(variances[-1]), 1e-30)))
    logs -= logs.min()  # a sub-space's sum grows with every component
    matrix = np.zeros((M, dsub, len(components)))
    sums, used = np.zeros(M), np.zeros(M, np.int64)
    for component in range(dims - 1, -1, -1):
        m = int(np.argmin(np.where(used < dsub, sums, np.inf)))
        matrix[m, used[m]] = components[:, component]
        sums[m] += logs[component]
        used[m] += 1
    return matrix.reshape(M * dsub, -1).astype(np.float32)


def _decoded(rotated: np.ndarray, codebooks: np.ndarray, threads: int) -> np.ndarray:
    codes = encode_nearest(rotated, codebooks, product_sites(codebooks), threads)
    decoded = np.empty(rotated.shape, np.float32)
    product_decode(readonly(codes), readonly(codebooks), decoded)
    return decoded


def _procrustes(rows: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """Return the orthonormal (d_out, d) matrix R that brings R x nearest to the decoded vectors."""
    with one_blas_thread():
        u, _, vt = np.linalg.svd(decoded.T @ rows, full_matrices=False)
    return np.ascontiguousarray(u @ vt, np.float32)
