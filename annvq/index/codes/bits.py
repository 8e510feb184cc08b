"""The kind "bits": packed bits, compared by Hamming distance.

To everything else in an index, a vector of bits is one of floats that are 0 or 1, whose squared distances are Hamming
distances; only here are they packed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from annvq.errors import CorruptIndexError
from annvq.index.codes.byrow import ByRow
from annvq.index.codes.kind import Fields, Layout, Section
from annvq.index.codes.pools import Pools
from annvq.index.codes.probes import Probes
from annvq.index.rows.segment import Segment
from annvq.kernels.codes.bits import plane_words
from annvq.kernels.scan import pipeline, scanhamming

_WORD = 8  # bytes, to a multiple of which rows are padded


def _width(dim: int) -> int:
    """Return the bytes of a row of ``dim`` bits."""
    return -(-dim // (8 * _WORD)) * _WORD


def _packed(vectors: np.ndarray, width: int) -> np.ndarray:
    """Return vectors (n, d) of 0 and 1 as bits, (n, width) uint8, the first of a byte in its highest bit."""
    bits = np.packbits(vectors > 0.5, axis=1)
    packed = np.zeros((len(vectors), width), np.uint8)
    packed[:, : bits.shape[1]] = bits
    return packed


@dataclass(frozen=True)
class PackedBits(ByRow):
    """How rows of ``dim`` bits are kept and scanned."""

    dim: int

    @property
    def sections(self) -> tuple[str, ...]:
        """The one section of the rows."""
        return ("codes",)

    @property
    def width(self) -> int:
        """The bytes of a row."""
        return _width(self.dim)

    def verify(self, arrays: dict[str, np.ndarray]) -> None:
        """Raise CorruptIndexError if padding holds bits, which a scan would count."""
        if arrays["codes"][:, self.dim // 8 :].any():
            raise CorruptIndexError("section codes holds bits beyond the dimension")

    def encode(self, vectors: np.ndarray, labels: np.ndarray, threads: int) -> dict[str, np.ndarray]:
        """Return vectors (n, d) float32 of 0 and 1 as packed bits."""
        return {"codes": _packed(vectors, self.width)}

    def decode(self, arrays: dict[str, np.ndarray], labels: np.ndarray) -> np.ndarray:
        """Return unpacked rows (n, d) float32, of 0 and 1."""
        return np.unpackbits(arrays["codes"], axis=1, count=self.dim).astype(np.float32)

    def prepare(self, queries: np.ndarray, probes: Probes) -> np.ndarray:
        """Return the bits of queries (nq, d) float32 as words, as the kernels take them."""
        return _packed(queries, _WORD * plane_words(self.dim)).view(np.uint64)

    def scan(self, queries: np.ndarray, segment: Segment, probes: Probes, pools: Pools, keys: np.ndarray) -> None:
        """Scan the probed lists of a segment for prepared queries into the pools."""
        codes, given = segment.arrays["codes"], (segment.allow, segment.base)
        if len(segment.offsets) == 2:  # a single list: every query reads all rows, in cached blocks
            begin, end = probes.rows_of_part(segment.n)
            scanhamming.scan_all(queries, codes, begin, end, *given, pools.candidates, pools.keep, keys)
        else:
            scanhamming.scan_lists(
                queries, codes, segment.offsets, *given, probes.visits, pools.candidates, pools.keep, keys
            )

    def rescore(self, queries: np.ndarray, segment: Segment, pools: Pools) -> None:
        """Replace the pooled scores of the segment's rows by minus their distances."""
        scanhamming.rescore(queries, segment.arrays["codes"], segment.base, pools.candidates)

    def fused(self, searched: pipeline.Searched, segment: Segment) -> None:
        """Return None: rows are searched stage by stage."""


class BitsKind:
    """Bits as they are given, for metric "hamming"; `annvq.index.recipe.Recipe.resolve` puts it in place of "fp32"."""

    name = "bits"
    defaults = MappingProxyType({})
    nbits = ()
    splits_dimensions = False
    bits = 32  # nothing is lost, so that no refine store improves anything
    codebook = None
    rotates_itself = False
    needs_centre = False
    is_graph = False
    spelling = re.compile("BFlat")

    def is_centered(self, spec: Fields) -> bool:
        """Return False, because bits stay as they are."""
        return False

    def layout(self, spec: Fields, d: int, l2: bool, spill: bool) -> Layout:
        """Return the section of d bits, padded to a multiple of 64."""
        return {"codes": Section(np.uint8, _width(d))}

    def telling_bytes(self, spec: Fields, d: int) -> int:
        """Return the bytes of d bits."""
        return -(-d // 8)

    def train(
        self, spec: Fields, rows: np.ndarray, centroids: np.ndarray | None, metric: str, *, seed: int, threads: int
    ) -> None:
        """Learn nothing."""

    def mismatch(self, spec: Fields, codebook: Any) -> None:
        """Return None, for there is no codebook."""

    def codes(
        self, spec: Fields, codebook: Any, dim: int, metric: str, centroids: np.ndarray | None, spill: bool
    ) -> PackedBits:
        """Return the store of the rows."""
        return PackedBits(dim)

    def read(self, found: re.Match[str], lists: bool) -> dict[str, Any]:
        """Return no fields."""
        return {}

    def spelled(self, spec: Fields) -> str:
        """Return "BFlat"."""
        return "BFlat"
