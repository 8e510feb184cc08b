"""What an index asks of a kind of code: `Kind` speaks of recipes and training, `Codes` of rows and scans."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from annvq.index.codes.pools import Pools
from annvq.index.codes.probes import Probes
from annvq.index.rows.segment import Segment
from annvq.kernels.scan.lists import BLOCK
from annvq.kernels.scan.scan4 import groups_for

_GROUP = 64  # bytes of a block's codes of four sub-quantizers


@dataclass(frozen=True)
class Section:
    """How a section of a segment stands: ``columns`` numbers per row.

    As "rows" (n, columns), as "numbers" (n,), or as flat "blocks" of 32 rows, to which every list is padded.
    """

    dtype: type
    columns: int
    form: Literal["rows", "numbers", "blocks"] = "rows"

    def shape(self, rows: int, blocks: int) -> tuple[int, ...]:
        """Return the shape of the section of a segment of so many rows, in so many blocks."""
        if self.form == "blocks":
            return (blocks * BLOCK * self.columns,)
        return (rows,) if self.form == "numbers" else (rows, self.columns)

    @property
    def bytes_per_row(self) -> int:
        """Bytes per row; lists' padding to blocks is not counted."""
        return np.dtype(self.dtype).itemsize * self.columns


Layout = dict[str, Section]


def packed_codes(M: int, nbits: int) -> Section:
    """Return the section of M codes per row; those of 4 bits are packed in groups of four sub-quantizers."""
    return Section(np.uint8, groups_for(M) * _GROUP // BLOCK if nbits == 4 else M, "blocks")


class Fields(Protocol):
    """What a recipe says of codes: `annvq.index.codes.spec.CodebookSpec`, whose M is a number where it is settled."""

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


class Codes(Protocol):
    """How the rows of one index are coded, packed into sections and scanned."""

    @property
    def layout(self) -> Layout:
        """The sections of a segment's codes."""
        ...

    @property
    def copies(self) -> int:
        """How often a scan may find a row."""
        ...

    @property
    def scan_is_final(self) -> bool:
        """Whether the scan's scores are the best that the codes give: a search for k then needs no `rescore`."""
        ...

    def pool_depth(self, k: int) -> int:
        """Return how many rows a scan must keep for the k best."""
        ...

    def encode(self, vectors: np.ndarray, labels: np.ndarray, threads: int) -> dict[str, np.ndarray]:
        """Return unpacked rows by name, each (n, ...), of vectors (n, d) float32 of the lists ``labels`` (n,).

        Vectors are rotated, and the mean is taken from them where `Kind.is_centered`. The names "refine" and "tokens"
        are taken. Every value that fits a section's dtype has to decode to something: files may hold any.
        """
        ...

    def completed(self, arrays: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, np.ndarray]:
        """Return unpacked rows whose codes were made elsewhere, with all else that goes with them."""
        ...

    def decode(self, arrays: dict[str, np.ndarray], labels: np.ndarray) -> np.ndarray:
        """Return the vectors (n, d) float32 that unpacked rows stand for."""
        ...

    def pack(self, arrays: dict[str, np.ndarray], offsets: np.ndarray) -> dict[str, np.ndarray]:
        """Return the sections of unpacked rows in list order; list l's are ``offsets[l]:offsets[l + 1]``."""
        ...

    def unpack(self, segment: Segment, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return what `pack` was given, of some rows (int64) of a segment."""
        ...

    def prepare(self, queries: np.ndarray, probes: Probes) -> Any:
        """Return what the scan of the probed lists takes of queries (nq, d) float32."""
        ...

    def scan(self, prepared: Any, /, segment: Segment, probes: Probes, pools: Pools, keys: np.ndarray) -> None:
        """Scan the probed lists of a segment into the pools, as `annvq.kernels.scan.scanflat` does.

        Pools hold rows of the whole index (``segment.base`` is added), each from the threshold on; a full one is
        thinned (`annvq.kernels.scan.topk.thinned`). Rows with 0 in ``segment.allow`` are passed over, none where it
        is empty. Of every list the part ``probes.part`` of ``probes.parts`` is scanned
        (`annvq.kernels.scan.lists.part_of`). Scores depend on nothing but the query and the row: sums have a fixed
        order, and no BLAS takes part.
        """
        ...

    def rescore(self, prepared: Any, /, segment: Segment, pools: Pools) -> None:
        """Replace the pooled scores of the segment's rows by the best that the codes give, whatever they were.

        Needed of every kind: a search within a radius scores all rows of its lists so.
        """
        ...


class Kind(Protocol):
    """A kind of code. A new one is a file of this folder with a `Kind`, which `annvq.index.codes.kinds` lists."""

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
        """Whether each of M codes is of dimensions of its own: M may be "d/k", and is at most d."""
        ...

    @property
    def bits(self) -> int:
        """Bits per dimension, where no field says how many; 0 for kinds that keep fewer than any refine store.

        A refine store with no more bits than this is refused: it would repair nothing.
        """
        ...

    @property
    def codebook(self) -> Any:
        """The class of what is learned, None where that is nothing."""
        ...

    @property
    def rotates_itself(self) -> bool:
        """Whether the codebook holds the rotation that the recipe names."""
        ...

    @property
    def needs_centre(self) -> bool:
        """Whether codes are of differences from a centroid even where there are no lists."""
        ...

    def is_centered(self, spec: Fields) -> bool:
        """Return whether the mean is taken from vectors before they are coded for "l2"."""
        ...

    def layout(self, spec: Fields, d: int, l2: bool, spill: bool) -> Layout:
        """Return the sections of the codes of d-dimensional vectors; ``spec`` is settled for them."""
        ...

    def telling_bytes(self, spec: Fields, d: int) -> int:
        """Return the bytes per row that tell something of a vector: no factors, no padding of dimensions.

        By default, the fewer these are, the more candidates are rescored.
        """
        ...

    def train(
        self, spec: Fields, rows: np.ndarray, centroids: np.ndarray | None, metric: str, *, seed: int, threads: int
    ) -> Any:
        """Learn a codebook from rotated vectors (n, d) float32, whose lists' centroids are (nlist, d).

        These are the whole sample of a build; a kind that needs fewer takes some of them.
        """
        ...

    def mismatch(self, spec: Fields, codebook: Any) -> str | None:
        """Return in words how a codebook that was read differs from the recipe, None where it does not."""
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
        """Return the fields of what ``spelling`` found, before which ``lists`` stood (RecipeError)."""
        ...

    def spelled(self, spec: Fields) -> str:
        """Return the factory string that `read` reads."""
        ...
