"""Residual vector quantization (Chen et al. 2010): stage after stage codes what is left."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from annvq.codebooks.arrays import as_rows, frozen, stored_array, stored_int, training_rows
from annvq.codebooks.kmeans import KMeans
from annvq.codebooks.tables import check_metric, constants_of_rows
from annvq.errors import CorruptIndexError, ParameterError
from annvq.kernels import gemm
from annvq.kernels import threads as pool
from annvq.kernels.beam import beam_encode
from annvq.kernels.encode import residual_decode
from annvq.kernels.tiles import LANES, aligned, readonly

SAMPLE = 65_536
MOST_BEAM = 16
_ROWS_A_TASK = 256


@dataclass(frozen=True, eq=False)
class ResidualCodebook:
    """M codebooks of 16 or 256 centroids of full dimension, whose sum stands for a vector.

    Parameters
    ----------
    codebooks
        (M, ksub, d) float32.
    beam
        How many partial codes `encode` keeps after every stage, 1 to 16: more find smaller errors, in
        proportionally more time.

    """

    codebooks: np.ndarray
    beam: int = 4

    @classmethod
    def train(
        cls,
        vectors: Any,
        *,
        M: int,
        nbits: int = 8,
        niter: int = 10,
        beam: int = 4,
        sample: int = SAMPLE,
        seed: int = 0,
        threads: int | None = None,
    ) -> ResidualCodebook:
        """Run k-means on the vectors, then on the residuals of the nearest centroids, M times in all.

        Residuals of a beam search instead make codebooks hardly better, and training quadratic in M.

        Parameters
        ----------
        vectors
            (n, d), n >= 1; with fewer than ksub vectors some centroids go unused.
        M
            Number of stages.
        nbits
            4 (16 centroids a stage) or 8 (256).
        niter
            Iterations of Lloyd's algorithm at most, in each stage.
        beam
            See the class; training does not depend on it.
        sample
            Train on at most so many vectors, drawn at random.
        seed
            Of sample and starts; the result depends on nothing else but the vectors.
        threads
            None for all CPUs.

        Raises
        ------
        ParameterError
            An argument outside its range, or no vectors.

        """
        _check(M, nbits, beam)
        rows = training_rows(vectors, sample, np.random.default_rng(seed))
        ksub = 1 << nbits
        codebooks = np.zeros((M, ksub, rows.shape[1]), np.float32)
        k, count = min(ksub, len(rows)), pool.resolve(threads)
        for m in range(M):
            stage = KMeans.train(rows, k, niter=niter, sample=len(rows), seed=seed + m, threads=count)
            codebooks[m, :k] = stage.centroids
            codebooks[m, k:] = stage.centroids[-1]
            rows = rows - stage.centroids[stage.assign(rows, threads=count)[0]]
        return cls(frozen(codebooks), beam)

    @property
    def dim(self) -> int:
        """Dimension d of the vectors."""
        return self.codebooks.shape[2]

    @property
    def M(self) -> int:
        """Number of stages, and of code columns."""
        return self.codebooks.shape[0]

    @property
    def ksub(self) -> int:
        """Centroids of each stage: 16 or 256."""
        return self.codebooks.shape[1]

    @property
    def nbits(self) -> int:
        """Bits of one code: 4 or 8."""
        return 4 if self.ksub == 16 else 8

    @property
    def code_bytes(self) -> int:
        """Bytes that a vector's packed code takes."""
        return -(-self.M * self.nbits // 8)

    @cached_property
    def _bias(self) -> np.ndarray:
        squares = np.square(self.codebooks, dtype=np.float64).sum(axis=2)
        return frozen(-0.5 * squares.ravel())

    @cached_property
    def _panels(self) -> np.ndarray:
        return gemm.pack(self.codebooks.reshape(-1, self.dim))

    def encode(self, vectors: Any, *, threads: int | None = None) -> np.ndarray:
        """Return the codes (n, M) uint8 of vectors (n, d); they do not depend on the threads."""
        rows, count = as_rows(vectors, self.dim), pool.resolve(threads)
        codes = np.empty((len(rows), self.M), np.uint8)

        def encode(part: slice) -> None:
            beam_encode(
                readonly(rows[part]), self.codebooks, self._bias, self.beam, aligned(self.dim * LANES),
                aligned(self.dim * LANES), aligned(self.ksub * LANES), codes[part],
            )  # fmt: skip

        pool.run(encode, pool.slices(len(rows), -(-len(rows) // _ROWS_A_TASK)), count)
        return codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Return the vectors (n, d) float32 that codes (n, M) uint8 stand for."""
        vectors = np.empty((len(codes), self.dim), np.float32)
        residual_decode(readonly(codes), self.codebooks, vectors)
        return vectors

    def lookup_tables(self, queries: np.ndarray, metric: str, *, residual: bool = False) -> np.ndarray:
        """Return tables (nq, M, ksub) float32 for queries (nq, d) float32.

        Entries are <q, c_mj> for "ip" and 2 <q, c_mj> for "l2", where `residual_constants` make up the
        rest, with or without lists.
        """
        scale = np.float32(2 if self.needs_constants(metric, residual) else 1)
        rows = np.ascontiguousarray(queries, np.float32) * scale  # doubles every sum exactly
        tables = gemm.products(rows, self._panels, self.M * self.ksub)
        return tables.reshape(-1, self.M, self.ksub)

    def needs_constants(self, metric: str, residual: bool) -> bool:
        """Return whether a score is base + tables + a constant per vector: always for "l2"."""
        return check_metric(metric) == "l2"

    def residual_constants(self, codes: np.ndarray, centroids: np.ndarray | None = None) -> np.ndarray:
        """Return -(|r|^2 + 2 <c, r>) (n,) float32 of decoded codes r and lists' centroids c (n, d) or 0."""
        return constants_of_rows(self.decode(codes), centroids)

    def config(self) -> dict[str, Any]:
        """Return what is not an array."""
        return {"beam": self.beam}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {"codebooks": self.codebooks}

    @classmethod
    def from_arrays(cls, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> ResidualCodebook:
        """Build from `config` and `arrays`; CorruptIndexError where they do not fit."""
        codebooks = stored_array(arrays, "codebooks", (None, None, None))
        if codebooks.shape[1] not in (16, 256):
            raise CorruptIndexError(f"a residual codebook has 16 or 256 centroids, not {codebooks.shape[1]}")
        return cls(codebooks, stored_int(config, "beam", 1, MOST_BEAM))


def _check(M: int, nbits: int, beam: int) -> None:
    if M < 1:
        raise ParameterError(f"M must be at least 1, not {M}")
    if nbits not in (4, 8):
        raise ParameterError(f"nbits must be 4 or 8, not {nbits}")
    if not 1 <= beam <= MOST_BEAM:
        raise ParameterError(f"beam must be 1 to {MOST_BEAM}, not {beam}")
