"""Refine stores of locally adaptive rows (`annvq.kernels.vectors.lvq`): 8 or 16 bits per dimension, nothing learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from annvq.arrays import frozen
from annvq.index.codes.kind import Layout, Section
from annvq.index.codes.pools import Pools
from annvq.index.rows.segment import Segment
from annvq.kernels import threads as pool
from annvq.kernels.registers.tiles import readonly
from annvq.kernels.scan import pipeline
from annvq.kernels.vectors import lvq
from annvq.kernels.vectors.dots import Store

_SECTION = "refine"
_ROWS_PER_TASK = 1024
_FLOATS, _BYTES = frozen(np.empty(0, np.float32)), frozen(np.empty(0, np.uint8))
_NO_STORE = Store(_FLOATS, 0, _FLOATS, _FLOATS)
NO_LOCAL_ROWS = lvq.LocalRows(_BYTES, 0, 0, 1, _FLOATS)
NOT_REFINED = pipeline.Refined(_NO_STORE, NO_LOCAL_ROWS)


def local_layout(dim: int, l2: bool, levels: int) -> Layout:
    """Return the section of rows of ``dim`` numbers in codes of one level (8 bits) or two (16 bits)."""
    return {_SECTION: Section(np.uint8, _head(l2) + levels * dim)}


def _head(l2: bool) -> int:
    return lvq.HEAD_WITH_SQUARE if l2 else lvq.HEAD


@dataclass(frozen=True)
class LocalRowStore:
    """How rows of ``dim`` numbers, less their ``mean`` (dim,) float32, are kept in codes of one or two levels."""

    dim: int
    l2: bool
    levels: int
    mean: np.ndarray

    def encode(self, vectors: np.ndarray, labels: np.ndarray, threads: int) -> dict[str, np.ndarray]:
        """Return the codes of float32 vectors (n, d)."""
        rows = np.empty((len(vectors), _head(self.l2) + self.levels * self.dim), np.uint8)

        def fill(part: slice) -> None:
            lvq.encode_rows(readonly(vectors[part]), self.mean, rows[part], _head(self.l2))

        pool.run(fill, pool.slices(len(vectors), -(-len(vectors) // _ROWS_PER_TASK)), threads)
        return {_SECTION: rows}

    def decode(self, arrays: dict[str, np.ndarray], labels: np.ndarray) -> np.ndarray:
        """Return unpacked rows (n, d) as float32."""
        decoded = np.empty((len(arrays[_SECTION]), self.dim), np.float32)
        lvq.decode_rows(self._local(arrays), np.arange(len(decoded)), decoded)
        return decoded

    def unpack(self, segment: Segment, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return some rows (int64) of a segment."""
        return {_SECTION: segment.arrays[_SECTION][rows]}

    def refined(self, segment: Segment) -> pipeline.Refined:
        """Return a segment's rows as kernels take them."""
        return pipeline.Refined(_NO_STORE, self._local(segment.arrays))

    def narrow(self, queries: np.ndarray, segments: Sequence[Segment], pools: Pools, k: int, keys: np.ndarray) -> None:
        """Leave only so many rows in the pools as may be among the best k, by the first level of their codes."""
        for segment in segments:
            lvq.propose(readonly(queries), self._local(segment.arrays), self.l2, segment.base, pools.candidates)
        pools.keep = min(pools.keep, lvq.finalists(k))
        pools.cut(keys)

    def rescore(self, queries: np.ndarray, segment: Segment, pools: Pools) -> None:
        """Replace the pooled scores of the segment's rows by scores of the stored rows; ``queries (nq, d)``."""
        lvq.rescore(readonly(queries), self._local(segment.arrays), self.l2, segment.base, pools.candidates)

    def _local(self, arrays: dict[str, np.ndarray]) -> lvq.LocalRows:
        return lvq.LocalRows(frozen(arrays[_SECTION]).reshape(-1), self.dim, _head(self.l2), self.levels, self.mean)
