"""RaBitQ codes in lists: estimates of scores with bounds, from bit planes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from annvq.codebooks import RaBitQCodebook
from annvq.codebooks.rabitq import PreparedQueries
from annvq.index.codes.pools import Pools
from annvq.index.codes.probes import Probes
from annvq.index.rows.segment import Segment
from annvq.kernels.scan import scanbits
from annvq.kernels.vectors.dots import squared_norms


@dataclass(frozen=True)
class PreparedProbes:
    """Prepared queries, and what each list adds: ``bases`` and ``distances`` (nq, nlist) float32."""

    queries: PreparedQueries
    bases: np.ndarray
    distances: np.ndarray

    @property
    def kernel_arrays(self) -> tuple[np.ndarray, ...]:
        """The queries' arrays in the order in which kernels take them."""
        queries = self.queries
        return queries.planes, queries.high, queries.low, queries.factors, queries.totals


@dataclass(frozen=True)
class RaBitQCodes:
    """How differences from the lists' centroids are coded and scanned; ``metric`` is "ip" or "l2"."""

    codebook: RaBitQCodebook
    metric: str
    centroids: np.ndarray

    copies = 1  # how often a scan may find a row
    scan_is_final = True

    def layout(self, rows: int, blocks: int) -> dict[str, tuple[type, tuple[int, ...]]]:
        """Return dtype and shape of the sections of a segment of so many rows."""
        plane = self.codebook.padded_dim // 8
        return {
            "codes1": (np.uint8, (rows, plane)),
            "codes_ex": (np.uint8, (rows, (self.codebook.bits - 1) * plane)),
            "factors": (np.float32, (rows, self.codebook.factor_columns)),
        }

    def pool_depth(self, k: int) -> int:
        """Return how many rows a scan must keep for the k best: its scores are final."""
        return k

    def encode(self, vectors: np.ndarray, labels: np.ndarray, threads: int) -> dict[str, np.ndarray]:
        """Code vectors (n, d) float32 of the lists ``labels`` (n,)."""
        residuals = vectors - self.centroids[labels]
        return self.codebook.encode_trusted(residuals, self.centroids, labels, self.metric, threads=threads)

    def completed(self, arrays: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, np.ndarray]:
        """Return rows that were made elsewhere as they are: nothing goes with them."""
        return arrays

    def pack(self, arrays: dict[str, np.ndarray], offsets: np.ndarray) -> dict[str, np.ndarray]:
        """Return the rows as they are: planes are kept by row."""
        return arrays

    def unpack(self, segment: Segment, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return some rows (int64) of a segment's sections."""
        return {name: segment.arrays[name][rows] for name in self.layout(0, 0)}

    def decode(self, arrays: dict[str, np.ndarray], labels: np.ndarray) -> np.ndarray:
        """Return vectors (n, d) float32 of unpacked rows of the lists ``labels`` (n,)."""
        return self.codebook.decode_trusted(arrays, self.metric) + self.centroids[labels]

    def prepare(self, queries: np.ndarray, probes: Probes) -> PreparedProbes:
        """Rotate and quantize queries (nq, d), and measure their distances to the centroids."""
        bases = probes.centroid_scores
        if self.metric == "l2":
            squares = -bases
        else:
            norms = squared_norms(queries)[:, None] + squared_norms(self.centroids)[None]
            squares = norms - np.float32(2) * bases
        distances = np.sqrt(np.maximum(squares, np.float32(0)))
        return PreparedProbes(self.codebook.prepare_trusted(queries), bases, distances)

    def scan(self, prepared: PreparedProbes, segment: Segment, probes: Probes, pools: Pools, keys: np.ndarray) -> None:
        """Scan the probed lists of a segment into the pools."""
        scanbits.scan_lists(
            *self._rows(segment), *prepared.kernel_arrays, segment.offsets, probes.lists, probes.counts,
            prepared.bases, prepared.distances, segment.allow, probes.part, probes.parts, segment.base,
            pools.scores, pools.rows, pools.counts, pools.thresholds, pools.keep, keys,
        )  # fmt: skip

    def rescore(self, prepared: PreparedProbes, segment: Segment, pools: Pools) -> None:
        """Replace the pooled scores of the segment's rows by the scan's estimates."""
        scanbits.rescore(
            *self._rows(segment), *prepared.kernel_arrays, segment.offsets, prepared.bases, prepared.distances,
            segment.base, pools.scores, pools.rows, pools.counts,
        )  # fmt: skip

    @staticmethod
    def _rows(segment: Segment) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return segment.arrays["codes1"], segment.arrays["codes_ex"], segment.arrays["factors"]
