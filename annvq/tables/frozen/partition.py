"""Which group every row belongs to, and its number within the group, in a few bits per row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from annvq.errors import CorruptIndexError
from annvq.kernels.embeddings.embedding import find_places
from annvq.tables.frozen.form import contiguous, stored

MOST_GROUPS = 256
_LEAST_BLOCK = 128


def label_bits(groups: int) -> int:
    """Return the bits of a label: 1, 2, 4 or 8."""
    return next(bits for bits in (1, 2, 4, 8) if groups <= 1 << bits)


def block_rows(groups: int) -> int:
    """Return the rows of a block: counts take at most an eighth of a byte per row, or a quarter with two groups."""
    return max(_LEAST_BLOCK, 32 * groups)


@dataclass(frozen=True, eq=False)
class Partition:
    """A partition of rows into groups.

    Parameters
    ----------
    labels
        (ceil(n * bits / 8),) uint8, every row's group in 1, 2, 4 or 8 bits.
    counts
        (blocks, groups) int32: rows of each group before each block.

    """

    labels: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, groups: np.ndarray, count: int) -> Partition:
        """Build from every row's group (n,), each from 0 to ``count`` - 1."""
        bits = label_bits(count)
        per_byte = 8 // bits
        padded = np.zeros(-(-len(groups) // per_byte) * per_byte, np.uint8)
        padded[: len(groups)] = groups
        shifts = (np.arange(per_byte) * bits).astype(np.uint8)
        labels = (padded.reshape(-1, per_byte) << shifts).sum(axis=1, dtype=np.uint8)
        return cls(contiguous(labels), contiguous(_counts(groups, count)))

    @staticmethod
    def nbytes(n: int, count: int) -> int:
        """Return the bytes that a partition of n rows into ``count`` groups takes."""
        per_byte = 8 // label_bits(count)
        return -(-n // per_byte) + 4 * count * -(-n // block_rows(count))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {"labels": self.labels, "counts": self.counts}

    @classmethod
    def from_arrays(cls, n: int, count: int, arrays: dict[str, np.ndarray]) -> Partition:
        """Build from `arrays`; CorruptIndexError if labels name no group, or counts are not those of the labels."""
        bits = label_bits(count)
        labels = stored(arrays, "labels", np.uint8, (-(-n * bits // 8),))
        counts = stored(arrays, "counts", np.int32, (-(-n // block_rows(count)), count))
        per_byte = 8 // bits
        shifts = (np.arange(per_byte) * bits).astype(np.uint8)
        groups = ((labels[:, None] >> shifts) & np.uint8((1 << bits) - 1)).ravel()[:n]
        if int(groups.max()) >= count or not np.array_equal(counts, _counts(groups, count)):
            raise CorruptIndexError("the groups of the table's rows and their counts do not fit each other")
        return cls(labels, counts)

    def find(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the groups and the places in them of rows (m,) int64, both (m,) int64."""
        groups, places = np.empty(len(ids), np.int64), np.empty(len(ids), np.int64)
        count = self.counts.shape[1]
        find_places(self.labels, label_bits(count), self.counts, block_rows(count), ids, groups, places)
        return groups, places


def places_of(groups: np.ndarray, count: int) -> np.ndarray:
    """Return every row's number among the rows of its group, (n,) int64."""
    places = np.empty(len(groups), np.int64)
    for group in range(count):
        members = np.flatnonzero(groups == group)
        places[members] = np.arange(len(members))
    return places


def _counts(groups: np.ndarray, count: int) -> np.ndarray:
    block = block_rows(count)
    blocks = -(-len(groups) // block)
    per_block = np.zeros((blocks, count), np.int64)
    np.add.at(per_block, (np.arange(len(groups)) // block, groups), 1)
    before = np.zeros((blocks, count), np.int32)
    before[1:] = np.cumsum(per_block, axis=0)[:-1]
    return before
