"""Sources of vectors: one small interface over arrays, files and streams.

Blocks are returned as they are stored (any dtype that `annvq.vectors.as_matrix` accepts, not checked for
NaN); `annvq.vectors.batches` turns every source into checked float32 blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from annvq.errors import StateError

_SAMPLING_ROWS = 16384  # rows decoded at a time while a sample is collected


@runtime_checkable
class VectorSource(Protocol):
    """Vectors of one dimension that can be read in blocks."""

    @property
    def count(self) -> int | None:
        """Number of vectors; ``None`` if it is not known before the end."""
        ...

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        ...

    def batches(self, rows: int) -> Iterator[np.ndarray]:
        """Yield blocks (at most ``rows``, d) from the first vector to the last."""
        ...

    def sample(self, rows: int, seed: int) -> np.ndarray:
        """Return up to ``rows`` vectors (rows, d), chosen at random, in the order in which they are stored."""
        ...

    def ids(self) -> np.ndarray | None:
        """Return the ids that come with the vectors, (n,) int64 or object array of str, or ``None``."""
        ...


def sample_rows(count: int, rows: int, seed: int) -> np.ndarray:
    """Return up to ``rows`` different row numbers below ``count``, ascending, int64.

    The numbers are the same for every kind of source, so that a file's format does not change what is learned.
    """
    if rows >= count:
        return np.arange(count, dtype=np.int64)
    return np.sort(np.random.default_rng(seed).choice(count, rows, replace=False, shuffle=False))


def _no_ids() -> np.ndarray | None:
    return None


class MatrixSource:
    """Rows of an array in memory or mapped from a file, (n, d)."""

    def __init__(self, matrix: np.ndarray, load_ids: Callable[[], np.ndarray | None] = _no_ids) -> None:
        self.matrix = matrix
        self.count, self.dim = matrix.shape
        self._load_ids = load_ids

    def batches(self, rows: int) -> Iterator[np.ndarray]:
        """Yield views of at most ``rows`` rows."""
        for start in range(0, self.count, rows):
            yield self.matrix[start : start + rows]

    def sample(self, rows: int, seed: int) -> np.ndarray:
        """Return a copy of the chosen rows only."""
        return self.matrix[sample_rows(self.count, rows, seed)]

    def ids(self) -> np.ndarray | None:
        """Return the ids stored beside the matrix, if any."""
        return self._load_ids()


class ChunkedSource:
    """Chunks (row groups, record batches, spans of rows) that are decoded one at a time.

    Parameters
    ----------
    lengths
        The number of rows of every chunk.
    dim
        Dimension of the vectors.
    read
        ``read(chunk, rows)`` yields the blocks (at most ``rows``, d) of one chunk.
    load_ids
        A function that reads all ids.

    """

    def __init__(
        self,
        lengths: Sequence[int],
        dim: int,
        read: Callable[[int, int], Iterator[np.ndarray]],
        load_ids: Callable[[], np.ndarray | None] = _no_ids,
    ) -> None:
        self.lengths = tuple(lengths)
        self.count = sum(self.lengths)
        self.dim = dim
        self.read = read
        self._load_ids = load_ids

    def batches(self, rows: int) -> Iterator[np.ndarray]:
        """Yield the blocks of every chunk in turn."""
        for chunk in range(len(self.lengths)):
            yield from self.read(chunk, rows)

    def sample(self, rows: int, seed: int) -> np.ndarray:
        """Decode only the chunks that hold chosen rows, and keep only these rows."""
        chosen = sample_rows(self.count, rows, seed)
        ends = np.cumsum(self.lengths, dtype=np.int64)
        parts = []
        for chunk in np.unique(np.searchsorted(ends, chosen, side="right")):
            start = int(ends[chunk]) - self.lengths[chunk]
            for block in self.read(int(chunk), _SAMPLING_ROWS):
                first, last = np.searchsorted(chosen, [start, start + len(block)])
                parts.append(block[chosen[first:last] - start])
                start += len(block)
        return np.concatenate(parts) if parts else np.empty((0, self.dim), dtype=np.float32)

    def ids(self) -> np.ndarray | None:
        """Return the id column, if there is one."""
        return self._load_ids()


class StreamSource:
    """Blocks that can be read once, such as those of a generator.

    A sample is the head of the stream, since nothing else can be read without losing it. The head is kept,
    and `batches` yields it again. If there is no block, the dimension is ``dim``, or 0 if that is None.
    """

    count = None

    def __init__(self, blocks: Iterator[np.ndarray], dim: int | None = None) -> None:
        self._blocks = blocks
        first = next(blocks, None)
        # Copied: a generator may fill one buffer again and again.
        self._head = [] if first is None else [first.copy()]
        self.dim = (dim or 0) if first is None else first.shape[1]
        self._consumed = False

    def batches(self, rows: int) -> Iterator[np.ndarray]:
        """Yield the stream's blocks, cut to at most ``rows``; a second call raises StateError."""
        if self._consumed:
            raise StateError("the stream of vectors has been read already; pass a new iterator")
        self._consumed = True
        return self._drain(rows)

    def _drain(self, rows: int) -> Iterator[np.ndarray]:
        while self._head:
            yield from _cut(self._head.pop(0), rows)
        for block in self._blocks:
            yield from _cut(block, rows)

    def sample(self, rows: int, seed: int) -> np.ndarray:
        """Return the first ``rows`` vectors of the stream, whatever the seed (StateError once it has been read)."""
        if self._consumed:
            raise StateError("the stream of vectors has been read already; sample it before")
        seen = sum(len(block) for block in self._head)
        while seen < rows and (block := next(self._blocks, None)) is not None:
            self._head.append(block.copy())
            seen += len(block)
        if not self._head:
            return np.empty((0, self.dim), dtype=np.float32)
        return np.concatenate(self._head)[:rows]

    def ids(self) -> np.ndarray | None:
        """Return ``None``: a stream of vectors carries no ids."""
        return None


def _cut(block: np.ndarray, rows: int) -> Iterator[np.ndarray]:
    for start in range(0, len(block), rows):
        yield block[start : start + rows]
