"""Rows that are kept exactly or nearly so: as float32, float16 or 8-bit scalars.

The same store serves as the codes of a flat index and as the refine store behind any other codes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from annvq.arrays import frozen
from annvq.codebooks import ScalarCodebook
from annvq.errors import NonFiniteError
from annvq.index.codes.byrow import ByRow
from annvq.index.codes.kind import Fields, Layout, Section
from annvq.index.codes.localrows import NO_LOCAL_ROWS
from annvq.index.codes.pools import Pools
from annvq.index.codes.probes import Probes
from annvq.index.rows.segment import Segment
from annvq.kernels.scan import pipeline, scanflat, scanscalar
from annvq.kernels.vectors.dots import Store, padded

_NOTHING = frozen(np.empty(0, np.float32))
_DTYPES = {"fp32": np.float32, "fp16": np.float16, "sq8": np.uint8}


def row_layout(kind: str, dim: int, section: str) -> Layout:
    """Return the section of rows of ``dim`` numbers: fp32, fp16 or sq8."""
    return {section: Section(_DTYPES[kind], dim)}


@dataclass(frozen=True)
class RowStore(ByRow):
    """How rows of ``dim`` numbers are kept (``kind``: fp32, fp16, sq8) in one section of a segment."""

    kind: str
    dim: int
    l2: bool
    section: str
    scalar: ScalarCodebook | None = None

    @property
    def sections(self) -> tuple[str, ...]:
        """The one section of the rows."""
        return (self.section,)

    def encode(self, vectors: np.ndarray, labels: np.ndarray, threads: int) -> dict[str, np.ndarray]:
        """Return the rows to store for float32 vectors (n, d); values beyond float16's range raise NonFiniteError."""
        return {self.section: self._rows(vectors, threads)}

    def _rows(self, vectors: np.ndarray, threads: int) -> np.ndarray:
        if self.kind == "sq8":
            assert self.scalar is not None
            return self.scalar.encode_trusted(vectors, threads=threads)
        if self.kind == "fp32":
            return vectors
        with np.errstate(over="ignore"):
            rows = vectors.astype(np.float16)
        if not np.isfinite(rows).all():
            largest = float(np.abs(vectors).max())
            raise NonFiniteError(f"float16 holds values up to 65504, the largest given is {largest:g}: use fp32")
        return rows

    def decode(self, arrays: dict[str, np.ndarray], labels: np.ndarray) -> np.ndarray:
        """Return unpacked rows (n, d) as float32."""
        rows = arrays[self.section]
        if self.kind == "sq8":
            assert self.scalar is not None
            return self.scalar.decode_trusted(np.ascontiguousarray(rows))
        return rows.astype(np.float32)

    def prepare(self, queries: np.ndarray, probes: Probes) -> np.ndarray:
        """Return the queries (nq, d), padded for the kernels."""
        return padded(queries)

    def scan(self, queries: np.ndarray, segment: Segment, probes: Probes, pools: Pools, keys: np.ndarray) -> None:
        """Scan the probed lists of a segment for prepared queries into the pools."""
        kernels, rows = scanflat, (self.store(segment),)
        if self.kind == "sq8" and self.dim >= scanscalar.LEAST_DIM:
            kernels, rows = scanscalar, (*rows, self._norms(segment))
        allowed, target = (segment.allow, segment.base), (pools.candidates, pools.keep, keys)
        if len(segment.offsets) == 2:  # a single list: every query reads all rows, in cached blocks
            kernels.scan_all(queries, *rows, self.l2, *probes.rows_of_part(segment.n), *allowed, *target)
        else:
            kernels.scan_lists(queries, *rows, self.l2, segment.offsets, *allowed, probes.visits, *target)

    def _norms(self, segment: Segment) -> np.ndarray:
        """Return the numbers per row that `annvq.kernels.scan.scanscalar` finds and keeps, (n,) float32, or none."""
        found = segment.found.get(self.section)
        if found is None:  # of threads that come here at once, all take the same array
            found = segment.found.setdefault(self.section, np.zeros(segment.n if self.l2 else 0, np.float32))
        return found

    def rescore(self, queries: np.ndarray, segment: Segment, pools: Pools) -> None:
        """Replace the pooled scores of the segment's rows by scores of the stored rows; ``queries (nq, d)``."""
        scanflat.rescore(padded(queries), self.store(segment), self.l2, segment.base, pools.candidates)

    def narrow(self, queries: np.ndarray, segments: Sequence[Segment], pools: Pools, k: int, keys: np.ndarray) -> None:
        """Drop nothing: all candidates are scored with all that is stored."""

    def refined(self, segment: Segment) -> pipeline.Refined:
        """Return a segment's rows as the kernel of a whole search takes them."""
        return pipeline.Refined(self.store(segment), NO_LOCAL_ROWS)

    def fused(self, searched: pipeline.Searched, segment: Segment) -> None:
        """Return None: rows are searched stage by stage."""

    def store(self, segment: Segment) -> Store:
        """Return a segment's rows as kernels take them."""
        rows = segment.arrays[self.section]
        flat = (rows.view(np.uint16) if self.kind == "fp16" else rows).reshape(-1)
        return Store(flat, self.dim, *self.affine)

    @cached_property
    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """The minimum and step per dimension of 8-bit rows, padded for the kernels; empty for floats."""
        if self.scalar is None:
            return _NOTHING, _NOTHING
        return frozen(padded(self.scalar.minimum)), frozen(padded(self.scalar.step))


