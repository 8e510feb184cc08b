"""RaBitQ codes in lists: estimates of scores with bounds, from bit planes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from annvq.arrays import frozen
from annvq.codebooks import RaBitQCodebook
from annvq.codebooks.rabitq import PreparedQueries, factor_columns
from annvq.index.codes.byrow import ByRow
from annvq.index.codes.kind import Fields, FusedSearch, Layout, Section
from annvq.index.codes.pools import Pools
from annvq.index.codes.probes import Probes
from annvq.index.rows.segment import Segment
from annvq.index.values import settled
from annvq.kernels.codes.bits import plane_words
from annvq.kernels.registers.tiles import readonly
from annvq.kernels.scan import pipeline, pipelinebits, scanbits
from annvq.kernels.vectors.dots import squared_norms
from annvq.kernels.vectors.hadamard import padded_dim

_NOTHING = frozen(np.empty(0, np.float32))
_SECTIONS = ("codes1", "codes_ex", "factors")


@dataclass(frozen=True)
class PreparedProbes:
    """Prepared queries, and each list's contribution: ``bases`` and ``distances`` (nq, nlist) float32."""

    queries: PreparedQueries
    bases: np.ndarray
    distances: np.ndarray


@dataclass(frozen=True)
class RaBitQCodes(ByRow):
    """How differences from the lists' centroids are coded and scanned; ``metric`` is "ip" or "l2"."""

    codebook: RaBitQCodebook
    metric: str
    centroids: np.ndarray

    @property
    def sections(self) -> tuple[str, ...]:
        """The names of the sections of the first bits, of the other bits, and of factors."""
        return _SECTIONS

    @cached_property
    def centroid_squares(self) -> np.ndarray:
        """The squared lengths of the centroids for inner products, or nothing."""
        return _NOTHING if self.metric == "l2" else frozen(squared_norms(self.centroids))

    def encode(self, vectors: np.ndarray, labels: np.ndarray, threads: int) -> dict[str, np.ndarray]:
        """Code vectors (n, d) float32 of the lists ``labels`` (n,)."""
        residuals = vectors - self.centroids[labels]
        return self.codebook.encode_trusted(residuals, self.centroids, labels, self.metric, threads=threads)

    def decode(self, arrays: dict[str, np.ndarray], labels: np.ndarray) -> np.ndarray:
        """Return vectors (n, d) float32 of unpacked rows of the lists ``labels`` (n,)."""
        return self.codebook.decode_trusted(arrays, self.metric) + self.centroids[labels]

    def prepare(self, queries: np.ndarray, probes: Probes) -> PreparedProbes:
        """Rotate and quantize queries (nq, d), and measure their distances to the centroids."""
        bases = probes.centroid_scores
        distances = np.empty_like(bases)
        scanbits.fill_distances(readonly(queries), bases, self.centroid_squares, probes.visits, distances)
        return PreparedProbes(self.codebook.prepare_trusted(queries), bases, distances)

    def scan(self, prepared: PreparedProbes, segment: Segment, probes: Probes, pools: Pools, keys: np.ndarray) -> None:
        """Scan the probed lists of a segment into the pools."""
        scanbits.scan_lists(
            self._codes(segment), prepared.queries, prepared.bases, prepared.distances, probes.visits,
            pools.candidates, pools.keep, keys,
        )  # fmt: skip

    def rescore(self, prepared: PreparedProbes, segment: Segment, pools: Pools) -> None:
        """Replace the pooled scores of the segment's rows by the scan's estimates."""
        scanbits.rescore(self._codes(segment), prepared.queries, prepared.bases, prepared.distances, pools.candidates)

    def fused(self, searched: pipeline.Searched, segment: Segment) -> FusedSearch:
        """Return the search of one segment in one kernel call."""
        tree = pipelinebits.SearchedBits(
            searched, self.codebook.signs, self.centroid_squares, plane_words(self.codebook.padded_dim),
            self._codes(segment),
        )  # fmt: skip
        return FusedSearch(pipelinebits.search_planned, pipeline.plan(searched, tree), tree)

    @staticmethod
    def _codes(segment: Segment) -> scanbits.BitCodes:
        arrays = segment.arrays
        return scanbits.BitCodes(
            arrays["codes1"], arrays["codes_ex"], arrays["factors"], segment.offsets, segment.allow, segment.base
        )


class RaBitQKind:
    """The kind "rabitq": 1 to 8 bits per dimension of randomly rotated vectors."""

    name = "rabitq"
    defaults = MappingProxyType({"nbits": 1, "residual": False})
    nbits = tuple(range(1, 9))
    splits_dimensions = False
    bits = 0
    codebook = RaBitQCodebook
    rotates_itself = True
    needs_centre = True
    is_graph = False
    spelling = re.compile(r"RaBitQ(?P<bits>[0-9]{1,9})?")

    def is_centered(self, spec: Fields) -> bool:
        """Return False, because codes are of differences from a centroid anyway."""
        return False

    def layout(self, spec: Fields, d: int, l2: bool, spill: bool) -> Layout:
        """Return the sections of the first bits, of the other bits, and of factors; d is padded to a multiple of 64."""
        bits, plane = settled(spec.nbits), padded_dim(d) // 8
        shapes = ((np.uint8, plane), (np.uint8, (bits - 1) * plane), (np.float32, factor_columns(bits)))
        return {name: Section(*shape) for name, shape in zip(_SECTIONS, shapes, strict=True)}

    def telling_bytes(self, spec: Fields, d: int) -> int:
        """Return the bytes of the bits of d dimensions."""
        return math.ceil(settled(spec.nbits) * d / 8)

    def train(
        self, spec: Fields, rows: np.ndarray, centroids: np.ndarray | None, metric: str, *, seed: int, threads: int
    ) -> RaBitQCodebook:
        """Choose a rotation; nothing is learned from the vectors but their dimension."""
        return RaBitQCodebook.train(rows, nbits=settled(spec.nbits), seed=seed)

    def mismatch(self, spec: Fields, codebook: RaBitQCodebook) -> str | None:
        """Return how the codebook's levels or bits differ from the recipe's."""
        if codebook.nbits == spec.nbits:
            return None
        return f"of {spec.nbits} bits a dimension with a codebook of {codebook.nbits}"

    def codes(
        self, spec: Fields, codebook: Any, dim: int, metric: str, centroids: np.ndarray | None, spill: bool
    ) -> RaBitQCodes:
        """Return codes of differences from the lists' centroids."""
        assert centroids is not None
        return RaBitQCodes(codebook, metric, centroids)

    def read(self, found: re.Match[str], lists: bool) -> dict[str, Any]:
        """Return the fields of "RaBitQ4"; codes behind lists are of residuals."""
        return {"nbits": int(found["bits"] or 1), "residual": lists}

    def spelled(self, spec: Fields) -> str:
        """Return "RaBitQ4" and the like."""
        return f"RaBitQ{spec.nbits}"
