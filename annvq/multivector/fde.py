"""Encoding of sets of vectors as single vectors whose inner product approximates Chamfer similarity."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from annvq.arguments import as_count, as_threads
from annvq.codebooks.accelerator import in_place_of_cpu
from annvq.errors import NonFiniteError, ParameterError
from annvq.kernels import threads as pool
from annvq.kernels.documents import fde
from annvq.kernels.registers.tiles import readonly
from annvq.kernels.vectors import gemm
from annvq.multivector.ragged import Ragged

_MOST_BITS = 16
_MOST_NUMBERS = 1 << 24  # of one encoding
_GRID = 2.0**20  # hyperplanes are multiples of its inverse: no platform's last digit of a logarithm shows
_SETS_A_TASK = 32


@dataclass(frozen=True)
class FixedDimensionalEncoder:
    """Encodes sets of vectors so that the inner product of two encodings approximates their Chamfer similarity.

    In each of ``repetitions``, hyperplanes divide space into cells. A query's vectors are summed in every cell, a
    document's are averaged; a cell that holds none of a document's vectors takes the one whose signs are nearest.
    Then each cell is projected, and all are concatenated (Dhulipala et al., "MUVERA: Multi-Vector Retrieval via
    Fixed Dimensional Encodings", 2024, section 2). The same parameters give the same encoding everywhere, to the last
    bit; only with torch (`annvq.multivector.fde_torch`), a vector that lies on a hyperplane may fall on its other side.

    Parameters
    ----------
    dim
        Dimension d of the vectors.
    repetitions
        At least 1; the error falls with the square root of it.
    simhash_bits
        Hyperplanes per repetition, 0 to 16; they make 2**simhash_bits cells.
    projection_dim
        Numbers per cell: the vector times random signs, divided by the square root of ``projection_dim``. None keeps
        all d numbers as they are.
    final_dim
        Numbers of the encoding, made by a count sketch; None keeps all repetitions * 2**simhash_bits * projection_dim.
    fill_empty
        Whether a document's empty cells are filled.
    seed
        The seed of hyperplanes, projections and sketch, at least 0.

    Raises
    ------
    ParameterError
        A parameter is out of bounds.

    Examples
    --------
    >>> documents = np.random.default_rng(0).normal(size=(100, 4, 16))  # or a list of arrays (t, 16)
    >>> encoder = annvq.multivector.FixedDimensionalEncoder(16, repetitions=4, simhash_bits=3, projection_dim=8)
    >>> encoder.encode_documents(documents).shape, encoder.encode_queries(documents[:2]).shape
    ((100, 256), (2, 256))

    """

    dim: int
    repetitions: int = 20
    simhash_bits: int = 5
    projection_dim: int | None = 16
    final_dim: int | None = None
    fill_empty: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        as_count("dim", self.dim)
        as_count("repetitions", self.repetitions)
        as_count("simhash_bits", self.simhash_bits, least=0, most=_MOST_BITS)
        as_count("seed", self.seed, least=0, most=(1 << 32) - 1)
        if self.projection_dim is not None:
            as_count("projection_dim", self.projection_dim)
        if self.final_dim is not None:
            as_count("final_dim", self.final_dim, most=_MOST_NUMBERS)
        if type(self.fill_empty) is not bool:
            raise ParameterError(f"fill_empty = {self.fill_empty!r}: expected True or False")
        if self._numbers > _MOST_NUMBERS:
            raise ParameterError(
                f"{self.repetitions} repetitions of 2**{self.simhash_bits} cells of {self.width} numbers are "
                f"{self._numbers:,}, expected at most {_MOST_NUMBERS:,}"
            )

    @property
    def output_dim(self) -> int:
        """The number of dimensions of an encoding."""
        return self._numbers if self.final_dim is None else self.final_dim

    @property
    def width(self) -> int:
        """The numbers of a cell."""
        return self.dim if self.projection_dim is None else self.projection_dim

    @property
    def _numbers(self) -> int:
        return self.repetitions * 2**self.simhash_bits * self.width

    def encode_documents(
        self, vectors: Any, offsets: Any = None, *, dtype: Any = np.float32, threads: int | None = None
    ) -> np.ndarray:
        """Encode documents' sets of vectors.

        Parameters
        ----------
        vectors, offsets
            m sets as `annvq.multivector.Ragged.of` takes them: a list of arrays (t, d), Arrow lists, or flat (n, d)
            with offsets (m + 1,). A set without vectors is encoded as zeros.
        dtype
            The dtype of the result, float32 or float16.
        threads
            Default: all CPUs of the process; the result does not depend on it.

        Returns
        -------
        np.ndarray
            (m, output_dim).

        Raises
        ------
        ShapeError, DtypeError, NonFiniteError, ParameterError
            The input is not sets of vectors of this dimension.

        See Also
        --------
        annvq.multivector.fde_torch.encode : the same with torch, for vectors on a GPU.

        """
        return self._encode(Ragged.of(vectors, offsets, dim=self.dim), True, dtype, threads)

    def encode_queries(
        self, vectors: Any, offsets: Any = None, *, dtype: Any = np.float32, threads: int | None = None
    ) -> np.ndarray:
        """Encode queries' sets of vectors, whose sums stand in the cells instead of means.

        Parameters
        ----------
        vectors, offsets, dtype, threads
            The same as for `encode_documents`.

        Returns
        -------
        np.ndarray
            (m, output_dim).

        Raises
        ------
        ShapeError, DtypeError, NonFiniteError, ParameterError
            The same as for `encode_documents`.

        """
        return self._encode(Ragged.of(vectors, offsets, dim=self.dim, name="queries"), False, dtype, threads)

    def _encode(self, sets: Ragged, of_documents: bool, dtype: Any, threads: int | None) -> np.ndarray:
        wanted, workers = _as_float(dtype), pool.resolve(as_threads(threads))
        accelerator = in_place_of_cpu()
        if accelerator is not None:
            made = accelerator.encodings(self, sets.floats().vectors, sets.offsets, of_documents)
            return _as_halves(made) if wanted == np.float16 else made
        out = np.empty((len(sets), self.output_dim), wanted)
        panels = gemm.pack(self.matrix)
        buckets, signs = self.sketch

        def run(part: slice) -> None:
            some = sets[part].floats()
            made = out[part] if wanted == np.float32 else np.empty((len(some), self.output_dim), np.float32)
            fde.encode(
                readonly(some.vectors), some.offsets, panels, self.repetitions, self.simhash_bits, self.width,
                of_documents, self.fill_empty, buckets, signs, made,
            )  # fmt: skip
            if made.dtype != wanted:
                out[part] = _as_halves(made)

        pool.run(run, pool.slices(len(sets), -(-len(sets) // _SETS_A_TASK)), workers)
        return out

    @cached_property
    def matrix(self) -> np.ndarray:
        """The matrix (rows, d) float32 that multiplies vectors: all hyperplanes, then the repetitions' projections."""
        planes, projections = [], []
        for repetition in range(self.repetitions):
            # NumPy promises that the numbers of this generator never change; it does not promise that for newer ones.
            random = np.random.RandomState((self.seed + 0x9E3779B1 * repetition) % (1 << 32))
            normal = random.standard_normal((self.simhash_bits, self.dim))
            planes.append(np.round(normal * _GRID) / _GRID)
            if self.projection_dim is None:
                projections.append(np.eye(self.dim))
            else:
                signs = 2.0 * random.randint(0, 2, (self.projection_dim, self.dim)) - 1.0
                projections.append(signs / np.sqrt(self.projection_dim))
        return np.concatenate(planes + projections).astype(np.float32)

    @cached_property
    def sketch(self) -> tuple[np.ndarray, np.ndarray]:
        """The place (numbers,) int64 and sign float32 of every number in the final encoding; empty without a sketch."""
        if self.final_dim is None:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        random = np.random.RandomState((self.seed + 0x85EBCA6B) % (1 << 32))
        places = random.randint(0, self.final_dim, self._numbers).astype(np.int64)
        return places, (2.0 * random.randint(0, 2, self._numbers) - 1.0).astype(np.float32)


def _as_halves(made: np.ndarray) -> np.ndarray:
    """Return encodings as float16 (NonFiniteError)."""
    if np.abs(made).max(initial=0) > np.finfo(np.float16).max:
        raise NonFiniteError("encodings beyond float16's range: ask for float32, or scale the vectors")
    return made.astype(np.float16)


def _as_float(dtype: Any) -> np.dtype:
    """Return the dtype of encodings; ParameterError for anything but float32 and float16."""
    try:
        wanted = np.dtype(dtype)
    except (TypeError, ValueError):
        wanted = None
    if wanted not in (np.float32, np.float16):
        raise ParameterError(f"dtype {dtype!r}: expected float32 or float16")
    return wanted
