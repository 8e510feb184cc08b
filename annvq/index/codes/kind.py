"""The interface between an index and a kind of code: `Kind` covers recipes and training, `Codes` rows and scans."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from annvq.index.codes.pools import Pools
from annvq.index.codes.probes import Probes
from annvq.index.rows.segment import Segment
from annvq.kernels.scan import pipeline
from annvq.kernels.scan.lists import BLOCK
from annvq.kernels.scan.scan4 import groups_for

_GROUP = 64  # bytes that the codes of four sub-quantizers take in a block


@dataclass(frozen=True)
class Section:
    """The layout of a section of a segment, which holds ``columns`` numbers per row.

    It is "rows" (n, columns), "numbers" (n,), or flat "blocks" of 32 rows, to which every list is padded.
    """

    dtype: type
    columns: int
    form: Literal["rows", "numbers", "blocks"] = "rows"

    def shape(self, rows: int, blocks: int) -> tuple[int, ...]:
        """Return the shape of the section in a segment with this many rows, in this many blocks."""
        if self.form == "blocks":
            return (blocks * BLOCK * self.columns,)
        return (rows,) if self.form == "numbers" else (rows, self.columns)

    @property
    def bytes_per_row(self) -> int:
        """The bytes per row, without the padding of lists to blocks."""
        return np.dtype(self.dtype).itemsize * self.columns


Layout = dict[str, Section]


def packed_codes(M: int, nbits: int) -> Section:
    """Return the section of M codes per row; those of 4 bits are packed in groups of four sub-quantizers."""
    return Section(np.uint8, groups_for(M) * _GROUP // BLOCK if nbits == 4 else M, "blocks")


class Fields(Protocol):
    """A recipe's fields for codes: `annvq.index.codes.spec.CodebookSpec`, whose M is a number once it is resolved."""

    @property
    def M(self) -> int | str | None:
        """Number of codes per row."""
        ...

    @property
    def nbits(self) -> int | None:
        """Bits per code, or per dimension."""
        ...

    @property
    def residual(self) -> bool:
        """Whether the difference from the centroid is coded."""
        ...

    @property
    def score_aware(self) -> float | None:
        """ScaNN's threshold, or None."""
        ...

    @property
    def beam(self) -> int | None:
        """Partial codes kept while encoding."""
        ...


@dataclass(frozen=True)
class FusedSearch:
    """A search in one kernel call: the kernel, its arguments that depend on the index, and what keeps these alive.

    The kernel is called as `annvq.kernels.scan.pipeline4.search_planned` is.
    """

    kernel: Callable[..., bool]
    plan: pipeline.Plan
    alive: Any


