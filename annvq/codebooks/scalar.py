"""Scalar quantization: each dimension on its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from annvq.codebooks.arrays import as_rows, frozen, stored_array, training_rows
from annvq.codebooks.tables import check_metric, constants_of_rows, product_tables
from annvq.errors import CorruptIndexError, ParameterError, StateError
from annvq.kernels import threads as pool
from annvq.kernels.encode import scalar_decode, scalar_encode
from annvq.kernels.tiles import readonly

_LEVELS = {"sq8": 256, "sq4": 16}
KINDS = (*_LEVELS, "fp16")
_ROWS_A_TASK = 4096
_LARGEST_HALF = 65504.0


@dataclass(frozen=True, eq=False)
class ScalarCodebook:
    """Levels at equal steps between the smallest and the largest value of each dimension, or float16.

    Parameters
    ----------
    kind
        ``"sq8"`` (256 levels), ``"sq4"`` (16 levels) or ``"fp16"``.
    minimum, step
        (d,) float32: code c stands for ``minimum + step * c``. Zeros and ones for "fp16".

    """

    kind: str
    minimum: np.ndarray
    step: np.ndarray

    @classmethod
    def train(
        cls, vectors: Any, *, kind: str = "sq8", sample: int | None = None, seed: int = 0, threads: int | None = None
    ) -> ScalarCodebook:
        """Take each dimension's range.

        Parameters
        ----------
        vectors
            (n, d), n >= 1.
        kind
            See the class.
        sample
            Look at so many vectors, drawn at random. None: at all.
        seed
            Of the sample.
        threads
            Unused but checked: taking the range is limited by memory.

        """
        if kind not in KINDS:
            raise ParameterError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
        pool.resolve(threads)
        most = len(vectors) if sample is None else sample
        rows = training_rows(vectors, most, np.random.default_rng(seed))
        if kind == "fp16":
            d = rows.shape[1]
            return cls(kind, frozen(np.zeros(d)), frozen(np.ones(d)))
        low, high = rows.min(axis=0).astype(np.float64), rows.max(axis=0).astype(np.float64)
        return cls(kind, frozen(low), frozen((high - low) / (_LEVELS[kind] - 1)))

    @property
    def dim(self) -> int:
        """Dimension d of the vectors."""
        return len(self.minimum)

    @property
    def code_bytes(self) -> int:
        """Bytes that a vector's packed code takes."""
        return {"sq8": self.dim, "sq4": -(-self.dim // 2), "fp16": 2 * self.dim}[self.kind]

    @cached_property
    def _inverse(self) -> np.ndarray:
        """1 / step, and 0 where all values are alike or a step is too small to divide by."""
        with np.errstate(divide="ignore", over="ignore"):
            inverse = np.float32(1) / self.step
        return frozen(np.where(np.isfinite(inverse), inverse, 0))

    @cached_property
    def _transposed(self) -> np.ndarray:
        levels = np.arange(_LEVELS[self.kind])
        values = self.minimum[:, None].astype(np.float64) + self.step[:, None].astype(np.float64) * levels
        return frozen(values[:, None, :])

    def encode(self, vectors: Any, *, threads: int | None = None) -> np.ndarray:
        """Return codes (n, d) uint8, or for "fp16" the bytes (n, 2 d) of the float16 values.

        Values outside the trained range, or beyond float16's, are cut to its end.
        """
        rows, count = as_rows(vectors, self.dim), pool.resolve(threads)
        if self.kind == "fp16":
            return np.clip(rows, -_LARGEST_HALF, _LARGEST_HALF).astype("<f2").view(np.uint8)
        codes = np.empty(rows.shape, np.uint8)
        top = np.float32(_LEVELS[self.kind] - 1)

        def encode(part: slice) -> None:
            scalar_encode(readonly(rows[part]), self.minimum, self._inverse, top, codes[part])

        pool.run(encode, pool.slices(len(rows), -(-len(rows) // _ROWS_A_TASK)), count)
        return codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Return the vectors (n, d) float32 that codes stand for."""
        if self.kind == "fp16":
            return np.ascontiguousarray(codes).view("<f2").astype(np.float32)
        vectors = np.empty(codes.shape, np.float32)
        scalar_decode(readonly(np.ascontiguousarray(codes)), self.minimum, self.step, vectors)
        return vectors

    def lookup_tables(self, queries: np.ndarray, metric: str, *, residual: bool = False) -> np.ndarray:
        """Return tables (nq, d, 16 or 256) float32, as `ProductCodebook.lookup_tables` with M = d.

        Raises
        ------
        StateError
            For "fp16", which has no levels.

        """
        if self.kind == "fp16":
            raise StateError("float16 values have no look-up tables: decode them, or use sq8 or sq4")
        return product_tables(queries, self._transposed, self.needs_constants(metric, residual), metric)

    def needs_constants(self, metric: str, residual: bool) -> bool:
        """Return whether a score is base + tables + a constant per vector, rather than base + tables."""
        return check_metric(metric) == "l2" and residual

    def residual_constants(self, codes: np.ndarray, centroids: np.ndarray | None = None) -> np.ndarray:
        """Return -(|r|^2 + 2 <c, r>) (n,) float32 of decoded residuals r and their centroids c (n, d) or 0."""
        return constants_of_rows(self.decode(codes), centroids)

    def config(self) -> dict[str, Any]:
        """Return what is not an array."""
        return {"kind": self.kind}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {"minimum": self.minimum, "step": self.step}

    @classmethod
    def from_arrays(cls, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> ScalarCodebook:
        """Build from `config` and `arrays`; CorruptIndexError where they do not fit."""
        if config.get("kind") not in KINDS:
            raise CorruptIndexError(f"scalar codebook of kind {config.get('kind')!r}, not {', '.join(KINDS)}")
        minimum = stored_array(arrays, "minimum", (None,))
        step = stored_array(arrays, "step", minimum.shape)
        if (step < 0).any():
            raise CorruptIndexError("scalar codebook with a negative step")
        return cls(config["kind"], minimum, step)
