"""Refine stores of locally adaptive rows on a device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from annvq.gpu.codes.kind import ResidentSegment
from annvq.gpu.codes.rows import padded_queries
from annvq.gpu.kernels.local_rows import propose_local_rows, rescore_local_rows, sum_queries
from annvq.gpu.launch import launch, programs_for
from annvq.gpu.upload import uploaded
from annvq.index.codes.localrows import LocalRowStore
from annvq.index.rows.segment import Segment
from annvq.kernels.vectors import lvq

_SECTION = "refine"
_LEAST, _LEVELS = 1e-30, 127.0 * 256.0  # of a query in 16 bits
_PROPOSED, _RESCORED, _DIMS = 16, 16, 64  # of one program
_PADDED = 1 << 18  # rows that are padded at a time


class LevelsOfQueries(NamedTuple):
    """Queries in 16 bits."""

    upper: torch.Tensor  # (nq, d) int8: levels are 256 times these, and
    lower: torch.Tensor  # (nq, d) int8 more
    units: torch.Tensor  # (nq,) float32: what a level stands for


@dataclass(frozen=True)
class AskedLocalRows:
    """Queries as kernels take them: less the mean under L2."""

    queries: torch.Tensor  # (nq, width) float32, padded
    totals: torch.Tensor  # (nq,) float32
    products: torch.Tensor  # (nq,) float32, with the mean
    dim: int

    @cached_property
    def levels(self) -> LevelsOfQueries:
        """The queries in 16 bits, which only proposals need."""
        numbers = self.queries[:, : self.dim]
        largest = numbers.abs().amax(dim=1).clamp(min=_LEAST)
        units = largest / torch.full_like(largest, _LEVELS)  # by a number, torch would multiply with its reciprocal
        levels = torch.round(numbers * torch.reciprocal(units)[:, None])
        upper = torch.floor(levels * (1 / 256) + 0.5)
        lower = levels - 256.0 * upper
        return LevelsOfQueries(upper.to(torch.int8).contiguous(), lower.to(torch.int8).contiguous(), units)


@dataclass(frozen=True)
class ResidentLocalRows:
    """The rows of a `LocalRowStore` on a device."""

    store: LocalRowStore
    device: torch.device

    zero = 0.0

    @property
    def _head(self) -> int:
        return lvq.HEAD_WITH_SQUARE if self.store.l2 else lvq.HEAD

    @property
    def _stride(self) -> int:
        """The bytes of a row, padded to whole words."""
        return -(-(self._head + self.store.levels * self.store.dim) // 4) * 4

    def upload(self, segment: Segment, *, on_host: bool = False) -> dict[str, torch.Tensor]:
        """Return the rows, padded to whole words."""
        rows = segment.arrays[_SECTION]
        if rows.shape[1] == self._stride:
            return {_SECTION: uploaded(rows, self.device, on_host=on_host)}
        pinned = on_host and self.device.type == "cuda"
        where = torch.device("cpu") if on_host else self.device
        made = torch.empty((segment.n, self._stride), dtype=torch.uint8, device=where, pin_memory=pinned)
        for start in range(0, segment.n, _PADDED):
            part = np.zeros((len(rows[start : start + _PADDED]), self._stride), np.uint8)
            part[:, : rows.shape[1]] = rows[start : start + _PADDED]
            made[start : start + len(part)] = uploaded(part, where)
        return {_SECTION: made}

    @cached_property
    def _mean(self) -> torch.Tensor:
        return uploaded(np.asarray(self.store.mean), self.device)

    def prepare(self, queries: torch.Tensor) -> AskedLocalRows:
        """Return queries (nq, d), less the mean under L2, with their sums and products."""
        queries = padded_queries(queries - self._mean if self.store.l2 else queries)
        mean = padded_queries(self._mean[None])
        totals, products = (torch.empty(len(queries), dtype=torch.float32, device=self.device) for _ in range(2))
        launch(sum_queries, len(queries), queries, queries.shape[1], mean, totals, products, warps=1)
        return AskedLocalRows(queries, totals, products, self.store.dim)

    def finalists(self, k: int) -> int:
        """Return how many candidates are left for the k best."""
        return int(lvq.finalists(k))

    def propose(
        self, asked: AskedLocalRows, segment: ResidentSegment, places: torch.Tensor, scores: torch.Tensor
    ) -> None:
        """Score candidates by the first level of their codes."""
        rows = segment.sections[_SECTION]
        launch(
            propose_local_rows, programs_for(places, _PROPOSED), *asked.levels, asked.totals, rows,
            rows.view(torch.float32), segment.n, self.store.dim, self._stride, places, places.shape[1], segment.base,
            scores, HEAD=self._head, L2=self.store.l2, ROWS=_PROPOSED, DIMS=_DIMS,
        )  # fmt: skip

    def rescore(
        self, asked: AskedLocalRows, segment: ResidentSegment, places: torch.Tensor, scores: torch.Tensor
    ) -> None:
        """Score candidates by all that is stored of them."""
        rows = segment.sections[_SECTION]
        launch(
            rescore_local_rows, programs_for(places, _RESCORED), asked.queries,
            asked.queries.shape[1], asked.products, rows, rows.view(torch.float32), segment.n, self.store.dim,
            self._stride, places, places.shape[1], segment.base, scores, HEAD=self._head, LEVELS=self.store.levels,
            L2=self.store.l2, ROWS=_RESCORED,
        )  # fmt: skip
