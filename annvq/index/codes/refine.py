"""The kinds of refine stores, which hold a second, more precise copy of the vectors behind the codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from annvq.arrays import frozen
from annvq.codebooks import ScalarCodebook
from annvq.index.codes.kind import Layout
from annvq.index.codes.localrows import LocalRowStore, local_layout
from annvq.index.codes.pools import Pools
from annvq.index.codes.rowstore import RowStore, row_layout
from annvq.index.rows.segment import Segment
from annvq.kernels.scan import pipeline


class Refine(Protocol):
    """How a refine store keeps rows, and scores candidates with them."""

    def encode(self, vectors: np.ndarray, labels: np.ndarray, threads: int) -> dict[str, np.ndarray]:
        """Return unpacked rows by section, each (n, ...), of vectors (n, d) float32."""
        ...

    def decode(self, arrays: dict[str, np.ndarray], labels: np.ndarray) -> np.ndarray:
        """Return the vectors (n, d) float32 that unpacked rows stand for."""
        ...

    def unpack(self, segment: Segment, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return some rows (int64) of a segment, as `encode` gave them."""
        ...

    def refined(self, segment: Segment) -> pipeline.Refined:
        """Return a segment's rows as kernels take them."""
        ...

    def narrow(self, queries: np.ndarray, segments: Sequence[Segment], pools: Pools, k: int, keys: np.ndarray) -> None:
        """Drop rows from the pools that need no `rescore` to be known not to be among the best k."""
        ...

    def rescore(self, queries: np.ndarray, segment: Segment, pools: Pools) -> None:
        """Replace the pooled scores of a segment's rows by the best scores there are; ``queries (nq, d)``."""
        ...


@dataclass(frozen=True)
class RefineKind:
    """A kind of refine store.

    Parameters
    ----------
    bits
        Bits per dimension.
    needs_mean
        Whether rows are differences from the mean of the vectors.
    text
        How factory strings spell it, within ``Refine()``.
    layout
        Returns the sections of rows of a dimension, for L2 or not.
    store
        Returns the store for a dimension, for L2 or not, with what was learned: the levels of "sq8", and the mean.

    """

    bits: int
    needs_mean: bool
    text: str
    layout: Callable[[int, bool], Layout]
    store: Callable[[int, bool, ScalarCodebook | None, Any], Refine]


def _rows(name: str, bits: int, text: str) -> RefineKind:
    """Return the kind of rows of floats, or of scalars with the same range for all rows."""
    return RefineKind(
        bits,
        False,
        text,
        lambda dim, l2: row_layout(name, dim, "refine"),
        lambda dim, l2, scalar, mean: RowStore(name, dim, l2, "refine", scalar),
    )


def _local_rows(levels: int, text: str) -> RefineKind:
    """Return the kind of rows with a range each, in codes of 8 bits of one or two levels."""
    return RefineKind(
        8 * levels,
        True,
        text,
        lambda dim, l2: local_layout(dim, l2, levels),
        lambda dim, l2, scalar, mean: LocalRowStore(dim, l2, levels, frozen(mean)),
    )


REFINES = {
    "sq8": _rows("sq8", 8, "SQ8"),
    "fp16": _rows("fp16", 16, "SQfp16"),
    "fp32": _rows("fp32", 32, "Flat"),
    "lvq8": _local_rows(1, "LVQ8"),
    "lvq8x8": _local_rows(2, "LVQ8x8"),
}
