"""What the kinds "pq" and "rvq" have in common: M codes per row, each of 4 or 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from annvq.codebooks.accelerator import nearest_lists
from annvq.index.codes.kind import Fields, packed_codes
from annvq.index.codes.tablecodes import CODEBOOK_ROWS, TableCodes
from annvq.index.values import settled
from annvq.kernels.clusters.propose import byte_sites

_ROWS_FOR_4_BITS = 1 << 12  # vectors from which a codebook of 16 entries per sub-quantizer is learned


class TableKind:
    """Most of a `Kind` whose codes are scanned through look-up tables of M codes."""

    nbits = (4, 8)
    bits = 0
    rotates_itself = False
    needs_centre = False
    is_graph = False

    def telling_bytes(self, spec: Fields, d: int) -> int:
        """Return the bytes of the codes."""
        return packed_codes(settled(spec.M), settled(spec.nbits)).bytes_per_row

    def mismatch(self, spec: Fields, codebook: Any) -> str | None:
        """Return how the number and bits of the codes differ from the recipe's."""
        if (codebook.M, codebook.nbits) == (spec.M, spec.nbits):
            return None
        return f"of {spec.M} codes of {spec.nbits} bits with a codebook of {codebook.M} of {codebook.nbits}"

    def codes(
        self, spec: Fields, codebook: Any, dim: int, metric: str, centroids: np.ndarray | None, spill: bool
    ) -> TableCodes:
        """Return codes that are scanned through look-up tables."""
        return TableCodes(codebook, metric, spec.residual, codebook.M, codebook.nbits, centroids, spill)


def learned_from(
    spec: Fields, rows: np.ndarray, centroids: np.ndarray | None, threads: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return as many of the vectors (n, d) as codebooks learn from, and what is coded of these: they, or residuals."""
    most = _ROWS_FOR_4_BITS if spec.nbits == 4 else CODEBOOK_ROWS
    if len(rows) > most:
        rows = rows[np.arange(most) * len(rows) // most]  # of all, since vectors may come in an order
    if not spec.residual or centroids is None:
        return rows, rows
    return rows, rows - centroids[nearest_lists(rows, byte_sites(centroids), threads)]
