"""The learned parts of an index on a device: queries are rotated there, and their lists are chosen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from annvq.gpu.codes.kind import ResidentProbes
from annvq.gpu.codes.rows import minus_squares, padded_queries
from annvq.gpu.codes.tables import Codebooks, filled_tables, laid_out
from annvq.gpu.kernels.order import NOTHING, candidates_of, ranks_of
from annvq.gpu.kernels.products import multiply_bytes, multiply_in_order, order_lists, quantize_rows
from annvq.gpu.kernels.scan_rows import rescore_rows
from annvq.gpu.kernels.scan_tables import rescore_sums
from annvq.gpu.latest import Latest, used_here
from annvq.gpu.launch import launch, programs_for
from annvq.gpu.upload import uploaded
from annvq.index.trained import Trained
from annvq.kernels.vectors.bytematrix import ByteMatrix

_FEW = 16  # rows that a smaller tile is for
_TILES = {True: (16, 64), False: (64, 64)}  # rows and columns of one program, for few rows or many
_BYTE_TILES = {True: (16, 64), False: (64, 128)}
_QUANTIZED = {True: (1, 512), False: (16, 64)}  # rows of one program, and numbers of each that it reads at a time
_MOST_PROGRAMS = 65_535  # along the second axis of a grid
_DIMS = 64  # of bytes that are multiplied at a time
_LISTS, _CODED, _RESCORED = 1024, 256, 32  # of one program
_AT_ONCE = 1024  # queries whose tables lie in memory together


class BytesThere(NamedTuple):
    """A `ByteMatrix` on a device, and what is subtracted from queries before they are multiplied with it."""

    shift: torch.Tensor  # (d,) float32
    columns: torch.Tensor  # (k, width) int8
    steps: torch.Tensor  # (k,) float32
    adds: torch.Tensor  # (k,) float32


class CodesThere(NamedTuple):
    """Centroids and their 4-bit codes on a device."""

    books: Codebooks
    words: torch.Tensor  # (words, nlist) int32
    rows: torch.Tensor  # (nlist * d,) float32


class LiveRows(NamedTuple):
    """How many rows that may be returned every list holds."""

    there: torch.Tensor  # (nlist,) int64
    sizes: np.ndarray  # of lists that hold such rows, ascending


@dataclass(frozen=True)
class ResidentTrained:
    """`Trained` on a device; what is there is copied when it is needed first."""

    trained: Trained
    device: torch.device
    _latest: Latest[LiveRows] = field(default_factory=Latest, init=False, compare=False, repr=False)

    def turned(self, queries: torch.Tensor) -> torch.Tensor:
        """Return queries (nq, d) float32 as lists and codes see them, as `Trained.turn` does, to the bit."""
        if self._rotation_in_bytes is not None:
            return multiplied_in_bytes(queries, self._rotation_in_bytes)
        rotated = queries if self._rotation is None else multiplied(queries, self._rotation)
        return rotated if self._center is None else rotated - self._center

    def probed(self, rotated: torch.Tensor, nprobe: int, need: int, live: np.ndarray) -> ResidentProbes:
        """Return the lists of rotated queries, and their scores, as `annvq.kernels.scan.coarse.probe` chooses them.

        Parameters
        ----------
        rotated
            (nq, d) float32, as `turned` returns them.
        nprobe, need
            How many lists, and more until they hold so many rows that may be returned.
        live
            (nlist,) int64: how many such rows every list holds.

        """
        nq = len(rotated)
        if self.trained.coarse is None:
            first = torch.zeros((nq, 1), dtype=torch.int64, device=self.device)
            return replace(self.unprobed(rotated), lists=first)
        held = self._live_rows(live)
        there = held.there
        reach = nprobe + nprobe // 4 + 32
        if not self._has_codes or 2 * reach > self.trained.nlist or not nq:
            return self._of_all(rotated, nprobe, need, held)
        made = [self._of_coded(part, nprobe, reach, need, there) for part in rotated.split(_AT_ONCE)]
        lists, scores, is_chosen = (torch.cat(parts) for parts in zip(*made, strict=True))
        probes = ResidentProbes(lists, scores)
        left = torch.nonzero(~is_chosen)[:, 0]
        if not len(left):
            return probes
        others = self._of_all(rotated[left].contiguous(), nprobe, need, held)
        width = max(lists.shape[1], others.lists.shape[1])
        lists = torch.nn.functional.pad(lists, (0, width - lists.shape[1]), value=-1)
        lists[left] = torch.nn.functional.pad(others.lists, (0, width - others.lists.shape[1]), value=-1)
        scores[left] = others.centroid_scores
        return ResidentProbes(lists, scores)

    def unprobed(self, rotated: torch.Tensor) -> ResidentProbes:
        """Return the centroids' scores of rotated queries, and no lists."""
        lists = torch.empty((len(rotated), 0), dtype=torch.int64, device=self.device)
        if self.trained.coarse is None:
            return ResidentProbes(lists, torch.empty((len(rotated), 0), dtype=torch.float32, device=self.device))
        return ResidentProbes(lists, self.centroid_scores(rotated))

    def _live_rows(self, live: np.ndarray) -> LiveRows:
        """Return what is known of the live rows of a snapshot (nlist,), which one search after the other asks for."""
        held = self._latest.of(
            live, lambda: LiveRows(uploaded(np.ascontiguousarray(live, np.int64), self.device), np.sort(live[live > 0]))
        )
        used_here(held.there)
        return held

    def _of_all(self, rotated: torch.Tensor, nprobe: int, need: int, live: LiveRows) -> ResidentProbes:
        """Choose among all lists."""
        scores = self.centroid_scores(rotated)
        return ResidentProbes(_chosen(scores, nprobe, need, live), scores)

    def centroid_scores(self, rotated: torch.Tensor) -> torch.Tensor:
        """Return the scores of all centroids, (nq, nlist) float32."""
        l2 = self.trained.l2
        if self._centroids_in_bytes is not None:
            return multiplied_in_bytes(rotated, self._centroids_in_bytes, 2.0 if l2 else 1.0, 2 if l2 else 1)
        matrix, shift, squares = self._centroids
        if not l2:
            return multiplied(rotated, matrix)
        return multiplied(rotated - shift, matrix, squares)

    def _of_coded(
        self, rotated: torch.Tensor, nprobe: int, reach: int, need: int, live: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Choose among the ``reach`` lists that codes find nearest.

        The results are the lists, (nq, nprobe), the centroids' scores, and which queries have lists enough.
        """
        books, words, rows = self._coded
        nq, nlist, d, l2 = len(rotated), self.trained.nlist, rotated.shape[1], self.trained.l2
        _, quantized, steps, biases = filled_tables(rotated, books, len(words))
        places = torch.arange(nlist, device=self.device).expand(nq, -1).contiguous()
        scores = torch.zeros((nq, nlist), dtype=torch.float32, device=self.device)
        launch(
            rescore_sums, programs_for(places, _CODED), words, nlist, len(words), words, quantized, steps, biases,
            torch.zeros_like(scores), places, nlist, 0, scores, FUSED=True, CONSTANTS=False, ROWS=_CODED,
        )  # fmt: skip
        every = torch.ones(nlist, dtype=torch.int64, device=self.device)
        places = ranks_of(torch.topk(_ordered(scores, every), reach, dim=1).values)
        found = torch.zeros(places.shape, dtype=torch.float32, device=self.device)
        asked = padded_queries(rotated)
        launch(
            rescore_rows, programs_for(places, _RESCORED), asked, asked.shape[1], rows, nlist, d, rows, rows, places,
            reach, 0, found, CODED=False, L2=l2, ROWS=_RESCORED,
        )  # fmt: skip
        if l2:
            found = torch.where(found == 0, torch.full_like(found, -0.0), found)
        is_live = live[places] > 0
        candidates = candidates_of(found, places).masked_fill(~is_live, NOTHING)
        chosen = ranks_of(torch.topk(candidates, nprobe, dim=1).values)
        held = live[chosen.clamp(min=0)].masked_fill(chosen < 0, 0).sum(dim=1)
        scores.zero_().scatter_(1, places, found)
        return chosen, scores, (is_live.sum(dim=1) >= nprobe) & (held >= need)

    @cached_property
    def _center(self) -> torch.Tensor | None:
        center = self.trained.center
        return None if center is None else uploaded(np.asarray(center), self.device)

    @cached_property
    def _rotation(self) -> torch.Tensor | None:
        """The rotation as a matrix (d, width) float32."""
        rotation = self.trained.rotation
        return None if rotation is None else uploaded(np.ascontiguousarray(rotation.matrix.T), self.device)

    @cached_property
    def _rotation_in_bytes(self) -> BytesThere | None:
        turning = self.trained.turning
        if not turning.matrix.panels.size:
            return None
        return in_bytes(turning.matrix, turning.mean, self.trained.coded_dim, self.device)

    @property
    def _has_codes(self) -> bool:
        coarse = self.trained.coarse
        return coarse is not None and coarse.coded.codes.packed.size > 0

    @cached_property
    def _centroids_in_bytes(self) -> BytesThere | None:
        assert self.trained.coarse is not None
        shift, matrix, _ = self.trained.coarse.bytes
        return in_bytes(matrix, shift, self.trained.nlist, self.device) if matrix.panels.size else None

    @cached_property
    def _centroids(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Centroids less their shift as a matrix (d, nlist), the shift (d,), and the squares of the former."""
        assert self.trained.coarse is not None
        panels, shift, squares = self.trained.coarse.exact
        matrix = panels.transpose(1, 0, 2).reshape(panels.shape[1], -1)[:, : self.trained.nlist]
        return tuple(uploaded(np.ascontiguousarray(one), self.device) for one in (matrix, shift, squares))

    @cached_property
    def _coded(self) -> CodesThere:
        assert self.trained.coarse is not None
        rows, transposed, codes = self.trained.coarse.coded
        M, dsub, _ = transposed.shape
        words = laid_out(codes.packed, codes.offsets, M, 4, self.device)
        books = Codebooks(uploaded(np.asarray(transposed), self.device), dsub, self.trained.l2, 1.0)
        return CodesThere(books, words, uploaded(np.asarray(rows), self.device))


def in_bytes(matrix: ByteMatrix, shift: np.ndarray, k: int, device: torch.device) -> BytesThere:
    """Copy the k columns of a `ByteMatrix` to a device."""
    width = len(matrix.offsets)
    levels = matrix.panels.view(np.int8).reshape(width // 16, -1, 16, 4).transpose(0, 2, 1, 3).reshape(width, -1)
    columns = np.zeros((k, -(-levels.shape[1] // _DIMS) * _DIMS), np.int8)
    columns[:, : levels.shape[1]] = levels[:k]
    arrays = (np.asarray(shift), columns, matrix.steps[:k], matrix.adds[:k])
    return BytesThere(*(uploaded(one, device) for one in arrays))


def multiplied(rows: torch.Tensor, matrix: torch.Tensor, squares: torch.Tensor | None = None) -> torch.Tensor:
    """Return the products of rows (n, d) with a matrix (d, k), (n, k) float32, summed in the order of the dimensions.

    If the ``squares`` (k,) of the columns are given, these are minus the squared distances from the columns.
    """
    (n, d), k = rows.shape, matrix.shape[1]
    tile = _TILES[n <= _FEW]
    most = _MOST_PROGRAMS * tile[0]
    if n > most:
        return torch.cat([multiplied(part, matrix, squares) for part in rows.split(most)])
    out = torch.empty((n, k), dtype=torch.float32, device=rows.device)
    of_rows = out if squares is None else -1.0 * minus_squares(rows)
    launch(
        multiply_in_order, (-(-k // tile[1]), -(-n // tile[0])), rows.T.contiguous(), n, d, matrix, k, of_rows,
        out if squares is None else squares, out, L2=squares is not None, ROWS=tile[0], COLUMNS=tile[1],
    )  # fmt: skip
    return out


def multiplied_in_bytes(rows: torch.Tensor, matrix: BytesThere, factor: float = 1.0, common: int = 0) -> torch.Tensor:
    """Return what `annvq.kernels.vectors.bytematrix.fill_products_of` does, of rows (n, d) float32.

    ``common`` says what is added to all products of a row: 0 nothing, and 1 or 2 what the kernel `quantize_rows` says.
    """
    n, (k, width) = len(rows), matrix.columns.shape
    tile = _BYTE_TILES[n <= _FEW]
    most = _MOST_PROGRAMS * tile[0]
    if n > most:
        return torch.cat([multiplied_in_bytes(part, matrix, factor, common) for part in rows.split(most)])
    levels, units, same = quantized(rows, matrix, common)
    out = torch.empty((n, k), dtype=torch.float32, device=rows.device)
    launch(
        multiply_bytes, (-(-k // tile[1]), -(-n // tile[0])), levels, units * factor, same, n, width, matrix.columns,
        matrix.steps, matrix.adds, k, out, COMMON=common > 0, ROWS=tile[0], COLUMNS=tile[1], DIMS=_DIMS,
    )  # fmt: skip
    return out


def quantized(rows: torch.Tensor, matrix: BytesThere, common: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return rows (n, d) float32 in bytes, with their steps, and what `multiplied_in_bytes` calls common."""
    (n, d), width, device = rows.shape, matrix.columns.shape[1], rows.device
    levels = torch.empty((n, width), dtype=torch.int8, device=device)
    steps, same = (torch.empty(n, dtype=torch.float32, device=device) for _ in range(2))
    tile = _QUANTIZED[n <= _FEW]
    launch(
        quantize_rows, -(-n // tile[0]), rows.contiguous(), n, d, matrix.shift, levels, width, steps, same,
        COMMON=common, ROWS=tile[0], DIMS=tile[1],
    )  # fmt: skip
    return levels, steps, same


def _ordered(scores: torch.Tensor, live: torch.Tensor) -> torch.Tensor:
    """Return lists as candidates, (nq, nlist) int64, which are no rows but lists; none without live rows."""
    nq, nlist = scores.shape
    keys = torch.empty((nq, nlist), dtype=torch.int64, device=scores.device)
    launch(order_lists, (-(-nlist // _LISTS), nq), scores, live, nlist, keys, LISTS=_LISTS)
    return keys


def _chosen(scores: torch.Tensor, nprobe: int, need: int, live: LiveRows) -> torch.Tensor:
    """Return the nearest lists, (nq, most) int64, -1 beyond those of a query."""
    there, sizes = live
    held, keys = len(sizes), _ordered(scores, there)
    wanted = min(nprobe, held)
    lists = ranks_of(torch.topk(keys, wanted, dim=1).values)
    if wanted == held or int(sizes[:wanted].sum()) >= need:  # which is known without waiting for the device
        return lists
    short = torch.nonzero(there[lists].sum(dim=1) < need)[:, 0]
    if not len(short):
        return lists
    keys, within = keys[short], wanted
    while True:
        within = min(held, 2 * within + 16)
        more = ranks_of(torch.topk(keys, within, dim=1).values)
        rows = torch.cumsum(there[more], dim=1)
        if within == held or bool((rows[:, -1] >= need).all()):
            break
    counts = ((rows < need).sum(dim=1) + 1).clamp(max=within)
    most = int(counts.max())
    more = more[:, :most].masked_fill(torch.arange(most, device=more.device) >= counts[:, None], -1)
    lists = torch.nn.functional.pad(lists, (0, most - wanted), value=-1)
    lists[short] = more
    return lists
