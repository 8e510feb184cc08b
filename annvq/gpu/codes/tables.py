"""Codes that are searched through look-up tables, on a device: product, residual and 4-bit scalar codebooks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch

from annvq.codebooks import ResidualCodebook
from annvq.gpu.codes.kind import ResidentProbes, ResidentSegment, SlabVisits
from annvq.gpu.codes.rows import minus_squares
from annvq.gpu.codes.table_products import Decoded, Products, asked_products, decoded, minus_squared_lengths
from annvq.gpu.kernels.fill_tables import LEAST_SPAN, fill_tables, quantize_tables, settle_tables
from annvq.gpu.kernels.propose_tables import OF_ADDED, propose_tables
from annvq.gpu.kernels.scan_tables import decide_tables, rescore_tables, scan_tables
from annvq.gpu.launch import capability_of, launch, programs_for, tile_queries
from annvq.gpu.pool import Pool
from annvq.gpu.upload import by_words, uploaded
from annvq.index.codes import spill
from annvq.index.codes.tablecodes import TableCodes
from annvq.index.rows.segment import Segment
from annvq.kernels.scan import scan4, scan8

_WORDS, _CONSTANTS, _SQUARES = "codes.words", "constants", "codes.squares"
_SPILLED, _SPILL_OFFSETS, _SPILL_ROWS = "spill.words", spill.OFFSETS, spill.ROWS
_UNPACKED = 1 << 18  # rows whose codes are laid out anew at a time
_ROWS, _RESCORED, _DECIDED = 256, 32, 64  # of one program
_TILE_ROWS, _TILE_WARPS = 128, 8  # of one program that multiplies on tensor cores
_MANY = 16  # queries per list from which on tensor cores propose rows
_PROPOSED = 2  # times the capacity of a pool: proposals that a query has room for


@dataclass
class PreparedTables:
    """Queries as kernels take them."""

    queries: torch.Tensor  # (nq, d) float32, scaled
    tables: torch.Tensor  # (nq, M, ksub) float32
    quantized: torch.Tensor  # (nq, 4 words, 256) uint8 or, for pairs of 4-bit codes, int16
    steps: torch.Tensor  # (nq,) float32
    biases: torch.Tensor  # (nq,) float32: the sums of the tables' least entries
    bases: torch.Tensor  # (nq, nlist) float32: what lists add to scores
    products: Products | None = None  # what tensor cores multiply, once it is asked for

    @property
    def scanned(self) -> tuple[torch.Tensor, ...]:
        """What a scan reads."""
        return self.quantized, self.steps, self.biases, self.bases


class Codebooks(NamedTuple):
    """The entries that tables are filled with."""

    transposed: torch.Tensor  # (M, dsub, ksub) float32
    hop: int  # dimensions from sub-quantizer to sub-quantizer
    squared: bool  # whether entries of tables are minus squared distances
    scale: float  # of queries


@dataclass(frozen=True)
class ResidentTables:
    """`TableCodes` on a device."""

    codes: TableCodes
    device: torch.device

    zero = 0.0

    @property
    def _words(self) -> int:
        return -(-self.codes.M // (8 if self.codes.nbits == 4 else 4))

    def bytes_per_row(self) -> float:
        """Return the bytes of a row's codes, all copies of them, and of its constant."""
        of_second = 4 + 4 * self._words if self.codes.spill else 0
        return 4 * self._words + of_second + (4 if self.codes.with_constants or self._codebooks.squared else 0)

    def work_per_query(self) -> float:
        """Return the bytes of a query's tables, in floats and in bytes, and of its products."""
        M, ksub, size = self.codes.M, 1 << self.codes.nbits, 2 if self.codes.nbits == 4 else 1
        return 4 * M * ksub + 4 * self._words * 256 * size + 8 * self._codebooks.transposed.shape[1] * M

    def upload(self, segment: Segment, held: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return codes by words of four bytes, with neighbouring rows side by side, and what goes with them."""
        arrays, M, nbits = segment.arrays, self.codes.M, self.codes.nbits
        made = dict(held)
        if not made:
            made[_WORDS] = laid_out(arrays[self.codes.section], segment.offsets, M, nbits, self.device)
            if self.codes.with_constants:
                made[_CONSTANTS] = uploaded(arrays[_CONSTANTS], self.device)
            if self.codes.spill:
                made[_SPILLED] = laid_out(arrays[spill.CODES], arrays[spill.OFFSETS], M, nbits, self.device)
                made |= {name: uploaded(arrays[name], self.device) for name in (_SPILL_OFFSETS, _SPILL_ROWS)}
        if self._codebooks.squared:
            made[_SQUARES] = minus_squared_lengths(self._entries, made[_WORDS], nbits)
        return made

    @cached_property
    def _codebooks(self) -> Codebooks:
        codebook: Any = self.codes.codebook
        constants, l2 = self.codes.with_constants, self.codes.metric == "l2"
        if isinstance(codebook, ResidualCodebook):  # whole vectors, whose distances are made of constants
            transposed = np.ascontiguousarray(codebook.codebooks.transpose(0, 2, 1))
            return Codebooks(uploaded(transposed, self.device), 0, False, 2.0 if constants else 1.0)
        of_device = uploaded(self._entries, self.device)
        return Codebooks(of_device, self._entries.shape[1], l2 and not constants, 2.0 if constants else 1.0)

    @cached_property
    def _entries(self) -> np.ndarray:
        """The entries (M, dsub, ksub) float32 of sub-quantizers that have dimensions of their own."""
        codebook: Any = self.codes.codebook
        return np.asarray(codebook.transposed)

    @cached_property
    def _decoded(self) -> Decoded:
        per_word = 32 // self.codes.nbits
        return decoded(self._entries, self._words * per_word, per_word, self.device)

    def prepare(self, queries: torch.Tensor, probes: ResidentProbes) -> PreparedTables:
        """Return the queries' tables, in floats and in bytes, and what each list adds to a score."""
        books = self._codebooks
        asked = (queries * books.scale).contiguous()
        return PreparedTables(asked, *filled_tables(asked, books, self._words), self._bases(queries, probes))

    def _bases(self, queries: torch.Tensor, probes: ResidentProbes) -> torch.Tensor:
        """Return what each list adds to a score, (nq, nlist) float32."""
        if self.codes.residual:
            return probes.centroid_scores.contiguous()
        nlist = max(1, probes.centroid_scores.shape[1])
        if self.codes.with_constants:  # -|q|^2 is the same for every list
            return minus_squares(queries).expand(-1, nlist).contiguous()
        return torch.zeros((len(queries), nlist), dtype=torch.float32, device=self.device)

    def scan(self, prepared: PreparedTables, segment: ResidentSegment, visits: SlabVisits, pool: Pool) -> bool:
        """Score all rows of the visited lists, by their first codes and by their second.

        Of many queries that have thresholds already, those rows are scored that products on tensor cores propose.
        """
        held = segment.sections
        visited = [(held[_WORDS], False, segment)]
        if self.codes.spill:
            visited.append((held[_SPILLED], True, replace(segment, offsets=held[_SPILL_OFFSETS])))
        has_parts = not isinstance(self.codes.codebook, ResidualCodebook)
        many = has_parts and pool.has_thresholds and visits.queries_per_list(segment) >= _MANY
        for words, mapped, lists in visited:
            if not (many and self._scan_together(prepared, lists, words, mapped, visits, pool)):
                self._scan_each(prepared, lists, words, mapped, visits, pool)
        return False  # whatever is appended has its score

    def _scan_each(
        self, prepared: PreparedTables, segment: ResidentSegment, words: torch.Tensor, mapped: bool, visits: SlabVisits,
        pool: Pool,
    ) -> None:  # fmt: skip
        """Score all rows whose codes are ``words``, query by query."""
        held, work = segment.sections, segment.work(visits, _ROWS, 1)
        launch(
            scan_tables, work.programs, words, segment.n, self._words, held.get(_CONSTANTS, words),
            held.get(_SPILL_ROWS, words), *prepared.scanned, prepared.bases.shape[1], work.queries, work.lists,
            work.begins, work.ends, work.visits, segment.mask(), segment.ranks, pool.entries, pool.counts,
            pool.thresholds, pool.capacity, FUSED=self.codes.nbits == 4, CONSTANTS=self.codes.with_constants,
            MAPPED=mapped, FILTERED=segment.allow is not None, ROWS=_ROWS,
        )  # fmt: skip

    def _scan_together(
        self, prepared: PreparedTables, segment: ResidentSegment, words: torch.Tensor, mapped: bool, visits: SlabVisits,
        pool: Pool,
    ) -> bool:  # fmt: skip
        """Score the rows that products propose; return False, with the pools unchanged, if these are too many."""
        together = tile_queries(capability_of(self.device))
        held, work = segment.sections, segment.work(visits, _TILE_ROWS, together)
        if prepared.products is None:
            squared = self._codebooks.squared
            prepared.products = asked_products(prepared.queries, prepared.steps, squared, self.codes.M, self._decoded)
        asked, decoded, nq = prepared.products, self._decoded, len(prepared.queries)
        room, nlist = _PROPOSED * pool.capacity, prepared.bases.shape[1]
        proposals = torch.empty((nq, room), dtype=torch.int64, device=self.device)
        found = torch.zeros(nq, dtype=torch.int32, device=self.device)
        added = held.get(_SQUARES, held.get(_CONSTANTS))
        mapping = held.get(_SPILL_ROWS, words)
        launch(
            propose_tables, work.programs, asked.queries, asked.offsets, asked.margins, words, segment.n, self._words,
            decoded.entries, decoded.entries.shape[2], words if added is None else added, prepared.bases, nlist,
            mapping, work.queries, work.lists, work.begins, work.ends, work.visits, work.visit_ends, segment.mask(),
            pool.thresholds, proposals, found, room, OF_ADDED, warps=_TILE_WARPS, BITS=self.codes.nbits,
            PART=decoded.entries.shape[3], CONSTANTS=added is not None, MAPPED=mapped,
            FILTERED=segment.allow is not None, QUERIES=together, ROWS=_TILE_ROWS,
        )  # fmt: skip
        most = int(found.max())
        if most > room:
            return False
        launch(
            decide_tables, (-(-most // _DECIDED), nq), proposals, found, room, words, segment.n, self._words,
            held.get(_CONSTANTS, words), mapping, *prepared.scanned, nlist, segment.ranks, pool.entries, pool.counts,
            pool.thresholds, pool.capacity, FUSED=self.codes.nbits == 4, CONSTANTS=self.codes.with_constants,
            MAPPED=mapped, ROWS=_DECIDED,
        )  # fmt: skip
        return True

    def rescore(
        self, prepared: PreparedTables, segment: ResidentSegment, places: torch.Tensor, scores: torch.Tensor
    ) -> None:
        """Score candidates by the tables in floats."""
        held = segment.sections
        launch(
            rescore_tables, programs_for(places, _RESCORED), held[_WORDS], segment.n, self._words,
            held.get(_CONSTANTS, held[_WORDS]), prepared.tables, self.codes.M,
            torch.gather(prepared.bases, 1, segment.lists_of(places)), places, places.shape[1], segment.base, scores,
            KSUB=prepared.tables.shape[2], CONSTANTS=self.codes.with_constants, ROWS=_RESCORED,
        )  # fmt: skip


def laid_out(
    packed: np.ndarray,
    offsets: np.ndarray,
    M: int,
    nbits: int,
    device: torch.device,
) -> torch.Tensor:
    """Return packed codes of lists on a device, (words, n) int32, so that neighbouring rows lie side by side."""
    n, words = int(offsets[-1]), -(-M // (8 if nbits == 4 else 4))
    made = torch.empty((words, n), dtype=torch.int32, device=device)
    packer = scan4 if nbits == 4 else scan8
    for start in range(0, n, _UNPACKED):
        rows = np.arange(start, min(n, start + _UNPACKED))
        codes = packer.unpack(packed, offsets, M, rows)
        if nbits == 4:
            even = np.zeros((len(rows), -(-M // 2)), np.uint8)
            even[:, : M // 2] = codes[:, 1::2] << 4
            codes = codes[:, ::2] | even
        padded = np.zeros((len(rows), 4 * words), np.uint8)
        padded[:, : codes.shape[1]] = codes
        by_words(padded, made[:, start : start + len(rows)])
    return made


def filled_tables(
    asked: torch.Tensor, books: Codebooks, words: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return what `PreparedTables` has of scaled queries (nq, d) beside themselves, for codes of so many words."""
    nq, device = len(asked), asked.device
    M, dsub, ksub = books.transposed.shape

    def empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device=device)

    tables, lows, spans = empty(nq, M, ksub), empty(nq, M), empty(nq, M)
    steps, scales, biases = empty(nq), empty(nq), empty(nq)
    at_once = max(1, 256 // ksub)
    launch(
        fill_tables, (nq, -(-M // at_once)), asked, asked.shape[1], books.hop, books.transposed, M, dsub, tables, lows,
        spans, SQUARED=books.squared, KSUB=ksub, TABLES=at_once,
    )  # fmt: skip
    places = max(16, 1 << (M - 1).bit_length())
    launch(settle_tables, nq, lows, spans, M, LEAST_SPAN, steps, scales, biases, PLACES=places, warps=1)
    quantized = empty(nq, 4 * words, 256, dtype=torch.int16 if ksub == 16 else torch.uint8)
    launch(quantize_tables, (nq, 4 * words), tables, lows, scales, M, 4 * words, quantized, KSUB=ksub)
    return tables, quantized, steps, biases
