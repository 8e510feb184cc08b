"""The ids of an index's rows: int64, or strings kept as UTF-8 bytes.

Ids of one index are all of one kind. -1 is no id: it marks missing places in results.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from annvq.arrays import frozen, offsets_of
from annvq.errors import CorruptIndexError, DtypeError, DuplicateIdError, ParameterError, ShapeError
from annvq.index.rows.id_input import parse_ids
from annvq.kernels import strings

if TYPE_CHECKING:
    import pyarrow as pa

Kind = Literal["int", "str"]
_NONE = np.frombuffer(b"", np.int64)  # read-only, as all arrays here
_NO_BYTES = np.frombuffer(b"", np.uint8)
_LARGEST = int(np.iinfo(np.int64).max)
_MOST_SHOWN = 100  # characters of an id, in messages


@dataclass(frozen=True, eq=False, repr=False)
class IdColumn:
    """Ids of n rows; what is needed to find them is made when it is first asked for.

    Parameters
    ----------
    kind
        "int" or "str".
    values
        (n,) int64, for kind "int".
    offsets, data
        (n + 1,) int64 and (bytes,) uint8, for kind "str": id i is ``data[offsets[i]:offsets[i + 1]]``.
    file
        Name of the file that the arrays lie in, or None if there is none. The file may change, so kernels follow a copy
        of ``offsets``.

    """

    kind: Kind
    values: np.ndarray = field(default_factory=lambda: _NONE)
    offsets: np.ndarray = field(default_factory=lambda: _NONE)
    data: np.ndarray = field(default_factory=lambda: _NO_BYTES)
    file: str | None = None

    @classmethod
    def of(cls, ids: Any) -> IdColumn:
        """Return what `parse_ids` makes of ``ids`` as a column; ids may repeat."""
        if isinstance(ids, IdColumn):
            return ids
        parsed = parse_ids(ids)
        if isinstance(parsed, np.ndarray):
            return cls("int", values=frozen(parsed, np.int64))
        return cls("str", offsets=(parts := _arrow_parts(parsed))[0], data=parts[1])

    def __len__(self) -> int:
        return len(self.values) if self.kind == "int" else len(self.offsets) - 1

    def __repr__(self) -> str:
        return f"IdColumn({self.kind}, n={len(self)})"

    # Rows to ids

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return the ids of ``rows`` (int64, any shape): int64, or object array of str.

        A row of -1 gives -1 or None. Only here is text decoded, and CorruptIndexError raised if it is invalid.
        """
        if self.kind == "int":
            return np.where(rows >= 0, self.values[rows], -1) if len(self) else np.full(rows.shape, -1, np.int64)
        flat = rows.reshape(-1)
        ids = np.full(flat.shape, None, dtype=object)
        present = np.flatnonzero(flat >= 0)
        starts, ends = self.offsets[flat[present]].tolist(), self.offsets[flat[present] + 1].tolist()
        view: Any = self.data
        text = memoryview(view)
        try:
            for place, start, end in zip(present.tolist(), starts, ends, strict=True):
                ids[place] = str(text[start:end], "utf-8")
        except UnicodeDecodeError as error:
            raise self._corrupt("id_bytes: not UTF-8") from error
        return ids.reshape(rows.shape)

    def shown(self, row: int) -> str:
        """Return the id of a row as messages print it: 5 or 'abc', long ones shortened."""
        text = repr(self.take(np.array([row])).tolist()[0])
        return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."

    # Ids to rows

    @cached_property
    def order(self) -> np.ndarray:
        """(n,) int64: row numbers, ids ascending, equal ids in the order of rows."""
        if self.kind == "int":
            ascending = bool((self.values[1:] >= self.values[:-1]).all())
            return np.arange(len(self)) if ascending else np.argsort(self.values, kind="stable")
        import pyarrow as pa
        import pyarrow.compute as pc

        buffers = [None, pa.py_buffer(self._starts), pa.py_buffer(self.data)]
        array = pa.Array.from_buffers(pa.large_string(), len(self), buffers)
        return pc.sort_indices(array).to_numpy().astype(np.int64)

    @cached_property
    def _sorted_values(self) -> np.ndarray:
        return self.values[self.order]

    @cached_property
    def _starts(self) -> np.ndarray:
        """The offsets of string ids as kernels follow them: checked (CorruptIndexError), and not in a file."""
        offsets = frozen(self.offsets.copy(), np.int64) if self.file else self.offsets
        if offsets[0] != 0 or offsets[-1] != len(self.data) or (offsets[1:] < offsets[:-1]).any():  # differences wrap
            raise self._corrupt("id_offsets: not ascending from 0 to the number of bytes of id_bytes")
        return offsets

    @property
    def _lengths(self) -> np.ndarray:
        """Bytes of every string id."""
        return np.diff(self._starts)

    @cached_property
    def _ranks(self) -> tuple[np.ndarray, int]:
        """Dense ranks of string ids, and a row whose id another row has too, or -1."""
        ranks = np.empty(len(self), np.int64)
        repeated = strings.dense_ranks(self._starts, self.data, frozen(self.order, np.int64), ranks)
        ranks.flags.writeable = False
        return ranks, int(repeated)

    def find(self, ids: Any) -> np.ndarray:
        """Return the row of every id, (m,) int64, which is -1 for ids that the column does not hold.

        Parameters
        ----------
        ids
            What `parse_ids` accepts, or another column.

        Raises
        ------
        DtypeError
            Integers are looked for among strings, or strings among integers.

        """
        wanted = IdColumn.of(ids)
        if len(wanted) == 0 or len(self) == 0:
            return np.full(len(wanted), -1, np.int64)
        if wanted.kind != self.kind:
            raise DtypeError(f"ids are {wanted.kind}, but those of the index are {self.kind}")
        if self.kind == "str":
            rows = np.empty(len(wanted), np.int64)
            order = frozen(self.order, np.int64)
            strings.find(self._starts, self.data, order, wanted._starts, wanted.data, rows)
            return rows
        places = np.minimum(np.searchsorted(self._sorted_values, wanted.values), len(self) - 1)
        return np.where(self._sorted_values[places] == wanted.values, self.order[places], -1)

    def order_keys(self) -> np.ndarray:
        """Return (n,) int64 that sort as the ids do: the ids, or the ranks of str ids in this column."""
        return self.values if self.kind == "int" else self._ranks[0]

    def next_free(self, least: int) -> int:
        """Return the first integer after ``least`` - 1 and after all ids of the column."""
        if self.kind != "int" or len(self) == 0:
            return least
        return max(least, int(self.order_keys().max()) + 1)

    def check_unique(self) -> None:
        """Raise DuplicateIdError, naming one, if an id occurs twice."""
        if self.kind == "str":
            row = self._ranks[1]
        else:
            repeats = np.flatnonzero(self._sorted_values[1:] == self._sorted_values[:-1])
            row = int(self.order[repeats[0]]) if len(repeats) else -1
        if row >= 0:
            raise DuplicateIdError(f"id {self.shown(row)} is given more than once")

    # New columns

    def reorder(self, order: np.ndarray) -> IdColumn:
        """Return the column of rows ``order`` (m,) int64, a permutation or a choice of rows."""
        if self.kind == "int":
            return IdColumn("int", values=frozen(self.values[order], np.int64))
        order = frozen(order, np.int64)
        offsets = offsets_of(self._lengths[order])
        data = np.empty(offsets[-1], np.uint8)
        strings.gather(self._starts, self.data, order, offsets, data)
        return IdColumn("str", offsets=frozen(offsets, np.int64), data=frozen(data, np.uint8))

    @classmethod
    def concat(cls, columns: Sequence[IdColumn]) -> IdColumn:
        """Return the rows of several columns, at least one, of the same kind, one after the other."""
        if columns[0].kind == "int":
            return cls("int", values=frozen(np.concatenate([column.values for column in columns]), np.int64))
        lengths = np.concatenate([column._lengths for column in columns])
        offsets = offsets_of(lengths)
        data = np.concatenate([column.data for column in columns])
        return cls("str", offsets=frozen(offsets, np.int64), data=frozen(data, np.uint8))

    # Storage

    def sections(self) -> dict[str, np.ndarray]:
        """Return the arrays to store, by section name: "ids", or "id_offsets" and "id_bytes"."""
        if self.kind == "int":
            return {"ids": self.values}
        return {"id_offsets": self.offsets, "id_bytes": self.data}

    @classmethod
    def from_sections(cls, sections: dict[str, np.ndarray], file: str) -> IdColumn:
        """Return the column stored in ``sections`` of a file, which may hold others too; arrays are shared.

        Offsets are followed only after all of them were looked at, which opening does not do.

        Raises
        ------
        CorruptIndexError
            The sections are not there or not of the right dtype and shape.

        """
        names = {"ids": np.int64} if "ids" in sections else {"id_offsets": np.int64, "id_bytes": np.uint8}
        for name, dtype in names.items():
            if name not in sections:
                raise CorruptIndexError(f"section {name}: missing")
            if sections[name].dtype != dtype or sections[name].ndim != 1:
                raise CorruptIndexError(f"section {name}: {sections[name].dtype} {sections[name].shape}")
        if "ids" in sections:
            return cls("int", values=frozen(sections["ids"], np.int64), file=file)
        if len(sections["id_offsets"]) == 0:
            raise CorruptIndexError("section id_offsets: empty, expected at least one offset")
        return cls(
            "str",
            offsets=frozen(sections["id_offsets"], np.int64),
            data=frozen(sections["id_bytes"], np.uint8),
            file=file,
        )

    def check(self) -> None:
        """Look at every id, as `verify` does (CorruptIndexError: offsets, encoding, missing mark, repeats)."""
        try:
            if self.kind == "str":
                self.take(np.arange(len(self._starts) - 1))
            elif (self.values == -1).any():
                raise self._corrupt("ids: -1, which marks missing places")
            self.check_unique()
        except DuplicateIdError as error:
            raise self._corrupt(f"{next(iter(self.sections()))}: {error}") from error

    def _corrupt(self, problem: str) -> CorruptIndexError:
        return CorruptIndexError(f"{self.file}: section {problem}" if self.file else f"section {problem}")


