"""The kind "rvq": codes of several stages, each of which codes what the stages before it left."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Any

import numpy as np

from annvq.codebooks import ResidualCodebook
from annvq.index.codes.kind import Fields, Layout, packed_codes
from annvq.index.codes.tablecodes import TableCodes, codes_mismatch, residuals, rows_to_learn_from, table_layout
from annvq.index.values import settled


class ResidualKind:
    """M stages of 4 or 8 bits, encoded by a beam search."""

    name = "rvq"
    defaults = MappingProxyType({"M": None, "nbits": 8, "residual": False, "beam": 5})
    nbits = (4, 8)
    splits_dimensions = False
    bits = 0
    codebook = ResidualCodebook
    rotates_itself = False
    needs_centre = False
    spelling = re.compile(r"RQ(?P<M>[0-9]{1,9})(?:x(?P<nbits>[0-9]{1,9}))?")

    def is_centered(self, spec: Fields) -> bool:
        """Return True, so that the first stage need not spend its entries on the mean."""
        return True

    def layout(self, spec: Fields, d: int, l2: bool, spill: bool) -> Layout:
        """Return the sections of M codes, and a constant under "l2"."""
        return table_layout(settled(spec.M), settled(spec.nbits), l2, spill)

    def telling_bytes(self, spec: Fields, d: int) -> int:
        """Return the bytes of the codes."""
        return packed_codes(settled(spec.M), settled(spec.nbits)).bytes_per_row

    def train(
        self, spec: Fields, rows: np.ndarray, centroids: np.ndarray | None, metric: str, *, seed: int, threads: int
    ) -> ResidualCodebook:
        """Learn the stages one after the other."""
        nbits = settled(spec.nbits)
        rows = rows[: rows_to_learn_from(nbits)]
        targets = residuals(rows, centroids, threads) if spec.residual and centroids is not None else rows
        return ResidualCodebook.train(
            targets, M=settled(spec.M), nbits=nbits, beam=settled(spec.beam), seed=seed, threads=threads
        )

    def mismatch(self, spec: Fields, codebook: ResidualCodebook) -> str | None:
        """Return how the number and bits of the codes differ from the recipe's."""
        return codes_mismatch(spec, codebook)

    def codes(
        self, spec: Fields, codebook: Any, dim: int, metric: str, centroids: np.ndarray | None, spill: bool
    ) -> TableCodes:
        """Return codes that are scanned through look-up tables."""
        return TableCodes(codebook, metric, spec.residual, codebook.M, codebook.nbits, centroids, spill)

    def read(self, found: re.Match[str], lists: bool) -> dict[str, Any]:
        """Return the fields of "RQ8x4"; codes behind lists are of residuals."""
        return {"M": int(found["M"]), "nbits": int(found["nbits"] or 8), "residual": lists}

    def spelled(self, spec: Fields) -> str:
        """Return "RQ8x4" and the like."""
        return f"RQ{spec.M}x{spec.nbits}"
