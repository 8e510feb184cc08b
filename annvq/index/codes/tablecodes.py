"""Codes that are searched through look-up tables: product, residual and 4-bit scalar codebooks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from annvq.arrays import frozen
from annvq.codebooks import ProductCodebook
from annvq.index.codes import spill
from annvq.index.codes.kind import FusedSearch, Layout, Section, packed_codes
from annvq.index.codes.pools import Pools
from annvq.index.codes.probes import Probes
from annvq.index.rows.segment import Segment
from annvq.kernels import threads as pool
from annvq.kernels.scan import pipeline, pipeline4, scan4, scan8
from annvq.kernels.scan.lists import PackedCodes
from annvq.kernels.vectors.dots import squared_norms

CODEBOOK_ROWS = 1 << 16  # vectors from which a codebook of 256 entries per sub-quantizer is learned
_ROWS_ENCODED = 1024  # by a task
_ROWS_DECODED = 1024  # at a time, to compute their constants
_NOTHING = frozen(np.empty(0, np.float32))
_UNMAPPED = frozen(np.empty(0, np.uint32))


def _section(nbits: int) -> str:
    return f"codes.{scan4.LAYOUT}" if nbits == 4 else "codes"


def table_layout(M: int, nbits: int, constants: bool, spilled: bool) -> Layout:
    """Return the sections of M codes of ``nbits`` per row, of a constant, and of second codes."""
    layout = {_section(nbits): packed_codes(M, nbits)}
    if constants:
        layout["constants"] = Section(np.float32, 1, "numbers")
    return layout | spill.layout(M) if spilled else layout


class TableCodebook(Protocol):
    """A codebook whose score with a code is a sum of look-ups; arrays are those of `ProductCodebook`'s methods."""

    def encode_trusted(self, rows: np.ndarray, *, threads: int) -> np.ndarray:
        """Return the codes (n, M) uint8 of vectors (n, d) float32."""
        ...

    def decode_trusted(self, codes: np.ndarray) -> np.ndarray:
        """Return the vectors that codes stand for."""
        ...

    def lookup_tables_trusted(self, queries: np.ndarray, metric: str, *, residual: bool) -> np.ndarray:
        """Return the queries' tables (nq, M, ksub) float32 for "ip" or "l2"."""
        ...

    def needs_constants(self, metric: str, residual: bool) -> bool:
        """Return whether a score is base + tables + a constant per vector, rather than base + tables."""
        ...

    def residual_constants(self, codes: Any, centroids: Any) -> np.ndarray:
        """Return the constants (n,) float32 of codes relative to centroids (n, d), or to 0 if they are None."""
        ...

    def residual_constants_trusted(self, codes: np.ndarray, centroids: np.ndarray | None) -> np.ndarray:
        """Do what `residual_constants` does, without checks."""
        ...


