"""Which lists a block of queries searches, and which share of them one thread scans."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from annvq.kernels.coarse import choose_lists
from annvq.kernels.dots import padded, score_rows
from annvq.kernels.scan4 import part_of

_NOTHING = np.empty(0, np.float32)


@dataclass(frozen=True)
class Probes:
    """The lists of a block of queries.

    ``lists (nq, nlist) int64``, nearest first, of which ``counts (nq,) int64`` count;
    ``centroid_scores (nq, nlist) float32`` (larger is closer), ``(nq, 0)`` for an index without centroids.
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
    def choose(
        cls, queries: np.ndarray, centroids: np.ndarray, l2: bool, nprobe: int, need: int, live: np.ndarray
    ) -> Probes:
        """Choose the ``nprobe`` nearest lists and more until they hold ``need`` rows of ``live (nlist,)``."""
        nq, nlist = len(queries), len(centroids)
        scores = np.empty((nq, nlist), np.float32)
        score_rows(padded(queries), centroids.reshape(-1), centroids.shape[1], _NOTHING, _NOTHING, l2, scores)
        lists, counts = np.empty((nq, nlist), np.int64), np.empty(nq, np.int64)
        choose_lists(
            scores, live, nprobe, need, np.arange(nlist), np.empty(nlist, np.float32), np.empty(nlist, np.int64),
            lists, counts,
        )  # fmt: skip
        return cls(lists, counts, scores)

    def split(self, parts: int) -> list[Probes]:
        """Return ``parts`` probes that together scan what this one does."""
        return [replace(self, part=part, parts=parts) for part in range(parts)]

    def rows_of_part(self, n: int) -> tuple[int, int]:
        """Return this part's first and last row of a list of ``n`` rows."""
        return part_of(n, self.part, self.parts)
