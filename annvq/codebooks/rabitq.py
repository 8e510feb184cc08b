"""RaBitQ: codes of 1 to 8 bits per dimension, with an unbiased estimate of scores and a bound on its error.

A vector o of the list with centroid c is kept as the code of its rotated residual r = o - c. Let u
be the code as a vector of half-integers, u_i = code_i - (2^B - 1) / 2, and q any query. Then

    <q - c, r> is about (|r|^2 / <r, u>) <q - c, u>

The expectation of the estimate over the rotations is exact, and its error is at most err |q - c| with the
probability that eps_0 = 1.9 stands for, about 94 %. As <q - c, u> = <q, u> - <c, u>, a score needs
only <q, u> and the floats that are kept with the code:

    inner product   <q, c>      + add + mul <q, u>     mul =   |r|^2 / <r, u>   add = <c, r> - mul <c, u>
    minus squared L2  -|q - c|^2 + add + mul <q, u>    mul = 2 |r|^2 / <r, u>   add = -|r|^2 - mul <c, u>

The signs of r are a 1-bit code of their own (add1, mul1, err1), which bounds the score from above before
the other bits are looked at (`annvq.kernels.scan.scanbits`). A residual of zero has add = mul = err = 0: exact.

Sources: Gao and Long, "RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound"
(SIGMOD 2024, arXiv 2405.12497); Gao et al., "Practical and Asymptotically Optimal Quantization of
High-Dimensional Vectors in Euclidean Space" (SIGMOD 2025, arXiv 2409.09913).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from annvq.arguments import as_choice, as_count, as_integers
from annvq.codebooks.arrays import as_rows, finite, frozen, raw_rows, stored_bytes, stored_int, workers
from annvq.errors import DtypeError, NonFiniteError, ParameterError, ShapeError
from annvq.kernels.codes import bits as scan
from annvq.kernels.codes import rabitq
from annvq.kernels.codes.rabitq import PreparedQueries
from annvq.kernels.threads import run
from annvq.kernels.vectors import hadamard
from annvq.metrics import CODE_METRICS
from annvq.renamed import former_keywords, warn_renamed

BITS = range(1, 9)
MAX_DIM = 65_536  # up to here the integer sums of the scan fit 32 bits
_ROWS_A_TASK = 4096


@dataclass(frozen=True, eq=False)
class RaBitQCodebook:
    """A rotation and a number of bits; see the module's text for the method.

    Attributes
    ----------
    dim
        Dimension of the vectors.
    nbits
        Bits per dimension, 1 to 8.
    signs
        (4, D / 8) uint8, the sign masks of the rotation (`annvq.kernels.vectors.hadamard`); D is ``dim`` rounded
        up to a multiple of 64.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError, ParameterError
        In the constructor and all methods: the arrays, vectors, codes or arguments given do not fit; NonFiniteError
        also if factors overflow. Methods named ``*_trusted`` check nothing.

    Examples
    --------
    >>> vectors = np.random.default_rng(0).normal(size=(1000, 64))
    >>> codebook = annvq.codebooks.RaBitQCodebook.train(vectors, nbits=4)
    >>> encoded = codebook.encode(vectors)
    >>> {name: array.shape for name, array in encoded.items()}
    {'codes1': (1000, 8), 'codes_ex': (1000, 24), 'factors': (1000, 5)}

    """

    dim: int
    nbits: int
    signs: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "dim", as_count("dim", self.dim, most=MAX_DIM))
        object.__setattr__(self, "nbits", as_count("nbits", self.nbits, most=max(BITS)))
        shape = (hadamard.ROUNDS, hadamard.padded_dim(self.dim) // 8)
        if not isinstance(self.signs, np.ndarray) or self.signs.dtype != np.uint8:
            raise DtypeError(f"signs must be a NumPy array of uint8, not {getattr(self.signs, 'dtype', self.signs)!r}")
        if self.signs.shape != shape:
            raise ShapeError(f"signs must have shape {shape}, not {self.signs.shape}")
        object.__setattr__(self, "signs", frozen(self.signs, np.uint8))

    @classmethod
    @former_keywords(bits="nbits")
    def train(cls, vectors: Any, *, nbits: int = 1, seed: int = 0, threads: int | None = None) -> RaBitQCodebook:
        """Draw a rotation; the method learns nothing from the vectors.

        Parameters
        ----------
        vectors
            (n, d), of which only d is used.
        nbits
            Bits per dimension, 1 to 8.
        seed
            The seed of the rotation.
        threads
            Not used, since there is nothing to compute; the ``train`` of every codebook takes it.

        Raises
        ------
        ShapeError, ParameterError
            The vectors do not have two axes, or have too many dimensions, or ``nbits`` is not 1 to 8.

        """
        workers(threads)
        nbits, seed = as_count("nbits", nbits, most=max(BITS)), as_count("seed", seed, least=0)
        shape = raw_rows(vectors).shape
        if shape[1] > MAX_DIM:
            raise ShapeError(f"RaBitQ takes vectors (n, d) with d from 1 to {MAX_DIM}, not {shape}")
        return cls(shape[1], nbits, frozen(hadamard.random_signs(shape[1], seed), np.uint8))

    @property
    def bits(self) -> int:
        """Bits per dimension: the former name of ``nbits``."""
        warn_renamed("RaBitQCodebook.bits", "nbits")
        return self.nbits

    @property
    def padded_dim(self) -> int:
        """Number of coordinates D that are coded: ``dim`` rounded up to a multiple of 64."""
        return 8 * self.signs.shape[1]

    @property
    def factor_columns(self) -> int:
        """Number of floats kept with a code: add1, mul1, err1, and, with two or more bits, add and mul."""
        return factor_columns(self.nbits)

    @property
    def code_bytes(self) -> int:
        """Number of bytes that a vector takes, factors included."""
        return self.nbits * self.padded_dim // 8 + 4 * self.factor_columns

    def rotate(self, vectors: Any) -> np.ndarray:
        """Return the rotated vectors, (n, D) float32, of ``vectors (n, dim)``."""
        return finite(self._rotated(as_rows(vectors, self.dim)), "rotated vectors")

    def _rotated(self, vectors: np.ndarray) -> np.ndarray:
        rotated = np.empty((len(vectors), self.padded_dim), np.float32)
        hadamard.rotate(vectors, self.signs, rotated)
        return rotated

    def encode(
        self,
        vectors: Any,
        *,
        centroids: Any = None,
        labels: Any = None,
        metric: str = "ip",
        threads: int | None = None,
    ) -> dict[str, np.ndarray]:
        """Encode residuals.

        Parameters
        ----------
        vectors
            (n, dim) float32, the residuals r = o - c.
        centroids
            (nlist, dim) float32, which were subtracted. None: nothing was subtracted, c = 0.
        labels
            (n,) integers, the row of ``centroids`` that belongs to each residual. They may be left out if there is
            one centroid for all residuals or one for each.
        metric
            ``"ip"`` (also for cosine) or ``"l2"``: the metric of the scores that the factors are made for.
        threads
            None for all CPUs.

        Returns
        -------
        dict
            ``codes1`` (n, D / 8) uint8, the signs; ``codes_ex`` (n, (nbits - 1) D / 8) uint8, the other
            bit planes, highest first; ``factors`` (n, 3 or 5) float32: add1, mul1, err1, add, mul.

        Raises
        ------
        ShapeError, ParameterError
            The arrays do not fit each other, or the metric is another one.

        """
        metric, count = as_choice("metric", metric, CODE_METRICS), workers(threads)
        vectors = as_rows(vectors, self.dim)
        of_lists = np.zeros((1, self.dim), np.float32)
        if centroids is not None:
            of_lists = as_rows(centroids, self.dim, "centroids")
        lists = _labels(labels, len(vectors), len(of_lists))
        encoded = self.encode_trusted(vectors, of_lists, lists, metric, threads=count)
        finite(encoded["factors"], "factors")
        return encoded

    def encode_trusted(
        self, vectors: np.ndarray, centroids: np.ndarray, labels: np.ndarray, metric: str, *, threads: int
    ) -> dict[str, np.ndarray]:
        """Do what `encode` does, without checks, with finite, C-contiguous float32 arrays and int64 labels."""
        n, rotated_centroids = len(vectors), self._rotated(centroids)
        encoded = {
            "codes1": np.empty((n, self.padded_dim // 8), np.uint8),
            "codes_ex": np.empty((n, (self.nbits - 1) * self.padded_dim // 8), np.uint8),
            "factors": np.empty((n, self.factor_columns), np.float32),
        }

        def encode_rows(start: int) -> None:
            rows = slice(start, start + _ROWS_A_TASK)
            outputs = [array[rows] for array in encoded.values()]
            residuals = self._rotated(vectors[rows])
            rabitq.encode(residuals, rotated_centroids, labels[rows], self.nbits, metric == "l2", *outputs)

        run(encode_rows, range(0, n, _ROWS_A_TASK), threads)
        return encoded

    def decode(self, encoded: dict[str, np.ndarray], *, metric: str = "ip") -> np.ndarray:
        """Return the residuals (n, dim) float32 that codes stand for: the nearest multiples of u, rotated back.

        ``encoded`` is what `encode` returned for the same ``metric``.
        """
        codes1, codes_ex, factors = self._arrays_of(encoded, metric)
        arrays = {"codes1": codes1, "codes_ex": codes_ex, "factors": factors}
        return finite(self.decode_trusted(arrays, metric), "decoded vectors")

    def decode_trusted(self, encoded: dict[str, np.ndarray], metric: str) -> np.ndarray:
        """Do what `decode` does, without checks, with C-contiguous arrays of this codebook."""
        codes1, codes_ex, factors = (encoded[name] for name in ("codes1", "codes_ex", "factors"))
        rotated = np.empty((len(codes1), self.padded_dim), np.float32)
        rabitq.decode(codes1, codes_ex, factors, self.nbits, metric == "l2", rotated)
        vectors = np.empty((len(codes1), self.dim), np.float32)
        hadamard.unrotate(rotated, self.signs, vectors)
        return vectors

    def prepare(self, queries: Any) -> PreparedQueries:
        """Rotate and quantize ``queries (nq, dim)``, once for all lists and both metrics."""
        prepared = self.prepare_trusted(as_rows(queries, self.dim, "queries"))
        finite(prepared.factors, "factors")
        return prepared

    def prepare_trusted(self, queries: np.ndarray) -> PreparedQueries:
        """Do what `prepare` does, without checks, with finite, C-contiguous float32 queries."""
        rotated = self._rotated(queries)
        nq, D = rotated.shape
        prepared = PreparedQueries(
            planes=np.empty((nq, scan.QUERY_BITS, scan.plane_words(D)), np.uint64),
            high=np.empty((nq, D), np.uint8),
            low=np.empty((nq, D), np.uint8),
            factors=np.empty((nq, 3), np.float32),
            totals=np.empty(nq, np.int64),
        )
        rabitq.prepare(rotated, prepared)
        return prepared

    def config(self) -> dict[str, Any]:
        """Return the settings, which are all that is not an array."""
        return {"dim": self.dim, "bits": self.nbits}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {"signs": self.signs}

    @classmethod
    def from_arrays(cls, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> RaBitQCodebook:
        """Build from `config` and `arrays`; CorruptIndexError if they do not fit."""
        dim, nbits = stored_int(config, "dim", 1, MAX_DIM), stored_int(config, "bits", min(BITS), max(BITS))
        shape = (hadamard.ROUNDS, hadamard.padded_dim(dim) // 8)
        return cls(dim, nbits, stored_bytes(arrays, "signs", shape))

    def _arrays_of(self, encoded: dict[str, np.ndarray], metric: str) -> list[np.ndarray]:
        """Return codes1, codes_ex and factors in the shapes that this codebook makes."""
        as_choice("metric", metric, CODE_METRICS)
        names = ("codes1", "codes_ex", "factors")
        if not isinstance(encoded, Mapping) or any(not isinstance(encoded.get(name), np.ndarray) for name in names):
            raise DtypeError(
                f"expected the arrays {', '.join(names)} that encode returns, given {type(encoded).__name__}"
            )
        n, width = encoded["codes1"].shape[0] if encoded["codes1"].ndim else 0, self.padded_dim // 8
        expected = {
            "codes1": ((n, width), np.uint8),
            "codes_ex": ((n, (self.nbits - 1) * width), np.uint8),
            "factors": ((n, self.factor_columns), np.float32),
        }
        for name, (shape, dtype) in expected.items():
            if encoded[name].shape != shape:
                raise ShapeError(f"{name} must have shape {shape}, not {encoded[name].shape}")
            if encoded[name].dtype != dtype:
                raise DtypeError(f"{name} must be {np.dtype(dtype)}, not {encoded[name].dtype}")
        if not np.isfinite(encoded["factors"]).all():
            raise NonFiniteError("factors hold NaN or infinity")
        return [np.ascontiguousarray(encoded[name]) for name in expected]


RaBitQCodebook.__init__ = former_keywords(bits="nbits")(RaBitQCodebook.__init__)


def factor_columns(nbits: int) -> int:
    """Return the number of floats that are kept with a code of ``nbits`` bits per dimension."""
    return 3 if nbits == 1 else 5


def _labels(labels: Any, n: int, nlist: int) -> np.ndarray:
    """Return which centroid belongs to each of ``n`` rows, int64."""
    if labels is None:
        if nlist not in (1, n):
            raise ShapeError(f"{nlist} centroids for {n} vectors: say with labels which belongs to which")
        return np.zeros(n, np.int64) if nlist == 1 else np.arange(n, dtype=np.int64)
    given = as_integers("labels", labels)
    if given.shape != (n,):
        raise ShapeError(f"labels must have shape ({n},), not {given.shape}")
    if n and not (0 <= given.min() and given.max() < nlist):
        raise ParameterError(f"labels must be 0 to {nlist - 1}, not {given.min()} to {given.max()}")
    return np.ascontiguousarray(given, np.int64)
