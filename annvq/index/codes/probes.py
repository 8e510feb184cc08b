"""The lists that a block of queries searches, and the share of them that one thread scans."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from annvq.arrays import frozen
from annvq.codebooks import ProductCodebook
from annvq.kernels.registers.tiles import readonly
from annvq.kernels.scan import scan4
from annvq.kernels.scan.coarse import ByteCentroids, Coarse, CodedCentroids, ExactCentroids, probe
from annvq.kernels.scan.lists import PackedCodes, Visits, blocks_for, part_of
from annvq.kernels.vectors import bytematrix, gemm
from annvq.kernels.vectors.dots import squared_norms


def coarse_of(
    centroids: np.ndarray, l2: bool, codebook: ProductCodebook | None = None, *, in_bytes: bool = False
) -> Coarse:
    """Prepare centroids (nlist, d) float32 for choosing lists; ``codebook`` codes them if there are many.

    Under "l2" and ``in_bytes``, centroids and queries are shifted by the mean centroid, so that data far from the
    origin lose no precision.
    """
    coded, keys = _NOT_CODED, frozen(np.arange(len(centroids)))
    if codebook is not None:
        offsets = np.array([0, len(centroids)])
        packed = frozen(scan4.pack(codebook.encode(centroids), offsets))
        blocks = frozen(blocks_for(np.diff(offsets)))
        codes = _NO_CODES._replace(packed=packed, offsets=frozen(offsets), block_offsets=blocks)
        coded = CodedCentroids(frozen(centroids.reshape(-1)), codebook.transposed, codes)
    mean = frozen(centroids.mean(axis=0, dtype=np.float64).astype(np.float32))
    moved = centroids - mean
    squares = squared_norms(moved) if l2 else np.empty(0, np.float32)
    shift = mean if l2 else np.zeros_like(mean)
    exact = ExactCentroids(gemm.pack(moved if l2 else centroids), frozen(shift), frozen(squares))
    levels = NOT_IN_BYTES
    if in_bytes:  # <q, c> = <q - m, c - m> + <c, m> + <q - m, m>
        adds = -squares if l2 else gemm.products(centroids, gemm.pack(mean[None]), 1)[:, 0]
        levels = ByteCentroids(mean, bytematrix.pack(np.ascontiguousarray(moved.T), adds), l2)
    return Coarse(exact, coded, levels, keys)


_FLOATS, _BYTES, _WORDS = (frozen(np.empty(0, dtype)) for dtype in (np.float32, np.uint8, np.int64))
_NO_CODES = PackedCodes(_BYTES, _WORDS, _WORDS, _FLOATS, _BYTES, frozen(np.empty(0, np.uint32)), 0)
NO_MATRIX = bytematrix.ByteMatrix(_BYTES, frozen(np.empty(0, np.int32)), _FLOATS, _FLOATS)
NOT_IN_BYTES = ByteCentroids(_FLOATS, NO_MATRIX, False)
_NOT_CODED = CodedCentroids(_FLOATS, frozen(np.empty((0, 0, 0), np.float32)), _NO_CODES)


@dataclass(frozen=True)
class Probes:
    """The lists of a block of queries.

    ``lists (nq, nlist) int64``, nearest first, of which the first ``counts (nq,) int64`` are probed;
    ``centroid_scores (nq, nlist) float32``, larger is closer, are valid only for those, and are ``(nq, 0)`` for
    an index without centroids.
    """

    lists: np.ndarray
    counts: np.ndarray
    centroid_scores: np.ndarray
    part: int = 0
    parts: int = 1

    @classmethod
    def everything(cls, nq: int) -> Probes:
        """Probe the one list of an index without centroids."""
        return cls(np.zeros((nq, 1), np.int64), np.ones(nq, np.int64), np.empty((nq, 0), np.float32))

    @classmethod
    def choose(cls, queries: np.ndarray, coarse: Coarse, nprobe: int, need: int, live: np.ndarray) -> Probes:
        """Choose the ``nprobe`` nearest lists, and more until they hold ``need`` of the rows ``live (nlist,)``."""
        lists, counts, scores = probe(readonly(queries), coarse, live, nprobe, need)
        return cls(lists, counts, scores)

    @property
    def visits(self) -> Visits:
        """The probes as kernels take them."""
        return Visits(self.lists, self.counts, self.part, self.parts)

    def split(self, parts: int) -> list[Probes]:
        """Return ``parts`` probes that together scan what this one does."""
        return [replace(self, part=part, parts=parts) for part in range(parts)]

    def rows_of_part(self, n: int) -> tuple[int, int]:
        """Return this part's first and last row in a list of ``n`` rows."""
        return part_of(n, self.part, self.parts)
