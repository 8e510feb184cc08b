"""RaBitQ codes on a device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from annvq.gpu.codes.kind import ResidentProbes, ResidentSegment, SlabVisits
from annvq.gpu.codes.rows import minus_squares
from annvq.gpu.hadamard import rotated_by_signs
from annvq.gpu.kernels.prepare_rabitq import HIGHEST, prepare_rabitq
from annvq.gpu.kernels.scan_rabitq import rescore_rabitq, scan_rabitq, scan_rabitq_together
from annvq.gpu.launch import launch, programs_for
from annvq.gpu.pool import Pool
from annvq.gpu.upload import by_words, uploaded
from annvq.index.codes.rabitq import RaBitQCodes
from annvq.index.rows.segment import Segment
from annvq.kernels.codes.bits import QUERY_BITS
from annvq.kernels.codes.rabitq import EPSILON, GAUSSIAN_FACTORS
from annvq.kernels.scan.scanbits import margin

_PLANES, _FACTORS = "codes.planes", "codes.factors"
_ROWS, _RESCORED = 128, 32  # of one program
_TILE_ROWS, _TILE_QUERIES = 64, 32  # of one program that multiplies on tensor cores
_MANY = 16  # queries per list from which on these multiply for all rows


class AskedRaBitQ(NamedTuple):
    """Queries as kernels take them, see `annvq.kernels.codes.rabitq.PreparedQueries`."""

    planes: torch.Tensor  # (nq, 4, words) int32
    levels: torch.Tensor  # (nq, 2, D) int8: high and low bytes
    factors: torch.Tensor  # (nq, 3) float32
    totals: torch.Tensor  # (nq,) int64
    bases: torch.Tensor  # (nq, nlist) float32: what lists add to scores
    distances: torch.Tensor  # (nq, nlist) float32: |q - c| times the margin


@dataclass(frozen=True)
class ResidentRaBitQ:
    """`RaBitQCodes` on a device."""

    codes: RaBitQCodes
    device: torch.device

    zero = 0.0

    @property
    def _words(self) -> int:
        return self.codes.codebook.padded_dim // 32

    def bytes_per_row(self) -> float:
        """Return the bytes of a row's planes and factors."""
        return self.codes.codebook.code_bytes

    def work_per_query(self) -> float:
        """Return the bytes of a query while it is rotated, and of its levels and planes."""
        return 20 * 32 * self._words

    def upload(self, segment: Segment, held: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return bit planes by words of 32 coordinates, and factors, with neighbouring rows side by side."""
        arrays = segment.arrays
        return held or self.laid_out(arrays["codes1"], arrays["codes_ex"], arrays["factors"])

    def laid_out(self, codes1: np.ndarray, codes_ex: np.ndarray, factors: np.ndarray) -> dict[str, torch.Tensor]:
        """Return what `annvq.codebooks.RaBitQCodebook.encode` returned for n rows, as kernels take it."""
        made = torch.empty(
            (self.codes.codebook.nbits * self._words, len(codes1)), dtype=torch.int32, device=self.device
        )
        by_words(codes1, made[: self._words])
        by_words(codes_ex, made[self._words :])
        return {_PLANES: made, _FACTORS: uploaded(factors, self.device).T.contiguous()}

    def prepare(self, queries: torch.Tensor, probes: ResidentProbes) -> AskedRaBitQ:
        """Rotate and quantize queries (nq, d), and measure their distances to the centroids."""
        codebook, nq, words = self.codes.codebook, len(queries), self._words
        rotated = rotated_by_signs(queries, codebook.signs).contiguous()
        planes = torch.empty((nq, 4, words), dtype=torch.int32, device=self.device)
        levels = torch.empty((nq, 2, 32 * words), dtype=torch.int8, device=self.device)
        factors = torch.empty((nq, 3), dtype=torch.float32, device=self.device)
        totals = torch.empty(nq, dtype=torch.int64, device=self.device)
        launch(
            prepare_rabitq, nq, rotated, 32 * words, words, *self._constants, HIGHEST, planes, levels, factors, totals,
            warps=1,
        )  # fmt: skip
        return AskedRaBitQ(
            planes, levels, factors, totals, probes.centroid_scores.contiguous(),
            self._distances(queries, probes.centroid_scores) * float(margin(codebook.nbits)),
        )  # fmt: skip

    @cached_property
    def _constants(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The factor for queries of 4 bits, and that of error bounds, float64."""
        numbers = (float(GAUSSIAN_FACTORS[QUERY_BITS]), float(EPSILON))
        gaussian, epsilon = (torch.tensor([one], dtype=torch.float64, device=self.device) for one in numbers)
        return gaussian, epsilon

    @cached_property
    def _centroid_squares(self) -> torch.Tensor:
        return uploaded(np.asarray(self.codes.centroid_squares), self.device)

    def _distances(self, queries: torch.Tensor, bases: torch.Tensor) -> torch.Tensor:
        """Return |q - c| for all lists, as `annvq.kernels.scan.scanbits.fill_distances`."""
        if self.codes.metric == "l2":
            return _root(-bases)
        squares = minus_squares(queries)
        return _root((self._centroid_squares[None] - squares) - 2.0 * bases)

    def scan(self, prepared: AskedRaBitQ, segment: ResidentSegment, visits: SlabVisits, pool: Pool) -> bool:
        """Score the rows of the visited lists whose bounds reach the thresholds."""
        planes, factors = segment.sections[_PLANES], segment.sections[_FACTORS]
        many = visits.queries_per_list(segment) >= _MANY
        shape = (_TILE_ROWS, _TILE_QUERIES) if many else (_ROWS, 1)
        work = segment.work(visits, *shape)
        rows = (planes, factors, segment.n, self._words)
        asked = (prepared.levels, prepared.factors, prepared.totals, prepared.bases, prepared.distances)
        nlist = prepared.bases.shape[1]
        which = (work.queries, work.lists, work.begins, work.ends, work.visits)
        target = (segment.mask(), segment.ranks, pool.entries, pool.counts, pool.thresholds, pool.capacity)
        form = {"BITS": self.codes.codebook.nbits, "FILTERED": segment.allow is not None, "ROWS": shape[0]}
        if many:
            four_bit = self._four_bit(prepared.planes)
            flips, sums = (15 - 2 * four_bit).to(torch.int8), four_bit.sum(dim=1, dtype=torch.int32)
            launch(
                scan_rabitq_together, work.programs, *rows, flips, sums, *asked, nlist, *which, work.visit_ends,
                *target, **form, QUERIES=_TILE_QUERIES,
            )  # fmt: skip
        else:
            launch(scan_rabitq, work.programs, *rows, prepared.planes, *asked, nlist, *which, *target, **form)
        return False

    @staticmethod
    def _four_bit(planes: torch.Tensor) -> torch.Tensor:
        """Return the 4-bit levels of queries, (nq, D) int32, from their planes."""
        bits = (planes[..., None] >> torch.arange(32, device=planes.device, dtype=torch.int32)) & 1
        weights = torch.tensor([1, 2, 4, 8], device=planes.device, dtype=torch.int32)
        return (bits * weights[:, None, None]).sum(dim=1, dtype=torch.int32).reshape(len(planes), -1)

    def rescore(
        self, prepared: AskedRaBitQ, segment: ResidentSegment, places: torch.Tensor, scores: torch.Tensor
    ) -> None:
        """Score candidates as the scan does."""
        self.estimate(prepared, segment.sections, segment.base, places, segment.lists_of(places), scores)

    def estimate(
        self, prepared: AskedRaBitQ, sections: dict[str, torch.Tensor], base: int, places: torch.Tensor,
        lists: torch.Tensor, scores: torch.Tensor,
    ) -> None:  # fmt: skip
        """Write the scores (nq, P) of rows ``places``, of these lists, that are in a segment from ``base`` on."""
        bases, distances = (torch.gather(one, 1, lists) for one in (prepared.bases, prepared.distances))
        planes = sections[_PLANES]
        launch(
            rescore_rabitq, programs_for(places, _RESCORED), planes, sections[_FACTORS], planes.shape[1], self._words,
            prepared.planes, prepared.levels, prepared.factors, prepared.totals, bases, distances, places,
            places.shape[1], base, scores, BITS=self.codes.codebook.nbits, ROWS=_RESCORED,
        )  # fmt: skip


def _root(squares: torch.Tensor) -> torch.Tensor:
    """Return the square roots of float32 numbers, 0 of negative ones, rounded once, as those of torch may not be."""
    return torch.sqrt(torch.clamp(squares, min=0.0).double()).float()
