"""Residual vector quantization (Chen et al. 2010), in which each stage codes what the stages before it left."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from annvq.arguments import as_count, as_flag
from annvq.codebooks.arrays import (
    as_codes,
    as_niter,
    as_rows,
    as_short_rows,
    finite,
    frozen,
    generator,
    part,
    stored_array,
    stored_int,
    training_rows,
    workers,
)
from annvq.codebooks.kmeans import KMeans
from annvq.codebooks.product import as_nbits, check_ksub
from annvq.codebooks.tables import as_centroids, check_metric, constants_of_rows
from annvq.errors import CorruptIndexError
from annvq.kernels import threads as pool
from annvq.kernels.codes.beam import beam_encode
from annvq.kernels.codes.encode import residual_decode
from annvq.kernels.registers.tiles import LANES, aligned, readonly
from annvq.kernels.vectors import gemm

SAMPLE = 65_536
MOST_BEAM = 16
MOST_STAGES = 4096
_ROWS_A_TASK = 256


@dataclass(frozen=True, eq=False)
class ResidualCodebook:
    """M codebooks of 16 or 256 centroids of full dimension, whose sum stands for a vector.

    Parameters
    ----------
    codebooks
        (M, ksub, d) float32.
    beam
        How many partial codes `encode` keeps after every stage, 1 to 16: more of them find smaller errors, in
        proportionally more time. Indexes encode with 5 unless their recipe has another number, since they encode a
        row once and search it often; tokenizers make codebooks with 1, which takes the codes that the tokenizer takes.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError, ParameterError
        In the constructor and all methods: the arrays, vectors, codes or arguments given do not fit; NonFiniteError
        also if sums or scores overflow. Methods named ``*_trusted`` check nothing.

    Examples
    --------
    >>> vectors = np.random.default_rng(0).normal(size=(1000, 32))
    >>> codebook = annvq.codebooks.ResidualCodebook.train(vectors, M=2, nbits=4)
    >>> codebook.encode(vectors).shape, codebook.code_bytes
    ((1000, 2), 1)

    """

    codebooks: np.ndarray
    beam: int = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "codebooks", part("codebooks", self.codebooks, 3))
        check_ksub(self.ksub)
        object.__setattr__(self, "beam", as_count("beam", self.beam, most=MOST_BEAM))

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

        Training on the residuals of a beam search would hardly improve the codebooks, and take time quadratic in M.

        Parameters
        ----------
        vectors
            (n, d), n >= 1; with fewer than ksub vectors some centroids go unused.
        M
            Number of stages, at most 4,096.
        nbits
            4 (16 centroids per stage) or 8 (256).
        niter
            The maximum number of iterations of Lloyd's algorithm in each stage.
        beam
            See the class; training does not depend on it.
        sample
            The maximum number of vectors to train on, drawn at random.
        seed
            The seed of sample and starts; the result depends on nothing else but the vectors.
        threads
            None for all CPUs.

        Raises
        ------
        ParameterError
            An argument is outside its range, or there are no vectors.

        """
        M, ksub, beam = as_count("M", M, most=MOST_STAGES), 1 << as_nbits(nbits), as_count("beam", beam, most=MOST_BEAM)
        niter, threads = as_niter(niter), workers(threads)
        rows = training_rows(vectors, sample, generator(seed))
        codebooks = np.zeros((M, ksub, rows.shape[1]), np.float32)
        k, count = min(ksub, len(rows)), threads
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
        """Number of stages, which is the number of code columns."""
        return self.codebooks.shape[0]

    @property
    def ksub(self) -> int:
        """Number of centroids per stage: 16 or 256."""
        return self.codebooks.shape[1]

    @property
    def nbits(self) -> int:
        """Number of bits per code: 4 or 8."""
        return 4 if self.ksub == 16 else 8

    @property
    def code_bytes(self) -> int:
        """Number of bytes that a vector's packed code takes."""
        return -(-self.M * self.nbits // 8)

    @cached_property
    def bias(self) -> np.ndarray:
        """Minus half the squared lengths of all entries, (M * ksub,) float32."""
        squares = np.square(self.codebooks, dtype=np.float64).sum(axis=2)
        return frozen(-0.5 * squares.ravel())

    @cached_property
    def _panels(self) -> np.ndarray:
        return gemm.pack(self.codebooks.reshape(-1, self.dim))

    def encode(self, vectors: Any, *, threads: int | None = None) -> np.ndarray:
        """Return the codes (n, M) uint8 of vectors (n, d); they do not depend on the number of threads."""
        return self.encode_trusted(as_short_rows(vectors, self.dim), threads=workers(threads))

    def encode_trusted(self, rows: np.ndarray, *, threads: int) -> np.ndarray:
        """Do what `encode` does, without checks, with finite, C-contiguous float32 rows."""
        codes = np.empty((len(rows), self.M), np.uint8)

        def encode(part: slice) -> None:
            beam_encode(
                readonly(rows[part]), self.codebooks, self.bias, self.beam, aligned(self.dim * LANES),
                aligned(self.dim * LANES), aligned(self.ksub * LANES), codes[part],
            )  # fmt: skip

        pool.run(encode, pool.slices(len(rows), -(-len(rows) // _ROWS_A_TASK)), threads)
        return codes

    def decode(self, codes: Any) -> np.ndarray:
        """Return the vectors (n, d) float32 that codes (n, M), integers below ksub, stand for."""
        return finite(self.decode_trusted(as_codes(codes, self.M, self.ksub)), "decoded vectors")

    def decode_trusted(self, codes: np.ndarray) -> np.ndarray:
        """Do what `decode` does, without checks, with uint8 codes of this codebook."""
        vectors = np.empty((len(codes), self.dim), np.float32)
        residual_decode(readonly(codes), self.codebooks, vectors)
        return vectors

    def lookup_tables(self, queries: Any, metric: str, *, residual: bool = False) -> np.ndarray:
        """Return the look-up tables of queries: what each centroid adds to a score.

        Parameters
        ----------
        queries, metric
            The same as for `ProductCodebook.lookup_tables`.
        residual
            Accepted as for every codebook; it changes nothing here.

        Returns
        -------
        np.ndarray
            (nq, M, ksub) float32. Entries are <q, c_mj> for "ip" and 2 <q, c_mj> for "l2", for which
            `residual_constants` supply the rest, with or without lists.

        """
        metric, residual = check_metric(metric), as_flag("residual", residual)
        tables = self.lookup_tables_trusted(as_rows(queries, self.dim, "queries"), metric, residual=residual)
        return finite(tables, "look-up tables")

    def lookup_tables_trusted(self, queries: np.ndarray, metric: str, *, residual: bool = False) -> np.ndarray:
        """Do what `lookup_tables` does, without checks, with finite float32 queries."""
        scale = np.float32(2 if self.needs_constants(metric, residual) else 1)
        rows = np.ascontiguousarray(queries, np.float32) * scale  # doubles every sum exactly
        tables = gemm.products(rows, self._panels, self.M * self.ksub)
        return tables.reshape(-1, self.M, self.ksub)

    def needs_constants(self, metric: str, residual: bool) -> bool:
        """Return whether a score is base + tables + a constant per vector: always for "l2"."""
        return check_metric(metric) == "l2"

    def residual_constants(self, codes: Any, centroids: Any = None) -> np.ndarray:
        """Return -(|r|^2 + 2 <c, r>) (n,) float32 of decoded codes r and the lists' centroids c (n, d) or 0."""
        decoded = self.decode(codes)
        return finite(constants_of_rows(decoded, as_centroids(centroids, decoded)), "constants")

    def residual_constants_trusted(self, codes: np.ndarray, centroids: np.ndarray | None = None) -> np.ndarray:
        """Do what `residual_constants` does, without checks, with what `decode_trusted` takes."""
        return constants_of_rows(self.decode_trusted(codes), centroids)

    def config(self) -> dict[str, Any]:
        """Return the settings, which are all that is not an array."""
        return {"beam": self.beam}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {"codebooks": self.codebooks}

    @classmethod
    def from_arrays(cls, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> ResidualCodebook:
        """Build from `config` and `arrays`; CorruptIndexError if they do not fit."""
        codebooks = stored_array(arrays, "codebooks", (None, None, None))
        if codebooks.shape[1] not in (16, 256):
            raise CorruptIndexError(f"a residual codebook has 16 or 256 centroids, not {codebooks.shape[1]}")
        return cls(codebooks, stored_int(config, "beam", 1, MOST_BEAM))
