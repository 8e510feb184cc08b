"""The kind "pq": product codes of 4 or 8 bits, of vectors or of residuals."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Any

import numpy as np

from annvq.codebooks import ProductCodebook
from annvq.codebooks.anisotropic import eta_from_threshold
from annvq.errors import RecipeError
from annvq.index.codes.kind import Fields, Layout
from annvq.index.codes.tablecodes import table_layout
from annvq.index.codes.tablekind import TableKind, learned_from
from annvq.index.values import settled


class ProductKind(TableKind):
    """M sub-quantizers, each for dimensions of its own."""

    name = "pq"
    defaults = MappingProxyType({"M": None, "nbits": 8, "residual": False, "score_aware": None})
    splits_dimensions = True
    codebook = ProductCodebook
    spelling = re.compile(r"PQ(?P<M>[0-9]{1,9})(?:x(?P<nbits>[0-9]{1,9}))?(?P<fastscan>fsr?)?")

    def is_centered(self, spec: Fields) -> bool:
        """Return whether codes are of residuals."""
        return spec.residual

    def layout(self, spec: Fields, d: int, l2: bool, spill: bool) -> Layout:
        """Return the sections of M codes, a constant of residuals under "l2", and second codes."""
        return table_layout(settled(spec.M), settled(spec.nbits), l2 and spec.residual, spill)

    def train(
        self, spec: Fields, rows: np.ndarray, centroids: np.ndarray | None, metric: str, *, seed: int, threads: int
    ) -> ProductCodebook:
        """Learn entries for vectors or residuals, which for inner products may weight the parallel error more."""
        rows, targets = learned_from(spec, rows, centroids, threads)
        eta = None
        if spec.score_aware is not None and metric != "l2":
            eta = eta_from_threshold(spec.score_aware, rows.shape[1])
        directions = rows if eta is not None else None
        return ProductCodebook.train(
            targets, M=settled(spec.M), nbits=settled(spec.nbits), anisotropic_eta=eta, directions=directions,
            seed=seed, threads=threads,
        )  # fmt: skip

    def read(self, found: re.Match[str], lists: bool) -> dict[str, Any]:
        """Return the fields of "PQ32x4fsr" and the like; codes behind lists are of residuals, except those of "fs"."""
        if found["fastscan"] and found["nbits"] != "4":
            raise RecipeError(f"fast scan is for 4-bit codes: write PQ{found['M']}x4{found['fastscan']}")
        if found["fastscan"] == "fsr" and not lists:
            raise RecipeError(f"{found[0]!r} codes residuals and needs lists: add IVF, or use PQ{found['M']}x4fs")
        residual = lists and found["fastscan"] != "fs"
        return {"M": int(found["M"]), "nbits": int(found["nbits"] or 8), "residual": residual}

    def spelled(self, spec: Fields) -> str:
        """Return "PQ32x8", or "PQ32x4fs" and "PQ32x4fsr" for 4 bits."""
        if spec.nbits == 4:
            return f"PQ{spec.M}x4fs" + ("r" if spec.residual else "")
        return f"PQ{spec.M}x{spec.nbits}"