class Codes(Protocol):
    """How the rows of one index are coded, packed into sections and scanned."""

    @property
    def copies(self) -> int:
        """The number of times that a scan may find a row."""
        ...

    @property
    def followed(self) -> tuple[str, ...]:
        """The sections whose numbers kernels follow unchecked, which are therefore kept in memory."""
        ...

    @property
    def scan_is_final(self) -> bool:
        """Whether the scan's scores are the best that the codes give, so that a search for k needs no `rescore`."""
        ...

    def pool_depth(self, k: int) -> int:
        """Return how many rows a scan must keep for the k best."""
        ...

    def encode(self, vectors: np.ndarray, labels: np.ndarray, threads: int) -> dict[str, np.ndarray]:
        """Return unpacked rows by name, each (n, ...), of vectors (n, d) float32 of the lists ``labels`` (n,).

        Vectors are rotated, and the mean is subtracted if `Kind.is_centered`. The name "refine" and those of
        `annvq.index.rows.extension` are reserved. Every value that fits a section's dtype must decode to something,
        because files may hold any.
        """
        ...

    def completed(self, arrays: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, np.ndarray]:
        """Return unpacked rows whose codes were made elsewhere, with everything else that goes with them."""
        ...

    def decode(self, arrays: dict[str, np.ndarray], labels: np.ndarray) -> np.ndarray:
        """Return the vectors (n, d) float32 that unpacked rows stand for."""
        ...

    def pack(self, arrays: dict[str, np.ndarray], offsets: np.ndarray, threads: int) -> dict[str, np.ndarray]:
        """Return the sections that `Kind.layout` states, of unpacked rows in list order.

        List l's are ``offsets[l]:offsets[l + 1]``; the result does not depend on the number of threads.
        """
        ...

    def unpack(self, segment: Segment, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return, for some rows (int64) of a segment, what `pack` was given."""
        ...

    def relaid(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return a segment's sections in this machine's layout, whatever machine wrote them."""
        ...

    def check(self, arrays: dict[str, np.ndarray], n: int) -> dict[str, tuple[type, tuple[int, ...]]]:
        """Check the sections `followed` of n rows when their file is opened (CorruptIndexError).

        Returns dtype and shape of sections that `Kind.layout` cannot state, because they depend on numbers in these.
        """
        ...

    def verify(self, arrays: dict[str, np.ndarray]) -> None:
        """Raise CorruptIndexError if values are stored that `encode` never makes and that must not be decoded.

        This reads all of a segment's sections. That floats are finite is checked already.
        """
        ...

    def prepare(self, queries: np.ndarray, probes: Probes) -> Any:
        """Return what the scan of the probed lists needs of queries (nq, d) float32."""
        ...

    def scan(self, prepared: Any, /, segment: Segment, probes: Probes, pools: Pools, keys: np.ndarray) -> None:
        """Scan the probed lists of a segment into the pools, as `annvq.kernels.scan.scanflat` does.

        Pools take index-wide row numbers (``segment.base`` is added) whose scores reach the threshold; a full pool is
        thinned (`annvq.kernels.scan.topk.thinned`). Rows with 0 in ``segment.allow`` are skipped; if it is empty, none
        are. Part ``probes.part`` of ``probes.parts`` of every list is scanned (`annvq.kernels.scan.lists.part_of`).
        Scores depend on nothing but the query and the row: sums have a fixed order, and BLAS is not used.
        """
        ...

    def rescore(self, prepared: Any, /, segment: Segment, pools: Pools) -> None:
        """Replace the pooled scores of the segment's rows, whatever they were, by the best that the codes give.

        Every kind needs this, because a range search uses it to score all rows of its lists.
        """
        ...

    def fused(self, searched: pipeline.Searched, segment: Segment, /) -> FusedSearch | None:
        """Return the search of one segment in one kernel call, or None if it is done stage by stage."""
        ...


class Kind(Protocol):
    """A kind of code; a new one is a file in this folder with a `Kind` that `annvq.index.codes.kinds` lists."""

    @property
    def name(self) -> str:
        """The name in recipes."""
        ...

    @property
    def defaults(self) -> Mapping[str, Any]:
        """The fields of a `CodebookSpec` that mean something, each with its default, None or False for none."""
        ...

    @property
    def nbits(self) -> tuple[int, ...]:
        """The values that ``nbits`` may have."""
        ...

    @property
    def splits_dimensions(self) -> bool:
        """Whether each of the M codes covers dimensions of its own, so that M may be "d/k" and is at most d."""
        ...

    @property
    def bits(self) -> int:
        """Bits per dimension if no field gives them; 0 for kinds that keep fewer than any refine store.

        A refine store with no more bits than this is refused, because it would improve nothing.
        """
        ...

    @property
    def codebook(self) -> Any:
        """The class of what is learned, or None if nothing is."""
        ...

    @property
    def rotates_itself(self) -> bool:
        """Whether the codebook holds the rotation that the recipe names."""
        ...

    @property
    def needs_centre(self) -> bool:
        """Whether codes are of differences from a centroid even if there are no lists."""
        ...

    @property
    def is_graph(self) -> bool:
        """Whether a scan walks a graph of the rows, and scores exactly those that it visits.

        How far it goes is then the number of candidates (``rerank``). It goes further by itself where few rows may be
        returned, and threads cannot share it.
        """
        ...

    def is_centered(self, spec: Fields) -> bool:
        """Return whether, for "l2", the mean is subtracted from vectors before they are coded."""
        ...

    def layout(self, spec: Fields, d: int, l2: bool, spill: bool) -> Layout:
        """Return the sections of the codes of d-dimensional vectors, for which ``spec`` is resolved."""
        ...

    def telling_bytes(self, spec: Fields, d: int) -> int:
        """Return the bytes per row that carry information about a vector, without factors and padding of dimensions.

        By default, the fewer these are, the more candidates are rescored.
        """
        ...

    def train(
        self, spec: Fields, rows: np.ndarray, centroids: np.ndarray | None, metric: str, *, seed: int, threads: int
    ) -> Any:
        """Learn a codebook from rotated vectors (n, d) float32, the centroids of whose lists are (nlist, d).

        The vectors are the whole sample of a build; a kind that needs fewer takes some of them.
        """
        ...

    def mismatch(self, spec: Fields, codebook: Any) -> str | None:
        """Return in words how a codebook that was read differs from the recipe, or None if it does not."""
        ...

    def codes(
        self, spec: Fields, codebook: Any, dim: int, metric: str, centroids: np.ndarray | None, spill: bool
    ) -> Codes:
        """Return how rows are coded and scanned; ``metric`` is "ip" or "l2"."""
        ...

    @property
    def spelling(self) -> re.Pattern[str]:
        """What a factory string calls the codes."""
        ...

    def read(self, found: re.Match[str], lists: bool) -> dict[str, Any]:
        """Return the fields of what ``spelling`` matched after ``lists`` (RecipeError)."""
        ...

    def spelled(self, spec: Fields) -> str:
        """Return the factory string that `read` reads."""
        ...