@dataclass(frozen=True)
class TableCodes:
    """How vectors are coded by a codebook with tables, packed for the scan and scanned.

    If ``residual``, codes are of x - c with the centroid c of x's list, a row of ``centroids``. There are ``M`` codes
    of ``nbits`` 4 or 8. If ``spill``, every row has a second code in another list (`annvq.index.codes.spill`).
    """

    codebook: TableCodebook
    metric: str
    residual: bool
    M: int
    nbits: int
    centroids: np.ndarray | None = None
    spill: bool = False

    scan_is_final = False

    @property
    def section(self) -> str:
        """The name of the section of packed codes; for 4-bit codes it names the layout of the instruction set."""
        return _section(self.nbits)

    def relaid(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return a segment's arrays with 4-bit codes in this machine's layout, whatever machine wrote them."""
        for other, section in ((f"codes.{scan4.OTHER_LAYOUT}", self.section), (spill.OTHER_CODES, spill.CODES)):
            packed = arrays.get(other)
            if packed is not None and self.nbits == 4 and packed.dtype == np.uint8 and not packed.size % 64:
                rest = {name: array for name, array in arrays.items() if name != other}
                arrays = {**rest, section: frozen(scan4.relaid(packed))}
        return arrays

    def check(self, arrays: dict[str, np.ndarray], n: int) -> dict[str, tuple[type, tuple[int, ...]]]:
        """Check which rows second codes are of, and return dtype and shape of their sections (CorruptIndexError)."""
        if not self.spill:
            return {}
        assert self.centroids is not None
        return spill.check(arrays, self.M, n, len(self.centroids))

    def verify(self, arrays: dict[str, np.ndarray]) -> None:
        """Raise CorruptIndexError unless second codes are of every row; any codes are valid."""
        if self.spill:
            spill.check_rows(arrays)

    @property
    def followed(self) -> tuple[str, ...]:
        """The sections that say where second codes are, and of which rows."""
        return (spill.OFFSETS, spill.ROWS) if self.spill else ()

    @property
    def copies(self) -> int:
        """The number of times that a scan may find a row."""
        return 2 if self.spill else 1

    def packed(self, segment: Segment) -> PackedCodes:
        """Return a segment's codes as kernels take them."""
        arrays = segment.arrays
        constants = arrays.get("constants", _NOTHING)
        return PackedCodes(
            arrays[self.section], segment.offsets, segment.block_offsets, constants, segment.allow, _UNMAPPED,
            segment.base,
        )  # fmt: skip

    def spilled(self, segment: Segment) -> PackedCodes:
        """Return a segment's second codes as kernels take them; the mapping is empty if there are none."""
        first = self.packed(segment)
        if not self.spill:
            return first
        arrays = segment.arrays
        return first._replace(
            packed=arrays[spill.CODES], offsets=arrays[spill.OFFSETS], block_offsets=segment.spill_block_offsets,
            mapping=arrays[spill.ROWS],
        )  # fmt: skip

    @property
    def with_constants(self) -> bool:
        """Whether each row carries a constant, see "Residual codes" in docs/design.md."""
        return self.codebook.needs_constants(self.metric, self.residual)

    def pool_depth(self, k: int) -> int:
        """Return how many rows the scan with 8-bit tables must keep so that the float tables find the k best."""
        return max(2 * k, k + 32)

    def encode(self, vectors: np.ndarray, labels: np.ndarray, threads: int) -> dict[str, np.ndarray]:
        """Code vectors (n, d) float32 of the lists ``labels`` (n,)."""
        lists = self.second_lists.of(vectors, labels, threads) if self.spill else None

        def encode(part: slice) -> dict[str, np.ndarray]:
            return self._encode(vectors[part], labels[part], None if lists is None else lists[part])

        n = len(vectors)  # few rows at a time, so that residuals and what is decoded stay in a cache
        parts = pool.run(encode, pool.slices(n, -(-n // _ROWS_ENCODED)) or [slice(0, 0)], threads)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    @cached_property
    def second_lists(self) -> spill.SecondLists:
        """What chooses second lists."""
        assert self.centroids is not None
        return spill.SecondLists(self.centroids)

    def _encode(self, vectors: np.ndarray, labels: np.ndarray, lists: np.ndarray | None) -> dict[str, np.ndarray]:
        """Code some vectors, of which ``lists`` are the second lists."""
        of_rows = self._centroids_of(labels)
        codes = self._codes_of(vectors if of_rows is None else vectors - of_rows, vectors)
        arrays = {"codes": codes}
        if lists is not None:
            assert self.centroids is not None
            arrays[spill.LISTS] = lists
            arrays[spill.UNPACKED] = self._codes_of(vectors - self.centroids[lists], vectors)
        if self.with_constants:
            arrays["constants"] = self.codebook.residual_constants_trusted(codes, of_rows)
        return arrays

    def completed(self, arrays: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, np.ndarray]:
        """Return rows of codes that were made elsewhere with their constants (errors of `residual_constants`)."""
        if not self.with_constants:
            return arrays
        constants = [np.empty(0, np.float32)]
        for start in range(0, len(labels), _ROWS_DECODED):
            some = slice(start, start + _ROWS_DECODED)
            constants.append(self.codebook.residual_constants(arrays["codes"][some], self._centroids_of(labels[some])))
        return {**arrays, "constants": np.concatenate(constants)}

    def _codes_of(self, targets: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        if isinstance(self.codebook, ProductCodebook) and self.codebook.anisotropic_eta is not None:
            return self.codebook.encode_trusted(targets, vectors, threads=1)
        return self.codebook.encode_trusted(targets, threads=1)

    def _centroids_of(self, labels: np.ndarray) -> np.ndarray | None:
        return self.centroids[labels] if self.residual and self.centroids is not None else None

    def pack(self, arrays: dict[str, np.ndarray], offsets: np.ndarray, threads: int) -> dict[str, np.ndarray]:
        """Pack rows in list order into the scan's layout."""
        packer = scan4 if self.nbits == 4 else scan8
        packed = {name: array for name, array in arrays.items() if name not in ("codes", spill.LISTS, spill.UNPACKED)}
        if self.spill:
            packed |= spill.pack(arrays[spill.LISTS], arrays[spill.UNPACKED], len(offsets) - 1)
        return {**packed, self.section: packer.pack(arrays["codes"], offsets)}

    def unpack(self, segment: Segment, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return, for some rows (int64) of a segment, what `pack` was given."""
        packer = scan4 if self.nbits == 4 else scan8
        unpacked = {"codes": packer.unpack(segment.arrays[self.section], segment.offsets, self.M, rows)}
        if self.with_constants:
            unpacked["constants"] = segment.arrays["constants"][rows]
        if self.spill:
            unpacked |= spill.unpack(segment.arrays, self.M, rows)
        return unpacked

    def decode(self, arrays: dict[str, np.ndarray], labels: np.ndarray) -> np.ndarray:
        """Return vectors (n, d) float32 of unpacked rows of the lists ``labels`` (n,)."""
        of_rows = self._centroids_of(labels)
        decoded = self.codebook.decode_trusted(arrays["codes"])
        return decoded if of_rows is None else decoded + of_rows

    def prepare(self, queries: np.ndarray, probes: Probes) -> tuple[np.ndarray, np.ndarray]:
        """Return the queries' tables (nq, M, ksub) and what each list adds to a score, (nq, nlist) or (nq, 0)."""
        tables = self.codebook.lookup_tables_trusted(queries, self.metric, residual=self.residual)
        if self.residual:
            return tables, probes.centroid_scores
        if self.with_constants:  # -|q|^2 is the same for every list
            squares = -squared_norms(queries)[:, None]
            return tables, np.ascontiguousarray(np.broadcast_to(squares, probes.lists.shape))
        return tables, np.empty((len(queries), 0), np.float32)

    def scan(
        self,
        prepared: tuple[np.ndarray, np.ndarray],
        segment: Segment,
        probes: Probes,
        pools: Pools,
        keys: np.ndarray,
    ) -> None:
        """Scan the probed lists of a segment into the pools."""
        kernel = scan4.scan_lists if self.nbits == 4 else scan8.scan_lists
        visits, candidates = probes.visits, pools.candidates
        for codes in (self.packed(segment), self.spilled(segment))[: self.copies]:
            kernel(*prepared, codes, visits, candidates, pools.keep, keys)

    def rescore(self, prepared: tuple[np.ndarray, np.ndarray], segment: Segment, pools: Pools) -> None:
        """Replace the pooled scores of the segment's rows by sums over the float tables."""
        kernel = scan4.rescore if self.nbits == 4 else scan8.rescore
        kernel(*prepared, self.packed(segment), pools.candidates)

    def fused(self, searched: pipeline.Searched, segment: Segment) -> FusedSearch | None:
        """Return the search of one segment in one kernel call; None but for 4-bit product codes."""
        codebook = self.codebook
        if not (isinstance(codebook, ProductCodebook) and self.nbits == 4):
            return None
        tree = pipeline4.Searched4(
            searched, codebook.transposed, self.residual, self.packed(segment), self.spilled(segment)
        )
        return FusedSearch(pipeline4.search_planned, pipeline.plan(searched, tree), tree)
