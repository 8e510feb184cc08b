"""Sets of vectors: whatever users pass becomes, once, one flat matrix and the offsets at which sets begin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from annvq import vectors as door
from annvq.arguments import as_count, as_integers
from annvq.arrays import offsets_of
from annvq.errors import DtypeError, NonFiniteError, ShapeError

_KEPT = (np.float32, np.float16, np.int8)
_KEPT_TORCH = ("torch.float32", "torch.float16", "torch.int8")


@dataclass(frozen=True, eq=False)
class Ragged:
    """m sets of vectors of one dimension.

    Parameters
    ----------
    vectors
        (n, d) float32, float16 or int8, finite: the sets one after the other.
    offsets
        (m + 1,) int64: set i is ``vectors[offsets[i]:offsets[i + 1]]``.

    Examples
    --------
    >>> sets = annvq.multivector.Ragged.of([np.ones((3, 4)), np.ones((2, 4))])
    >>> len(sets), sets.vectors.shape, sets.offsets
    (2, (5, 4), array([0, 3, 5]))

    """

    vectors: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(
        cls, sets: Any, offsets: Any = None, *, dim: int | None = None, name: str = "documents", first: int = 0
    ) -> Ragged:
        """Return sets of vectors, checked.

        Parameters
        ----------
        sets
            A list of arrays (t, d), NumPy or torch; an array (m, t, d) of sets of the same length; an Arrow
            column of lists of lists; one flat array (n, d) with ``offsets``; or a `Ragged`. float32, float16 and
            int8 keep their dtype, other numbers become float32.
        offsets
            (m + 1,) integers that rise from 0 to n.
        dim
            The dimension that vectors must have; by default any.
        name, first
            What messages call the sets, and the number of the first.

        Raises
        ------
        ShapeError, DtypeError, NonFiniteError
            The message says what was given and what is accepted, and names the first bad set.
        ParameterError
            ``dim`` is not a whole number of at least 1.

        """
        dim = None if dim is None else as_count("dim", dim)
        if isinstance(sets, Ragged):
            if offsets is not None:
                raise ShapeError(f"{name}: offsets for sets that have their own")
            flat, starts = _flat(sets.vectors, sets.offsets, name)
        elif offsets is not None:
            flat, starts = _flat(sets, offsets, name)
        elif _is_arrow(sets):
            flat, starts = _from_arrow(sets, name)
        else:
            flat, starts = _from_sets(sets, dim, name, first)
        if dim is not None and flat.shape[1] != dim:
            raise ShapeError(f"{name}: vectors of dimension {flat.shape[1]}, expected {dim}")
        if flat.shape[1] == 0:
            raise ShapeError(f"{name}: vectors of dimension 0, expected at least 1")
        if flat.dtype.kind == "f":
            _check_finite(flat, starts, name, first)
        return cls(flat, starts)

    @property
    def dim(self) -> int:
        """Dimension d of the vectors."""
        return self.vectors.shape[1]

    @property
    def lengths(self) -> np.ndarray:
        """The number of vectors of every set, (m,) int64."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        """Return the number of sets."""
        return len(self.offsets) - 1

    def __getitem__(self, sets: Any) -> Ragged:
        """Return some of the sets, selected by a slice, an array of numbers or a mask, in that order."""
        if isinstance(sets, slice):
            begin, end, step = sets.indices(len(self))
            if step == 1 and begin <= end:
                starts = self.offsets[begin : end + 1]
                return Ragged(self.vectors[starts[0] : starts[-1]], starts - starts[0])
        sets = np.arange(len(self))[sets]
        lengths = self.lengths[sets]
        starts = offsets_of(lengths)
        rows = np.repeat(self.offsets[sets] - starts[:-1], lengths) + np.arange(starts[-1])
        return Ragged(self.vectors[rows], starts)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield every set, (t, d)."""
        for begin, end in zip(self.offsets[:-1], self.offsets[1:], strict=True):
            yield self.vectors[begin:end]

    def floats(self) -> Ragged:
        """Return the same sets in float32."""
        if self.vectors.dtype == np.float32:
            return self
        return Ragged(self.vectors.astype(np.float32), self.offsets)

    def without_empty(self, name: str, first: int = 0) -> Ragged:
        """Return the same sets; if one has no vectors, ShapeError names it, counted from ``first``."""
        empty = np.flatnonzero(self.offsets[1:] == self.offsets[:-1])
        if len(empty):
            raise ShapeError(f"{name}: number {first + empty[0]} has no vectors, expected at least one each")
        return self