@dataclass(frozen=True)
class RowKind:
    """The kinds "fp32", "fp16" and "sq8": rows of numbers of ``bits`` bits, which factory strings call ``text``."""

    name: str
    bits: int
    text: str

    defaults = MappingProxyType({})
    nbits = ()
    splits_dimensions = False
    rotates_itself = False
    needs_centre = False
    is_graph = False

    @property
    def codebook(self) -> type[ScalarCodebook] | None:
        """The class of what is learned: the range of numbers that are coded in 8 bits."""
        return ScalarCodebook if self.name == "sq8" else None

    def is_centered(self, spec: Fields) -> bool:
        """Return False, because rows keep their numbers wherever they lie."""
        return False

    def layout(self, spec: Fields, d: int, l2: bool, spill: bool) -> Layout:
        """Return the section of d numbers."""
        return row_layout(self.name, d, "codes")

    def telling_bytes(self, spec: Fields, d: int) -> int:
        """Return the bytes of d numbers."""
        return self.bits // 8 * d

    def train(
        self, spec: Fields, rows: np.ndarray, centroids: np.ndarray | None, metric: str, *, seed: int, threads: int
    ) -> ScalarCodebook | None:
        """Learn the least and the largest number of every dimension if they are coded in 8 bits."""
        return ScalarCodebook.train(rows, kind=self.name) if self.codebook is not None else None

    def mismatch(self, spec: Fields, codebook: ScalarCodebook | None) -> str | None:
        """Return how the codebook's levels or bits differ from the recipe's."""
        if codebook is None or codebook.kind == self.name:
            return None
        return f"of kind {self.name!r} with a codebook of kind {codebook.kind!r}"

    def codes(
        self, spec: Fields, codebook: Any, dim: int, metric: str, centroids: np.ndarray | None, spill: bool
    ) -> RowStore:
        """Return the store of the rows."""
        return RowStore(self.name, dim, metric == "l2", "codes", codebook)

    @property
    def spelling(self) -> re.Pattern[str]:
        """The only spelling."""
        return re.compile(self.text)

    def read(self, found: re.Match[str], lists: bool) -> dict[str, Any]:
        """Return no fields."""
        return {}

    def spelled(self, spec: Fields) -> str:
        """Return the only spelling."""
        return self.text
