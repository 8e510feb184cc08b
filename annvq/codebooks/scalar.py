"""Scalar quantization, which codes each dimension by itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from annvq.arguments import as_choice, as_count, as_flag
from annvq.codebooks.arrays import (
    as_codes,
    as_rows,
    finite,
    frozen,
    generator,
    part,
    stored_array,
    stored_setting,
    training_rows,
    workers,
)
from annvq.codebooks.tables import as_centroids, check_metric, constants_of_rows, product_tables
from annvq.errors import CorruptIndexError, DtypeError, NonFiniteError, ParameterError, ShapeError, StateError
from annvq.kernels import threads as pool
from annvq.kernels.codes.encode import scalar_decode, scalar_encode
from annvq.kernels.registers.tiles import readonly

_LEVELS = {"sq8": 256, "sq4": 16}
KINDS = (*_LEVELS, "fp16")
_ROWS_A_TASK = 4096
_LARGEST_HALF = 65504.0


@dataclass(frozen=True, eq=False)
class ScalarCodebook:
    """Codes each dimension by levels at equal steps between its smallest and largest value, or as float16.

    Parameters
    ----------
    kind
        ``"sq8"`` (256 levels), ``"sq4"`` (16 levels) or ``"fp16"``.
    minimum, step
        (d,) float32: code c stands for ``minimum + step * c``. Zeros and ones for "fp16".

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError, ParameterError
        In the constructor and all methods: the arrays, vectors, codes or arguments given do not fit; NonFiniteError
        also if scores overflow. Methods named ``*_trusted`` check nothing.

    Examples
    --------
    >>> vectors = np.random.default_rng(0).normal(size=(1000, 32))
    >>> codebook = annvq.codebooks.ScalarCodebook.train(vectors, kind="sq8")
    >>> decoded = codebook.decode(codebook.encode(vectors))
    >>> bool((abs(vectors - decoded) <= 0.51 * codebook.step).all())
    True

    """

    kind: str
    minimum: np.ndarray
    step: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", as_choice("kind", self.kind, KINDS))
        for name in ("minimum", "step"):
            object.__setattr__(self, name, part(name, getattr(self, name), 1))
        if self.step.shape != self.minimum.shape:
            raise ShapeError(f"step has shape {self.step.shape}, expected that of minimum, {self.minimum.shape}")
        if (self.step < 0).any():
            raise ParameterError(f"step must be at least 0 in every dimension, not {self.step.min()}")
        with np.errstate(over="ignore"):
            largest = self.minimum + self.step * np.float32(_LEVELS.get(self.kind, 1) - 1)
        if not np.isfinite(largest).all():
            raise NonFiniteError("the largest code stands for what is too large for float32")

    @classmethod
    def train(
        cls, vectors: Any, *, kind: str = "sq8", sample: int | None = None, seed: int = 0, threads: int | None = None
    ) -> ScalarCodebook:
        """Learn the range of each dimension.

        Parameters
        ----------
        vectors
            (n, d), n >= 1.
        kind
            See the class.
        sample
            The number of vectors to look at, drawn at random. None: all of them.
        seed
            The seed of the sample.
        threads
            Checked but not used: memory bandwidth limits the computation.

        """
        kind = as_choice("kind", kind, KINDS)
        workers(threads)
        rows = training_rows(vectors, sample, generator(seed))
        if kind == "fp16":
            d = rows.shape[1]
            return cls(kind, frozen(np.zeros(d)), frozen(np.ones(d)))
        low, high = rows.min(axis=0).astype(np.float64), rows.max(axis=0).astype(np.float64)
        return cls(kind, frozen(low), frozen((high - low) / (_LEVELS[kind] - 1)))

    @classmethod
    def of_integers(cls, dtype: Any, dim: int) -> ScalarCodebook:
        """Return the codebook "sq8" that keeps vectors (n, dim) of int8 or uint8 as they are, without loss.

        Raises
        ------
        DtypeError
            ``dtype`` is another one.

        """
        dtype = np.dtype(dtype)
        if dtype not in (np.int8, np.uint8):
            raise DtypeError(f"integers of {dtype}, expected int8 or uint8, which 8 bits hold")
        dim = as_count("dim", dim)
        return cls("sq8", frozen(np.full(dim, np.iinfo(dtype).min)), frozen(np.ones(dim)))

    @property
    def dim(self) -> int:
        """Dimension d of the vectors."""
        return len(self.minimum)

    @property
    def code_bytes(self) -> int:
        """Number of bytes that a vector's packed code takes."""
        return {"sq8": self.dim, "sq4": -(-self.dim // 2), "fp16": 2 * self.dim}[self.kind]

    @property
    def top(self) -> np.float32:
        """The largest code."""
        return np.float32(_LEVELS[self.kind] - 1)

    @cached_property
    def inverse(self) -> np.ndarray:
        """1 / step, or 0 if all values are alike or the step is too small to divide by."""
        with np.errstate(divide="ignore", over="ignore"):
            inverse = np.float32(1) / self.step
        return frozen(np.where(np.isfinite(inverse), inverse, 0))

    @cached_property
    def transposed(self) -> np.ndarray:
        """The levels as a codebook (d, 1, levels) float32, which `annvq.kernels.scan.lookup_tables` reads."""
        levels = np.arange(_LEVELS[self.kind])
        values = self.minimum[:, None].astype(np.float64) + self.step[:, None].astype(np.float64) * levels
        return frozen(values[:, None, :])

    def encode(self, vectors: Any, *, threads: int | None = None) -> np.ndarray:
        """Return codes (n, d) uint8, or for "fp16" the bytes (n, 2 d) of the float16 values.

        Values outside the trained range, or that of float16, are clipped to its ends.
        """
        return self.encode_trusted(as_rows(vectors, self.dim), threads=workers(threads))

    def encode_trusted(self, rows: np.ndarray, *, threads: int) -> np.ndarray:
        """Do what `encode` does, without checks, with finite, C-contiguous float32 rows."""
        if self.kind == "fp16":
            return np.clip(rows, -_LARGEST_HALF, _LARGEST_HALF).astype("<f2").view(np.uint8)
        codes = np.empty(rows.shape, np.uint8)

        def encode(part: slice) -> None:
            scalar_encode(readonly(rows[part]), self.minimum, self.inverse, self.top, codes[part])

        pool.run(encode, pool.slices(len(rows), -(-len(rows) // _ROWS_A_TASK)), threads)
        return codes

    def decode(self, codes: Any) -> np.ndarray:
        """Return the vectors (n, d) float32 that codes, as `encode` returns them, stand for."""
        columns, below = (2 * self.dim, 256) if self.kind == "fp16" else (self.dim, _LEVELS[self.kind])
        return finite(self.decode_trusted(as_codes(codes, columns, below)), "decoded vectors")

    def decode_trusted(self, codes: np.ndarray) -> np.ndarray:
        """Do what `decode` does, without checks, with uint8 codes of this codebook."""
        if self.kind == "fp16":
            return np.ascontiguousarray(codes).view("<f2").astype(np.float32)
        vectors = np.empty(codes.shape, np.float32)
        scalar_decode(readonly(np.ascontiguousarray(codes)), self.minimum, self.step, vectors)
        return vectors

    def lookup_tables(self, queries: Any, metric: str, *, residual: bool = False) -> np.ndarray:
        """Return the look-up tables of queries: what each level of each dimension adds to a score.

        Parameters
        ----------
        queries, metric, residual
            The same as for `ProductCodebook.lookup_tables`.

        Returns
        -------
        np.ndarray
            (nq, d, 16 or 256) float32, as of a product codebook with M = d.

        Raises
        ------
        StateError
            The kind is "fp16", which has no levels.

        """
        if self.kind == "fp16":
            raise StateError("float16 values have no look-up tables: decode them, or use sq8 or sq4")
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
        return constants_of_rows(self.decode_trusted(codes), centroids)

    def config(self) -> dict[str, Any]:
        """Return the settings, which are all that is not an array."""
        return {"kind": self.kind}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {"minimum": self.minimum, "step": self.step}

    @classmethod
    def from_arrays(cls, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> ScalarCodebook:
        """Build from `config` and `arrays`; CorruptIndexError if they do not fit."""
        kind = stored_setting(config, "kind")
        if not isinstance(kind, str) or kind not in KINDS:
            raise CorruptIndexError(f"scalar codebook of kind {kind!r}, not {', '.join(KINDS)}")
        minimum = stored_array(arrays, "minimum", (None,))
        step = stored_array(arrays, "step", minimum.shape)
        if (step < 0).any():
            raise CorruptIndexError("scalar codebook with a negative step")
        try:
            return cls(kind, minimum, step)
        except NonFiniteError as error:
            raise CorruptIndexError(f"scalar codebook: {error}") from error
