"""Codes that are kept row by row as they were encoded: what these have in common."""

from __future__ import annotations

import numpy as np

from annvq.index.rows.segment import Segment


class ByRow:
    """`Codes` of which every section has a row per vector, and of which a scan's scores are final."""

    copies = 1
    scan_is_final = True
    followed = ()

    @property
    def sections(self) -> tuple[str, ...]:
        """The names of all sections."""
        raise NotImplementedError

    def pool_depth(self, k: int) -> int:
        """Return k: the scores of a scan are final."""
        return k

    def completed(self, arrays: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, np.ndarray]:
        """Return rows that were made elsewhere as they are, for nothing goes with them."""
        return arrays

    def pack(self, arrays: dict[str, np.ndarray], offsets: np.ndarray, threads: int) -> dict[str, np.ndarray]:
        """Return the rows as they are."""
        return arrays

    def unpack(self, segment: Segment, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return some rows (int64) of a segment's sections."""
        return {name: segment.arrays[name][rows] for name in self.sections}

    def relaid(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the arrays, whose layout is the same on all machines."""
        return arrays

    def check(self, arrays: dict[str, np.ndarray], n: int) -> dict[str, tuple[type, tuple[int, ...]]]:
        """Return nothing, because all sections are those that the kind states."""
        return {}

    def verify(self, arrays: dict[str, np.ndarray]) -> None:
        """Accept any values."""
