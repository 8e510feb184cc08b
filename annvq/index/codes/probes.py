"""Which lists a block of queries searches, and which share of them one thread scans."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from annvq.arrays import frozen
from annvq.codebooks import ProductCodebook
from annvq.kernels.registers.tiles import readonly
from annvq.kernels.scan import coarse as coarse_kernels
from annvq.kernels.scan import scan4
from annvq.kernels.scan.lists import part_of
from annvq.kernels.vectors import gemm
from annvq.kernels.vectors.dots import squared_norms


@dataclass(frozen=True)
class Coarse:
    """Centroids (nlist, d) made ready for choosing lists.

    ``exact`` are panels, shift and squares, ``coded`` rows, codebooks and codes as `annvq.kernels.scan.coarse.probe`
    takes them. Under "l2" centroids and queries are shifted by the mean centroid, so that data far from the
    origin keep their digits.
    """

    exact: tuple[np.ndarray, np.ndarray, np.ndarray]
    coded: tuple[np.ndarray, np.ndarray, np.ndarray]
    keys: np.ndarray

    @classmethod
    def of(cls, centroids: np.ndarray, l2: bool, codebook: ProductCodebook | None = None) -> Coarse:
        """Prepare centroids (nlist, d) float32; ``codebook`` codes them where there are many."""
        coded, keys = _NOT_CODED, frozen(np.arange(len(centroids)))
        if codebook is not None:
            packed = scan4.pack(codebook.encode(centroids), np.array([0, len(centroids)]))
            coded = (frozen(centroids.reshape(-1)), codebook.transposed, frozen(packed))
        shift, squares = np.zeros(centroids.shape[1], np.float32), np.empty(0, np.float32)
        if l2:
            shift = centroids.mean(axis=0, dtype=np.float64).astype(np.float32)
            centroids = centroids - shift
            squares = squared_norms(centroids)
        return cls((gemm.pack(centroids), frozen(shift), frozen(squares)), coded, keys)


_NOT_CODED = (frozen(np.empty(0, np.float32)), frozen(np.empty((0, 0, 0), np.float32)), frozen(np.empty(0, np.uint8)))


@dataclass(frozen=True)
class Probes:
    """The lists of a block of queries.

    ``lists (nq, nlist) int64``, nearest first, of which ``counts (nq,) int64`` count;
    ``centroid_scores (nq, nlist) float32``, larger is closer, are only those of the chosen; ``(nq, 0)`` for an
    index without centroids.
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
        """Choose the ``nprobe`` nearest lists and more until they hold ``need`` rows of ``live (nlist,)``."""
        lists, counts, scores = coarse_kernels.probe(
            readonly(queries), coarse.exact, coarse.coded, live, nprobe, need, coarse.keys
        )
        return cls(lists, counts, scores)

    def split(self, parts: int) -> list[Probes]:
        """Return ``parts`` probes that together scan what this one does."""
        return [replace(self, part=part, parts=parts) for part in range(parts)]

    def rows_of_part(self, n: int) -> tuple[int, int]:
        """Return this part's first and last row of a list of ``n`` rows."""
        return part_of(n, self.part, self.parts)
