"""Product codes of 4 bits as bytes, for `annvq.kernels.documents.chamfer.chamfer_of_codes`, and queries to match.

In every dimension the 16 values that a codebook has stand on 128 levels between the least and the largest,
v = middle + step (level - 64); a query's numbers, times the steps, are rounded to 8 bits with a scale of their own.
A product of the two is then an integer, exact on every instruction set. Levels stop at 127, so that two products
of neighbours fit 16 bits (AVX2's multiplication of bytes).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from annvq.codebooks import ProductCodebook
from annvq.kernels.registers.tiles import readonly
from annvq.kernels.vectors import gemm

_MOST, _MIDDLE = 127, 64
_TOGETHER = 4  # query vectors that the kernel takes at a time
_LEAST = np.float32(1e-36)  # its reciprocal is finite


@dataclass(frozen=True, eq=False)
class QueryBytes:
    """A query's vectors (t, d) as `chamfer_of_codes` takes them: bytes, and by vector what a score is made of."""

    values: np.ndarray
    starts: np.ndarray
    scales: np.ndarray
    biases: np.ndarray


@dataclass(frozen=True, eq=False)
class Levels:
    """A codebook's entries as levels (width * 16,) uint8, and the step and middle of every dimension (width,) float32.

    Dimensions stand in an order of their own: for each group of four sub-quantizers, for each of the ``components``
    dimensions that one has, four dimensions, one of each. ``order`` (width,) says which; some may be beyond d.
    """

    levels: np.ndarray
    components: int
    order: np.ndarray
    steps: np.ndarray
    middles: np.ndarray  # (width,) float32

    @classmethod
    def of(cls, codebook: ProductCodebook) -> Levels:
        """Make them of a codebook with 16 entries."""
        M, ksub, dsub = codebook.codebooks.shape
        groups = -(-M // 4)
        entries = np.zeros((4 * groups, ksub, dsub), np.float32)
        entries[:M] = codebook.codebooks
        least = entries.min(axis=1, keepdims=True)
        steps = (entries.max(axis=1, keepdims=True) - least) / np.float32(_MOST)
        levels = np.rint((entries - least) / np.maximum(steps, _LEAST)).astype(np.uint8)
        middles = least + np.float32(_MIDDLE) * steps

        def arranged(values: np.ndarray) -> np.ndarray:  # (4 groups, k, dsub) to (groups, dsub, 4, k)
            return np.ascontiguousarray(values.reshape(groups, 4, -1, dsub).transpose(0, 3, 1, 2)).reshape(-1)

        order = np.arange(4 * groups * dsub).reshape(-1, 1, dsub)
        return cls(readonly(arranged(levels)), dsub, arranged(order), arranged(steps), arranged(middles))

    @cached_property
    def panels(self) -> np.ndarray:
        """The middles as `annvq.kernels.vectors.gemm.pack` lays them out."""
        return gemm.pack(self.middles[None])

    @property
    def by_entry(self) -> np.ndarray:
        """The levels as (M padded to a multiple of 4, 16, components) uint8."""
        by_group = self.levels.reshape(-1, self.components, 4, 16)
        return by_group.transpose(0, 2, 3, 1).reshape(-1, 16, self.components)

    def query(self, vectors: np.ndarray) -> QueryBytes:
        """Return a query's vectors (t, d) float32 as bytes."""
        count, width = len(vectors), len(self.order)
        rows = np.zeros((-(-count // _TOGETHER) * _TOGETHER, width), np.float32)
        padded = np.zeros((count, width), np.float32)
        padded[:, : vectors.shape[1]] = vectors
        rows[:count] = padded[:, self.order]
        biases = gemm.products(rows, self.panels, 1)[:, 0]
        scaled = rows * self.steps
        scales = np.abs(scaled).max(axis=1) / np.float32(_MOST)
        values = np.rint(scaled / np.maximum(scales, _LEAST)[:, None]).astype(np.int8)
        starts = -_MIDDLE * values.sum(axis=1, dtype=np.int32)
        return QueryBytes(readonly(values.view(np.uint8).reshape(-1)), starts, scales, np.ascontiguousarray(biases))
