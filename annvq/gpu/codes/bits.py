"""Packed bits on a device, compared by Hamming distance."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from annvq.gpu.codes.kind import ResidentProbes, ResidentSegment, SlabVisits
from annvq.gpu.kernels.scan_bits import rescore_bits, scan_bits
from annvq.gpu.launch import launch, programs_for
from annvq.gpu.pool import Pool
from annvq.gpu.upload import by_words
from annvq.index.codes.bits import PackedBits
from annvq.index.rows.segment import Segment

_ROWS, _RESCORED, _SHARED = 256, 32, 32  # of one program; and the queries that share its rows


@dataclass(frozen=True)
class ResidentBits:
    """`PackedBits` on a device."""

    codes: PackedBits
    device: torch.device

    zero = -0.0

    @property
    def _words(self) -> int:
        return -(-self.codes.dim // 64) * 2

    def bytes_per_row(self) -> float:
        """Return the bytes of a row."""
        return 4 * self._words

    def work_per_query(self) -> float:
        """Return the bytes of a query's bits as words, before and after they are packed."""
        return 3 * 4 * 32 * self._words

    def upload(self, segment: Segment, held: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return rows by words of 32 bits, with neighbouring rows side by side."""
        if held:
            return held
        made = torch.empty((self._words, segment.n), dtype=torch.int32, device=self.device)
        by_words(segment.arrays["codes"], made)
        return {"codes.words": made}

    def prepare(self, queries: torch.Tensor, probes: ResidentProbes) -> torch.Tensor:
        """Return queries (nq, d) float32 of 0 and 1 as words, (nq, words) int32."""
        bits = torch.zeros((len(queries), 32 * self._words), dtype=torch.int32, device=self.device)
        bits[:, : queries.shape[1]] = queries > 0.5
        within_byte = 7 - torch.arange(8, device=self.device, dtype=torch.int32)  # the first bit is the highest
        shifts = (8 * torch.arange(4, device=self.device, dtype=torch.int32)[:, None] + within_byte).reshape(32)
        return (bits.reshape(len(queries), self._words, 32) << shifts).sum(dim=2, dtype=torch.int32)

    def scan(self, queries: torch.Tensor, segment: ResidentSegment, visits: SlabVisits, pool: Pool) -> bool:
        """Compare all rows of the visited lists."""
        work = segment.work(visits, _ROWS, _SHARED)
        launch(
            scan_bits, work.programs, segment.sections["codes.words"], segment.n, self._words, queries, work.queries,
            work.begins, work.ends, work.visits, work.visit_ends, segment.mask(), segment.ranks, pool.entries,
            pool.counts, pool.thresholds, pool.capacity, FILTERED=segment.allow is not None, ROWS=_ROWS,
        )  # fmt: skip
        return False

    def rescore(
        self, queries: torch.Tensor, segment: ResidentSegment, places: torch.Tensor, scores: torch.Tensor
    ) -> None:
        """Score candidates by minus their distances."""
        launch(
            rescore_bits, programs_for(places, _RESCORED), segment.sections["codes.words"], segment.n,
            self._words, queries, places, places.shape[1], segment.base, scores, ROWS=_RESCORED,
        )  # fmt: skip