def as_ids(ids: Any, n: int | None, start: int = 0, *, kind: Kind | None = None) -> IdColumn:
    """Return checked ids for new rows.

    Parameters
    ----------
    ids
        n unique integers (not -1) or str, see `parse_ids`; None stands for start .. start + n - 1.
    n
        The number of ids that there must be, or None if it is not known yet.
    start
        First of the ids that are assigned by default.
    kind
        Kind of the index that they are added to, if there is one.

    Raises
    ------
    ShapeError, DtypeError, DuplicateIdError
        With what was given.
    ParameterError
        An id is -1; or there are none, for an index of str ids or one that holds the largest integer.

    """
    if ids is None:
        if kind == "str" or n is None:
            raise ParameterError("ids must be given: those of the index are str, so none can be made up")
        if start + n - 1 > _LARGEST:
            raise ParameterError(f"ids must be given: none are left above the largest one, {start - 1}")
        return IdColumn("int", values=frozen(np.arange(start, start + n), np.int64))
    column = IdColumn.of(ids)
    if n is not None and len(column) != n:
        raise ShapeError(f"{len(column)} ids for {n} vectors")
    if kind is not None and column.kind != kind:
        if len(column):
            raise DtypeError(f"ids are {column.kind}, but those of the index are {kind}")
        return IdColumn(kind, offsets=frozen(np.zeros(int(kind == "str")), np.int64))
    if column.kind == "int" and (column.values == -1).any():
        raise ParameterError("id -1 is not accepted: it marks missing places in results")
    column.check_unique()
    return column


