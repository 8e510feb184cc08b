"""The kind "sq4": 16 levels in every dimension, scanned through look-up tables as product codes are."""

from __future__ import annotations

import math
import re
from types import MappingProxyType
from typing import Any

import numpy as np

from annvq.codebooks import ScalarCodebook
from annvq.index.codes.kind import Fields, Layout
from annvq.index.codes.tablecodes import TableCodes, table_layout


class Scalar4Kind:
    """A code of 4 bits for every dimension."""

    name = "sq4"
    defaults = MappingProxyType({})
    nbits = ()
    splits_dimensions = False
    bits = 4
    codebook = ScalarCodebook
    rotates_itself = False
    needs_centre = False
    is_graph = False
    spelling = re.compile("SQ4")

    def is_centered(self, spec: Fields) -> bool:
        """Return False, because levels are placed wherever the numbers lie."""
        return False

    def layout(self, spec: Fields, d: int, l2: bool, spill: bool) -> Layout:
        """Return the section of d codes."""
        return table_layout(d, 4, False, False)

    def telling_bytes(self, spec: Fields, d: int) -> int:
        """Return the bytes of d codes of 4 bits."""
        return math.ceil(d / 2)

    def train(
        self, spec: Fields, rows: np.ndarray, centroids: np.ndarray | None, metric: str, *, seed: int, threads: int
    ) -> ScalarCodebook:
        """Learn the least and the largest number of every dimension."""
        return ScalarCodebook.train(rows, kind=self.name)

    def mismatch(self, spec: Fields, codebook: ScalarCodebook) -> str | None:
        """Return how the codebook's levels or bits differ from the recipe's."""
        if codebook.kind == self.name:
            return None
        return f"of kind {self.name!r} with a codebook of kind {codebook.kind!r}"

    def codes(
        self, spec: Fields, codebook: Any, dim: int, metric: str, centroids: np.ndarray | None, spill: bool
    ) -> TableCodes:
        """Return codes that are scanned through look-up tables."""
        return TableCodes(codebook, metric, False, dim, 4)

    def read(self, found: re.Match[str], lists: bool) -> dict[str, Any]:
        """Return no fields."""
        return {}

    def spelled(self, spec: Fields) -> str:
        """Return "SQ4"."""
        return "SQ4"
