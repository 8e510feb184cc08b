"""Rows of floats or 8-bit scalars on a device: the codes of flat indexes, and a refine store behind other codes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from annvq.gpu.codes.kind import ResidentProbes, ResidentSegment, SlabVisits
from annvq.gpu.kernels.propose_rows import ADDING, LEAST, ROUNDING, fill_norms, propose_rows
from annvq.gpu.kernels.scan_rows import rescore_rows, scan_rows
from annvq.gpu.launch import capability_of, launch, programs_for, tile_queries
from annvq.gpu.pool import Pool
from annvq.gpu.upload import uploaded
from annvq.index.codes.rowstore import RowStore
from annvq.index.rows.segment import Segment

SCANNED, _NORMS = "codes", "codes.norms"  # sections
_LANES = 16
_ROWS, _RESCORED = 64, 16  # of one program
_TILE_ROWS, _TILE_DIMS = 128, 64  # of one program that multiplies on tensor cores
_MANY = 16  # queries per list from which on tensor cores propose rows


@dataclass(frozen=True)
class PreparedRows:
    """Queries as kernels take them: (nq, width) float32, padded with zeros to a multiple of 16."""

    queries: torch.Tensor

    @cached_property
    def norms(self) -> torch.Tensor:
        """Their lengths, (nq,) float32, which only proposals need."""
        return torch.linalg.vector_norm(self.queries, dim=1)


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
        """Return the bytes of a row and of its length."""
        return {"fp32": 4, "fp16": 2, "sq8": 1}[self.store.kind] * self.store.dim + 4

    def work_per_query(self) -> float:
        """Return the bytes of a padded query."""
        return 4 * (self.store.dim + _LANES)

    def upload(
        self, segment: Segment, held: dict[str, torch.Tensor] | None = None, *, on_host: bool = False
    ) -> dict[str, torch.Tensor]:
        """Return the rows as they are, and for scans their lengths."""
        rows = (held or {}).get(self.store.section)
        if rows is None:
            rows = uploaded(segment.arrays[self.store.section], self.device, on_host=on_host)
        if self.store.section != SCANNED:
            return {self.store.section: rows}
        norms = torch.empty(segment.n, dtype=torch.float32, device=self.device)
        launch(
            fill_norms, -(-segment.n // _TILE_DIMS), rows, segment.n, self.store.dim, *self._affine, norms,
            CODED=self.store.kind == "sq8", ROWS=_TILE_DIMS, DIMS=_TILE_DIMS,
        )  # fmt: skip
        return {self.store.section: rows, _NORMS: norms}

    def prepare(self, queries: torch.Tensor, probes: ResidentProbes | None = None) -> PreparedRows:
        """Return the queries, padded; a refine store has no lists to be probed."""
        return PreparedRows(padded_queries(queries))

    @cached_property
    def _together(self) -> int:
        """The queries of a program that multiplies on tensor cores."""
        return tile_queries(capability_of(self.device))

    @cached_property
    def _affine(self) -> tuple[torch.Tensor, torch.Tensor]:
        minimum, step = self.store.affine
        return uploaded(np.asarray(minimum), self.device), uploaded(np.asarray(step), self.device)

    def scan(self, prepared: PreparedRows, segment: ResidentSegment, visits: SlabVisits, pool: Pool) -> bool:
        """Score all rows of the visited lists or, for many queries, propose those that may be among the best."""
        queries = prepared.queries
        many = visits.queries_per_list(segment) >= _MANY and not pool.exactly
        shape = (_TILE_ROWS, self._together) if many else (_ROWS, _shared_by(len(queries)) if visits.pieces else 1)
        work = segment.work(visits, *shape)
        rows, width = segment.sections[self.store.section], queries.shape[1]
        target = (segment.mask(), segment.ranks, pool.entries, pool.counts, pool.thresholds, pool.capacity)
        which = (work.queries, work.begins, work.ends, work.visits, work.visit_ends)
        form = {"CODED": self.store.kind == "sq8", "L2": self.store.l2, "FILTERED": segment.allow is not None}
        form |= {"QUERIES": shape[1], "ROWS": shape[0]}
        if many:
            launch(
                propose_rows, work.programs, queries, prepared.norms, width, rows, segment.sections[_NORMS],
                self.store.dim, *self._affine, *which, *target, ROUNDING, ADDING * self.store.dim, LEAST, **form,
                DIMS=_TILE_DIMS,
            )  # fmt: skip
        else:
            launch(
                scan_rows, work.programs, queries, width, rows, self.store.dim, *self._affine, *which, *target, **form
            )
        return many

    def finalists(self, k: int) -> None:
        """Return None: all candidates are scored with all that is stored."""

    def propose(
        self, prepared: PreparedRows, segment: ResidentSegment, places: torch.Tensor, scores: torch.Tensor
    ) -> None:
        """Do what `rescore` does."""
        self.rescore(prepared, segment, places, scores)

    def rescore(
        self, prepared: PreparedRows, segment: ResidentSegment, places: torch.Tensor, scores: torch.Tensor
    ) -> None:
        """Score candidates with the stored rows."""
        launch(
            rescore_rows, programs_for(places, _RESCORED), prepared.queries, prepared.queries.shape[1],
            segment.sections[self.store.section], segment.n, self.store.dim, *self._affine, places, places.shape[1],
            segment.base, scores, CODED=self.store.kind == "sq8", L2=self.store.l2, ROWS=_RESCORED,
        )  # fmt: skip


def _shared_by(queries: int) -> int:
    """Return how many of some queries, which all read the same rows, a program takes."""
    return min(8, 1 << (queries - 1).bit_length())


def padded_queries(queries: torch.Tensor) -> torch.Tensor:
    """Return queries (nq, d), padded with zeros to a multiple of 16 dimensions."""
    missing = -queries.shape[1] % _LANES
    return torch.nn.functional.pad(queries, (0, missing)) if missing else queries.contiguous()


def minus_squares(queries: torch.Tensor) -> torch.Tensor:
    """Return minus the squared lengths of queries (nq, d), (nq, 1) float32, in the order of scores under L2."""
    asked, device = padded_queries(queries), queries.device
    squares = torch.zeros((len(queries), 1), dtype=torch.float32, device=device)
    zero = torch.zeros(queries.shape[1], dtype=torch.float32, device=device)
    first = torch.zeros((len(queries), 1), dtype=torch.int64, device=device)
    launch(
        rescore_rows, len(queries), asked, asked.shape[1], zero, 1, queries.shape[1], zero, zero, first, 1, 0,
        squares, CODED=False, L2=True, ROWS=_RESCORED,
    )  # fmt: skip
    return squares
