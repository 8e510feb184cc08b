"""Product quantization (Jegou et al. 2011), optionally score-aware (Guo et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from annvq.arguments import as_count, as_flag, as_number
from annvq.codebooks import anisotropic
from annvq.codebooks.accelerator import in_place_of_cpu
from annvq.codebooks.arrays import (
    TRAINED_ON,
    as_codes,
    as_niter,
    as_rows,
    as_short_rows,
    finite,
    frozen,
    generator,
    part,
    raw_rows,
    stored_array,
    stored_int,
    stored_setting,
    training_places,
    workers,
)
from annvq.codebooks.tables import as_centroids, check_metric, constants_of_rows, product_tables
from annvq.errors import CorruptIndexError, ParameterError, ShapeError
from annvq.kernels import threads as pool
from annvq.kernels.clusters import nearest4
from annvq.kernels.clusters.lloyd import train_subspaces, transpose
from annvq.kernels.codes.encode import (
    ProductSites,
    product_constants,
    product_decode,
    product_encode,
    product_sites,
)
from annvq.kernels.registers.tiles import LANES, aligned, readonly

SAMPLE = 65_536
_LARGEST_ETA = 1e12  # beyond, what is solved for centroids is singular in float64
_ROWS_A_TASK = 1024


@dataclass(frozen=True, eq=False)
class ProductCodebook:
    """M codebooks of 16 or 256 centroids, one for each run of dsub dimensions.

    Parameters
    ----------
    codebooks
        (M, ksub, dsub) float32.
    dim
        Dimension d of the vectors, at most M * dsub; what is missing is padded with zeros.
    anisotropic_eta
        Weight of the error along a vector (1: all directions count alike), or None to encode by nearest
        centroids.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError, ParameterError
        In the constructor and all methods: the arrays, vectors, codes or arguments given do not fit; NonFiniteError
        also if scores overflow. Methods named ``*_trusted`` check nothing.

    Examples
    --------
    >>> vectors = np.random.default_rng(0).normal(size=(1000, 32))
    >>> codebook = annvq.codebooks.ProductCodebook.train(vectors, M=8, nbits=4)
    >>> codes = codebook.encode(vectors)
    >>> codes.shape, codebook.code_bytes, codebook.decode(codes).shape
    ((1000, 8), 4, (1000, 32))

    """

    codebooks: np.ndarray
    dim: int
    anisotropic_eta: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "codebooks", part("codebooks", self.codebooks, 3))
        check_ksub(self.ksub)
        object.__setattr__(self, "dim", as_count("dim", self.dim, most=self.M * self.codebooks.shape[2]))
        object.__setattr__(self, "anisotropic_eta", _as_eta(self.anisotropic_eta))

    @classmethod
    def train(
        cls,
        vectors: Any,
        *,
        M: int,
        nbits: int = 8,
        niter: int = 25,
        anisotropic_eta: float | None = None,
        directions: Any = None,
        sample: int = SAMPLE,
        seed: int = 0,
        threads: int | None = None,
    ) -> ProductCodebook:
        """Run k-means in each sub-space.

        Parameters
        ----------
        vectors
            (n, d), n >= 1; with fewer than ksub vectors some centroids go unused.
        M
            Number of sub-spaces, 1 to d. Each has ceil(d / M) dimensions.
        nbits
            4 (16 centroids) or 8 (256).
        niter
            The maximum number of iterations of Lloyd's algorithm.
        anisotropic_eta
            If given, above 0: after k-means, codes and centroids are improved in turn for the loss
            eta |r_par|^2 + |r_perp|^2 (see `annvq.codebooks.anisotropic`), by which `encode` then chooses codes, too.
        directions
            (n, d): the error along these is r_par. None: the vectors themselves.
        sample
            The maximum number of vectors to train on, drawn at random.
        seed
            The seed of sample and start; the result depends on nothing else but the vectors.
        threads
            None for all CPUs.

        Raises
        ------
        ParameterError
            An argument is outside its range, or there are no vectors.

        """
        rng, count, eta = generator(seed), workers(threads), _as_eta(anisotropic_eta)
        nbits, niter = as_nbits(nbits), as_niter(niter)
        raw = raw_rows(vectors)
        d, M = raw.shape[1], as_M(M, raw.shape[1])
        places = training_places(len(raw), sample, rng)
        rows = as_short_rows(raw[places], name=TRAINED_ON)
        codebooks = train_codebooks(rows, start_codebooks(rows, M, 1 << nbits, rng), niter, count)
        if eta is not None:
            along = rows
            if directions is not None:
                other = raw_rows(directions, "directions")
                _check_directions(other, raw)
                along = as_rows(other[places], d, "directions")
            codebooks = anisotropic.improve(codebooks, rows, along, eta, count)
        return cls(frozen(codebooks), d, eta)

    @property
    def M(self) -> int:
        """Number of sub-spaces, which is the number of code columns."""
        return self.codebooks.shape[0]

    @property
    def ksub(self) -> int:
        """Number of centroids in each sub-space: 16 or 256."""
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
    def _sites(self) -> ProductSites:
        return product_sites(self.codebooks)

    @cached_property
    def transposed(self) -> np.ndarray:
        """The codebooks as (M, dsub, ksub) float32, which `annvq.kernels.scan.lookup_tables` reads."""
        return frozen(self.codebooks.transpose(0, 2, 1))

    def encode(self, vectors: Any, *, directions: Any = None, threads: int | None = None) -> np.ndarray:
        """Return the codes (n, M) uint8 of vectors (n, d).

        Parameters
        ----------
        vectors
            (n, d), finite.
        directions
            (n, d): with `anisotropic_eta`, the vectors whose residuals ``vectors`` are. None: the vectors
            themselves.
        threads
            None for all CPUs; the codes do not depend on it.

        """
        rows, along, count = as_short_rows(vectors, self.dim), None, workers(threads)
        if directions is not None:
            along = as_rows(directions, self.dim, "directions")
            _check_directions(along, rows)
        return self.encode_trusted(rows, along, threads=count)

    def encode_trusted(self, rows: np.ndarray, directions: np.ndarray | None = None, *, threads: int) -> np.ndarray:
        """Do what `encode` does, without checks, with finite, C-contiguous float32 rows."""
        if self.anisotropic_eta is None:
            return encode_nearest(rows, self.codebooks, self._sites, threads)
        along, shape = rows if directions is None else directions, self.codebooks.shape
        return anisotropic.encode(rows, along, shape, self._sites, self.anisotropic_eta, threads)

    def decode(self, codes: Any) -> np.ndarray:
        """Return the vectors (n, d) float32 that codes (n, M), integers below ksub, stand for."""
        return self.decode_trusted(as_codes(codes, self.M, self.ksub))

    def decode_trusted(self, codes: np.ndarray) -> np.ndarray:
        """Do what `decode` does, without checks, with uint8 codes of this codebook."""
        vectors = np.empty((len(codes), self.dim), np.float32)
        product_decode(readonly(codes), self.codebooks, vectors)
        return vectors

    def lookup_tables(self, queries: Any, metric: str, *, residual: bool = False) -> np.ndarray:
        """Return the look-up tables of queries: what each centroid adds to a score.

        Parameters
        ----------
        queries
            (nq, d), finite.
        metric
            "ip" or "l2".
        residual
            Whether codes stand for the residuals of vectors from their lists' centroids.

        Returns
        -------
        np.ndarray
            (nq, M, ksub) float32. Entries are <q_m, c_mj> for "ip", -|q_m - c_mj|^2 for "l2", and 2 <q_m, c_mj> for
            "l2" with ``residual``, in which case `residual_constants` supply the rest.

        """
        metric, residual = check_metric(metric), as_flag("residual", residual)
        tables = self.lookup_tables_trusted(as_rows(queries, self.dim, "queries"), metric, residual=residual)
        return finite(tables, "look-up tables")

    def lookup_tables_trusted(self, queries: np.ndarray, metric: str, *, residual: bool = False) -> np.ndarray:
        """Do what `lookup_tables` does, without checks, with finite, C-contiguous float32 queries."""
        return product_tables(queries, self.transposed, self.needs_constants(metric, residual), metric)

    def needs_constants(self, metric: str, residual: bool) -> bool:
        """Return whether a score is base + tables + a constant per vector, rather than base + tables."""
        return check_metric(metric) == "l2" and residual

    def residual_constants(self, codes: Any, centroids: Any = None) -> np.ndarray:
        """Return -(|r|^2 + 2 <c, r>) (n,) float32 of decoded residuals r and their centroids c (n, d) or 0."""
        decoded = self.decode(codes)
        return finite(constants_of_rows(decoded, as_centroids(centroids, decoded)), "constants")

    def residual_constants_trusted(self, codes: np.ndarray, centroids: np.ndarray | None = None) -> np.ndarray:
        """Do what `residual_constants` does, without checks, with what `decode_trusted` takes."""
        if centroids is None:
            return constants_of_rows(self.decode_trusted(codes), None)
        constants = np.empty(len(codes), np.float32)
        product_constants(readonly(codes), self.codebooks, readonly(centroids), constants)
        return constants

    def config(self) -> dict[str, Any]:
        """Return the settings, which are all that is not an array."""
        return {"dim": self.dim, "anisotropic_eta": self.anisotropic_eta}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {"codebooks": self.codebooks}

    @classmethod
    def from_arrays(cls, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> ProductCodebook:
        """Build from `config` and `arrays`; CorruptIndexError if they do not fit."""
        codebooks = stored_array(arrays, "codebooks", (None, None, None))
        M, ksub, dsub = codebooks.shape
        if ksub not in (16, 256):
            raise CorruptIndexError(f"a product codebook has 16 or 256 centroids, not {ksub}")
        dim = stored_int(config, "dim", 1, M * dsub)
        eta = stored_setting(config, "anisotropic_eta")
        if eta is not None and not (type(eta) in (int, float) and 0 < eta <= _LARGEST_ETA):
            raise CorruptIndexError(f"anisotropic_eta is {eta!r}, expected a number above 0")
        return cls(codebooks, dim, eta)


def as_M(M: Any, d: int) -> int:
    """Return the number of sub-spaces of vectors of dimension d; ParameterError if it is not 1 to d."""
    try:
        return as_count("M", M, most=d)
    except ParameterError:
        raise ParameterError(f"M must be 1 to the dimension {d}, not {M!r}") from None


def as_nbits(nbits: Any) -> int:
    """Return the number of bits per code; ParameterError for anything but 4 and 8."""
    if as_count("nbits", nbits) not in (4, 8):
        raise ParameterError(f"nbits must be 4 or 8, not {nbits}")
    return int(nbits)


def check_ksub(ksub: int) -> None:
    """Raise ShapeError unless this is the number of centroids that codes of 4 or 8 bits have."""
    if ksub not in (16, 256):
        raise ShapeError(f"codebooks have {ksub} centroids, expected 16 or 256")


def _as_eta(eta: Any) -> float | None:
    return None if eta is None else as_number("anisotropic_eta", eta, above=0, most=_LARGEST_ETA)


def _check_directions(directions: np.ndarray, vectors: np.ndarray) -> None:
    if len(directions) != len(vectors):
        raise ShapeError(f"{len(vectors)} vectors with {len(directions)} directions")


def start_codebooks(rows: np.ndarray, M: int, ksub: int, rng: np.random.Generator) -> np.ndarray:
    """Return first codebooks (M, ksub, dsub): sub-vectors of ksub of the rows (n, d), drawn anew per sub-space."""
    n, d = rows.shape
    dsub = -(-d // M)
    codebooks = np.zeros((M, ksub, dsub), np.float32)
    for m in range(M):
        chosen = rng.choice(n, ksub, replace=n < ksub)
        part = rows[chosen, m * dsub : (m + 1) * dsub]
        codebooks[m, :, : part.shape[1]] = part
    return codebooks


def train_codebooks(rows: np.ndarray, start: np.ndarray, niter: int, threads: int) -> np.ndarray:
    """Return codebooks (M, ksub, dsub) after Lloyd's iterations on rows (n, d) from ``start``."""
    accelerator = in_place_of_cpu()
    if accelerator is not None:
        return accelerator.learned_codebooks(rows, start, niter)
    M, _, dsub = start.shape
    n, d = rows.shape
    shift = rows.mean(axis=0, dtype=np.float64).astype(np.float32)  # keeps digits of data far from 0
    padded = np.zeros(M * dsub, np.float32)
    padded[:d] = shift
    shifts = padded.reshape(M, 1, dsub)
    codebooks = start - shifts
    stride = -(-n // LANES) * LANES

    def train(part: slice) -> None:
        columns = aligned((part.stop - part.start) * dsub * stride).reshape(-1, stride)
        transpose(readonly(rows), part.start * dsub, shift, columns)
        train_subspaces(columns, n, codebooks[part], niter)

    pool.run(train, pool.slices(M, 8 * threads), threads)
    return codebooks + shifts


def encode_nearest(rows: np.ndarray, codebooks: np.ndarray, sites: ProductSites, threads: int) -> np.ndarray:
    """Return codes (n, M) uint8 of the nearest centroids of rows (n, d) float32."""
    M, ksub, dsub = codebooks.shape
    codes = np.empty((len(rows), M), np.uint8)

    def encode(part: slice) -> None:
        if (ksub, dsub) == (nearest4.ENTRIES, nearest4.DIMENSIONS):
            nearest4.encode_nearest4(readonly(rows[part]), M, *sites, codes[part])
            return
        panel = aligned(M * dsub * LANES)
        product_encode(readonly(rows[part]), M, ksub, dsub, *sites, panel, codes[part])

    pool.run(encode, pool.slices(len(rows), -(-len(rows) // _ROWS_A_TASK)), threads)
    return codes
