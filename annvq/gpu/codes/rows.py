"""Rows of floats or 8-bit scalars on a device: the codes of flat indexes, and a refine store behind other codes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from annvq.gpu.codes.kind import ResidentProbes, ResidentSegment, Visits
from annvq.gpu.kernels.scan_rows import rescore_rows, scan_rows
from annvq.gpu.launch import launch
from annvq.gpu.pool import Pool
from annvq.gpu.upload import uploaded
from annvq.index.codes.rowstore import RowStore
from annvq.index.rows.segment import Segment

_LANES = 16
_ROWS, _RESCORED = 64, 16  # of one program


@dataclass(frozen=True)
class ResidentRows:
    """The rows of a `RowStore` on a device."""

    store: RowStore
    device: torch.device

    @property
    def zero(self) -> float:
        """Minus zero under L2, where sums of squares are negated."""
        return -0.0 if self.store.l2 else 0.0

    def bytes_per_row(self) -> float:
        """Return the bytes of a row."""
        return {"fp32": 4, "fp16": 2, "sq8": 1}[self.store.kind] * self.store.dim

    def upload(self, segment: Segment, *, on_host: bool = False) -> dict[str, torch.Tensor]:
        """Return the rows as they are."""
        rows = segment.arrays[self.store.section]
        return {self.store.section: uploaded(rows, self.device, on_host=on_host)}

    def prepare(self, queries: torch.Tensor, probes: ResidentProbes) -> torch.Tensor:
        """Return the queries, padded with zeros to a multiple of 16 dimensions."""
        return _padded(queries)

    @cached_property
    def _affine(self) -> tuple[torch.Tensor, torch.Tensor]:
        minimum, step = self.store.affine
        return uploaded(np.asarray(minimum), self.device), uploaded(np.asarray(step), self.device)

    def scan(self, queries: torch.Tensor, segment: ResidentSegment, visits: Visits, pool: Pool) -> bool:
        """Score all rows of the visited lists."""
        share = 1 if not visits.pieces else min(8, 1 << (len(queries) - 1).bit_length())
        work = segment.work(visits, _ROWS, share)
        launch(
            scan_rows, work.programs, queries, queries.shape[1], segment.sections[self.store.section], self.store.dim,
            *self._affine, work.queries, work.begins, work.ends, work.visits, work.visit_ends, segment.mask(),
            segment.ranks, pool.entries, pool.counts, pool.thresholds, pool.capacity, CODED=self.store.kind == "sq8",
            L2=self.store.l2, FILTERED=segment.allow is not None, QUERIES=share, ROWS=_ROWS,
        )  # fmt: skip
        return False

    def narrow(
        self, queries: torch.Tensor, segments: list[ResidentSegment], places: torch.Tensor, k: int, ranks: torch.Tensor
    ) -> torch.Tensor:
        """Drop nothing: all candidates are scored with all that is stored."""
        return places

    def scan_scores(
        self, queries: torch.Tensor, segment: ResidentSegment, places: torch.Tensor, scores: torch.Tensor
    ) -> None:
        """Do what `rescore` does: a scan's scores are final."""
        self.rescore(queries, segment, places, scores)

    def rescore(
        self, queries: torch.Tensor, segment: ResidentSegment, places: torch.Tensor, scores: torch.Tensor
    ) -> None:
        """Score candidates with the stored rows."""
        queries = _padded(queries)
        launch(
            rescore_rows, (len(queries), -(-places.shape[1] // _RESCORED)), queries, queries.shape[1],
            segment.sections[self.store.section], segment.n, self.store.dim, *self._affine, places, places.shape[1],
            segment.base, scores, CODED=self.store.kind == "sq8", L2=self.store.l2, ROWS=_RESCORED,
        )  # fmt: skip


def _padded(queries: torch.Tensor) -> torch.Tensor:
    missing = -queries.shape[1] % _LANES
    return torch.nn.functional.pad(queries, (0, missing)) if missing else queries.contiguous()