def rank_across(columns: Sequence[IdColumn]) -> list[np.ndarray]:
    """Return keys (n,) int64 for every column that sort as all their ids together do.

    Integers are their own keys; str ids get ranks, an id that is in two columns the same one.
    """
    if not columns or columns[0].kind == "int":
        return [column.values for column in columns]
    longest = max(range(len(columns)), key=lambda number: len(columns[number]))
    rest = [column for number, column in enumerate(columns) if number != longest]
    if rest and sum(map(len, rest)) * _MANY_TIMES <= len(columns[longest]):
        ranks, others = _ranked_among(columns[longest], IdColumn.concat(rest))
        parts = iter(np.split(others, np.cumsum([len(column) for column in rest])[:-1]))
        return [ranks if number == longest else next(parts) for number in range(len(columns))]
    ranks = IdColumn.concat(columns).order_keys()
    return np.split(ranks, np.cumsum([len(column) for column in columns])[:-1])


_MANY_TIMES = 256  # as many ids: then one sort of all takes longer than to look for a place for each of the few


def _ranked_among(many: IdColumn, few: IdColumn) -> tuple[np.ndarray, np.ndarray]:
    """Return what `rank_across` does for two columns of str ids; the order of the first is not made again."""
    (ranks, _), order, step = many._ranks, many.order, len(few) + 1
    starts, data = many._starts, many.data
    last = len(many) - 1

    def text(place: int) -> bytes:
        row = order[place]
        return data[starts[row] : starts[row + 1]].tobytes()

    keys = np.empty(len(few), np.int64)
    for row, rank in enumerate(few.order_keys().tolist()):
        wanted = few.data[few._starts[row] : few._starts[row + 1]].tobytes()
        place = bisect_left(range(len(many)), wanted, key=text)
        if place > last:
            keys[row] = (int(ranks[order[last]]) + 1) * step + rank
        else:  # below the id at this place, unless it is this id
            keys[row] = int(ranks[order[place]]) * step + (step - 1 if text(place) == wanted else rank)
    return ranks * step + (step - 1), keys


def _arrow_parts(array: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
    """Return offsets and bytes of an Arrow string array, which may be a slice."""
    _, offsets, data = array.buffers()
    if offsets is None or len(array) == 0:
        return frozen(np.zeros(1, np.int64), np.int64), _NO_BYTES
    starts = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    raw = np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    return frozen(starts - starts[0], np.int64), frozen(raw[starts[0] : starts[-1]], np.uint8)