def concatenated(parts: Sequence[Ragged]) -> Ragged:
    """Return all sets of ``parts``, at least one, in their order."""
    lengths = np.concatenate([part.lengths for part in parts])
    return Ragged(np.concatenate([part.vectors for part in parts]), offsets_of(lengths))


def _flat(vectors: Any, offsets: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    flat, starts = _kept(vectors, name), _starts(offsets, name)
    if starts[-1] != len(flat):
        raise ShapeError(f"{name}: offsets end at {starts[-1]}, expected the {len(flat)} vectors given")
    return flat, starts


def _kept(vectors: Any, name: str) -> np.ndarray:
    """Return vectors (n, d) in a dtype that is kept, C-contiguous."""
    if type(vectors).__module__.partition(".")[0] == "torch" and str(vectors.dtype) in _KEPT_TORCH:
        vectors = vectors.detach().cpu().numpy()
    is_plain = isinstance(vectors, np.ndarray) and not isinstance(vectors, np.ma.MaskedArray)
    if is_plain and vectors.ndim == 2 and vectors.dtype in _KEPT:
        return np.ascontiguousarray(vectors)
    return door.as_matrix(vectors, name=name)


def _starts(offsets: Any, name: str) -> np.ndarray:
    starts = as_integers(f"{name}: offsets", offsets)
    if starts.ndim != 1 or len(starts) == 0:
        raise ShapeError(f"{name}: offsets {starts.shape}, expected (m + 1,)")
    starts = starts.astype(np.int64)
    if starts[0] != 0:
        raise ShapeError(f"{name}: offsets begin at {starts[0]}, expected 0")
    falls = np.flatnonzero(starts[1:] < starts[:-1])
    if len(falls):
        at = int(falls[0])
        raise ShapeError(f"{name}: offsets fall from {starts[at]} to {starts[at + 1]} at place {at + 1}")
    return starts


def _from_sets(sets: Any, dim: int | None, name: str, first: int) -> tuple[np.ndarray, np.ndarray]:
    if getattr(sets, "ndim", None) == 3:
        sets = list(sets)
    if not isinstance(sets, list | tuple):
        raise ShapeError(
            f"{name}: {type(sets).__name__}, expected a list of arrays (t, d), or flat vectors and offsets"
        )
    if len(sets) == 0:
        return np.empty((0, dim or 1), np.float32), np.zeros(1, np.int64)
    parts = []
    for i, one in enumerate(sets):
        part = _kept(one, f"{name} number {first + i}")
        if parts and part.shape[1] != parts[0].shape[1]:
            raise ShapeError(
                f"{name}: number {first + i} has dimension {part.shape[1]}, number {first} has {parts[0].shape[1]}"
            )
        parts.append(part)
    if len({part.dtype for part in parts}) > 1:
        parts = [part.astype(np.float32) for part in parts]
    return np.concatenate(parts), offsets_of(np.array([len(part) for part in parts]))


def _is_arrow(sets: Any) -> bool:
    return type(sets).__module__.partition(".")[0] == "pyarrow"


def _from_arrow(column: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    import pyarrow as pa

    from annvq.io.columns import matrix_of

    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    kind = getattr(column, "type", None)
    if kind is None or not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        raise DtypeError(f"{name}: Arrow {kind or type(column).__name__}, expected lists of vectors")
    if column.null_count:
        raise DtypeError(f"{name}: {column.null_count} of {len(column)} are null, expected lists of vectors")
    starts = column.offsets.to_numpy().astype(np.int64)
    values = column.values.slice(starts[0], starts[-1] - starts[0])
    return _kept(matrix_of(values, name), name), starts - starts[0]


def _check_finite(flat: np.ndarray, starts: np.ndarray, name: str, first: int) -> None:
    for begin in range(0, len(flat), _ROWS):
        bad = np.flatnonzero(~(np.abs(flat[begin : begin + _ROWS]) <= _LARGEST).all(axis=1))
        if len(bad):
            row = begin + int(bad[0])
            which = int(np.searchsorted(starts, row, side="right")) - 1
            what = f"a number beyond {_LARGEST:g}" if np.isfinite(flat[row]).all() else "NaN or infinity"
            raise NonFiniteError(f"{name}: number {first + which}, vector {row - starts[which]} holds {what}")


_ROWS = 1 << 14
_LARGEST = np.float32(1e15)  # sums of a few products of such numbers still fit float32
