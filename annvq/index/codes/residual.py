"""The kind "rvq": codes of several stages, each of which codes what the stages before it left."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Any

import numpy as np

from annvq.codebooks import ResidualCodebook
from annvq.index.codes.kind import Fields, Layout
from annvq.index.codes.tablecodes import table_layout
from annvq.index.codes.tablekind import TableKind, learned_from
from annvq.index.values import settled


class ResidualKind(TableKind):
    """M stages of 4 or 8 bits, encoded by a beam search."""

    name = "rvq"
    defaults = MappingProxyType({"M": None, "nbits": 8, "residual": False, "beam": 5})
    splits_dimensions = False
    codebook = ResidualCodebook
    spelling = re.compile(r"RQ(?P<M>[0-9]{1,9})(?:x(?P<nbits>[0-9]{1,9}))?")

    def is_centered(self, spec: Fields) -> bool:
        """Return True, so that the first stage need not spend its entries on the mean."""
        return True

    def layout(self, spec: Fields, d: int, l2: bool, spill: bool) -> Layout:
        """Return the sections of M codes, and a constant under "l2"."""
        return table_layout(settled(spec.M), settled(spec.nbits), l2, spill)

    def train(
        self, spec: Fields, rows: np.ndarray, centroids: np.ndarray | None, metric: str, *, seed: int, threads: int
    ) -> ResidualCodebook:
        """Learn the stages one after the other."""
        _, targets = learned_from(spec, rows, centroids, threads)
        M, nbits, beam = settled(spec.M), settled(spec.nbits), settled(spec.beam)
        return ResidualCodebook.train(targets, M=M, nbits=nbits, beam=beam, seed=seed, threads=threads)

    def read(self, found: re.Match[str], lists: bool) -> dict[str, Any]:
        """Return the fields of "RQ8x4"; codes behind lists are of residuals."""
        return {"M": int(found["M"]), "nbits": int(found["nbits"] or 8), "residual": lists}

    def spelled(self, spec: Fields) -> str:
        """Return "RQ8x4" and the like."""
        return f"RQ{spec.M}x{spec.nbits}"
