"""What every index offers, whatever its rows stand for: rows by id, attributes, versions, files."""

from __future__ import annotations

import os
from contextlib import suppress
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.arguments import as_count, as_path
from annvq.errors import DtypeError, StorageError
from annvq.index.recipe import Recipe
from annvq.index.rows.ids import IdColumn
from annvq.index.search.prepared import PreparedFilter
from annvq.index.versions.commit import Version
from annvq.index.versions.export import VectorColumn, id_column, named, record_batches, vector_column
from annvq.index.versions.versioned import VersionedRows
from annvq.io.rows import write as write_rows

if TYPE_CHECKING:
    import pyarrow as pa
    from typing_extensions import Self


class BaseIndex:
    """The part that `annvq.Index` and `annvq.multivector.MultiVectorIndex` share.

    Any number of threads may search an index, even while one of them changes it: a search sees the version that was
    current when it began. The attribute ``rows`` (the versions beneath) is meant for packages that build on annvq, and
    may change.
    """

    def __init__(self, rows: VersionedRows) -> None:
        self.rows = rows

    # -- what it is ---------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of rows that are not removed."""
        return self.rows.current.snapshot.live_count

    def __contains__(self, id: object) -> bool:
        """Return whether the index holds a row of this id."""
        try:
            return bool(self.rows.current.snapshot.find(IdColumn.of([id]))[0] >= 0)
        except DtypeError:  # of another type, or none that ids have
            return False

    @property
    def ids(self) -> np.ndarray:
        """The ids of all rows in the order of insertion: (n,) int64 or, for string ids, objects.

        A row that `upsert` or `update` replaced counts as inserted then.
        """
        snapshot = self.rows.current.snapshot
        return snapshot.take_ids(snapshot.rows_in_order())

    @property
    def recipe(self) -> Recipe:
        """The recipe with every number given; of an index of documents, that of their encodings."""
        return self.rows.current.trained.recipe

    @property
    def nprobe(self) -> int:
        """The number of lists that a search scans by default."""
        return self.rows.current.depth.nprobe

    @property
    def version(self) -> int:
        """The number of the version, which grows by one with every change; for an index on disk, the folder's."""
        return self.rows.current.number

    def _repr_html_(self) -> str:
        """Return a small table for notebooks."""
        if self.rows.closed:
            return f"<code>{escape(repr(self))}</code>"
        shown = self.stats()
        size = sum(shown["bytes"].values())
        cells = {
            "rows": f"{shown['n']:,}", "dimension": shown["dim"], "metric": shown["metric"], "recipe": shown["recipe"],
            "size": f"{size / 1e6:,.1f} MB", "attributes": ", ".join(self.rows.current.snapshot.columns()) or "none",
            "version": shown["version"], "path": shown["path"] or "in memory",
        }  # fmt: skip
        lines = "".join(f"<tr><th>{name}</th><td>{escape(str(value))}</td></tr>" for name, value in cells.items())
        return f"<table><caption>annvq.{type(self).__name__}</caption>{lines}</table>"

    def stats(self) -> dict[str, Any]:
        """Return figures about the index."""
        raise NotImplementedError

    # -- rows ---------------------------------------------------------------------------------

    def get(
        self,
        ids: Any = None,
        *,
        filter: Any = None,
        columns: Any = None,
        vectors: bool = False,
        limit: int | None = None,
        offset: int = 0,
        missing: str = "error",
    ) -> pa.Table:
        """Return rows as an Arrow table.

        Parameters
        ----------
        ids
            The rows' ids, in the order in which they are returned. Default: all rows, in the order of insertion.
        filter
            Only the rows that pass, as for `search`; together with ``ids``, those of these that pass.
        columns
            The names of the attributes to return; by default all of them.
        vectors
            Whether to return the vectors too, float32, as precisely as the index keeps them.
        limit, offset
            At most so many rows, after so many that are passed over.
        missing
            "error" raises UnknownIdError for ids that the index does not hold; "ignore" passes over them.

        Returns
        -------
        pyarrow.Table
            The columns id, vector if asked for (for documents, vectors: lists of them), and the attributes.

        Raises
        ------
        UnknownIdError, FilterError, ParameterError
            The index has no such id or column, or an argument is not valid.
        StateError
            An attribute to be returned has the name of another column.

        Examples
        --------
        >>> vectors = np.eye(3, dtype=np.float32)
        >>> index = annvq.build(vectors, "flat", ids=["a", "b", "c"], attributes={"page": [1, 2, 3]})
        >>> index.get(filter="page >= 2").to_pylist()
        [{'id': 'b', 'page': 2}, {'id': 'c', 'page': 3}]
        >>> index.get(["c"], columns=[], vectors=True).to_pylist()
        [{'id': 'c', 'vector': [0.0, 0.0, 1.0]}]

        """
        offset = as_count("offset", offset, least=0)
        end = None if limit is None else offset + as_count("limit", limit, least=0)
        now = self.rows.current
        names, column = now.snapshot.columns(columns), self._vector_column(now) if vectors else None
        rows = now.rows_matching(ids, filter, missing)[offset:end]
        made: dict[str, Any] = {"id": id_column(now.snapshot, rows)}
        if column is not None:
            made[column.field.name] = vector_column(now.snapshot, rows, column)
        held = now.snapshot.attributes(rows, names) if names else None
        return named(made, held)

    def count(self, filter: Any = None) -> int:
        """Return how many rows pass a filter, which is given as for `search`; all rows without one.

        Examples
        --------
        >>> index = annvq.build(np.eye(3), "flat", ids=["a", "b", "c"], attributes={"page": [1, 2, 3]})
        >>> index.count("page >= 2")
        2

        """
        now = self.rows.current
        return now.snapshot.live_count if filter is None else now.narrowed(filter).snapshot.searchable_count

    def prepare_filter(self, filter: Any) -> PreparedFilter:
        """Prepare a filter once for many searches, each of which takes the result as ``filter`` at almost no cost.

        The parameter is the same as for `search` (FilterError). After the index changes, ids and expressions are
        applied to the rows that are there then; a mask is valid only until a row is added or removed (FilterError).

        Examples
        --------
        >>> index = annvq.build(np.eye(3), "flat", ids=["a", "b", "c"], attributes={"page": [1, 2, 3]})
        >>> late = index.prepare_filter("page >= 2")
        >>> [index.search(query, k=1, filter=late).ids.item() for query in np.eye(3)]
        ['b', 'b', 'c']

        """
        view = self.rows.current.view
        return filter if isinstance(filter, PreparedFilter) else PreparedFilter(filter, view)

    def to_arrow(self, *, filter: Any = None, columns: Any = None, vectors: bool = True) -> pa.RecordBatchReader:
        """Return all rows, in the order of insertion, as Arrow record batches that are made one at a time.

        The rows are those of the present version, whatever changes while they are read.

        Parameters
        ----------
        filter
            Only the rows that pass, as for `search`.
        columns
            The names of the attributes to return; by default all of them.
        vectors
            Whether to return the vectors too, float32, as precisely as the index keeps them.

        Returns
        -------
        pyarrow.RecordBatchReader
            The columns are those of `get`.

        Raises
        ------
        FilterError, ParameterError
            The filter is not valid, or the index has no such column.
        StateError
            An attribute has the name of another column.

        Examples
        --------
        >>> index = annvq.build(np.eye(3), "flat", ids=["a", "b", "c"], attributes={"page": [1, 2, 3]})
        >>> index.to_arrow(filter="page >= 2").read_all().column_names
        ['id', 'vector', 'page']

        """
        now = self.rows.current
        column = self._vector_column(now) if vectors else None
        return record_batches(now.narrowed(filter).snapshot, column, now.snapshot.columns(columns))

    def export(
        self, path: str | os.PathLike[str], *, filter: Any = None, columns: Any = None, vectors: bool = True
    ) -> int:
        """Write what `to_arrow` returns to a file, which appears whole or not at all; return the number of rows.

        Parameters
        ----------
        path
            The file. The suffix chooses the format: .parquet, .arrow, .json, .jsonl or, without vectors, .csv.
        filter, columns, vectors
            The same as for `to_arrow`.

        Raises
        ------
        ParameterError
            The suffix is another one, or the index has no such column.
        FilterError, StateError
            The same as for `to_arrow`.
        StorageError, OSError
            The file cannot be written.

        Examples
        --------
        >>> index = annvq.build(np.eye(3), "flat", ids=["a", "b", "c"], attributes={"page": [1, 2, 3]})
        >>> index.export("late.jsonl", filter="page >= 2", vectors=False)
        2

        """
        reader = self.to_arrow(filter=filter, columns=columns, vectors=vectors)
        return write_rows(reader, as_path(path))

    def _vector_column(self, now: Version) -> VectorColumn:
        """Return how the vectors of rows become a column."""
        raise NotImplementedError

    # -- changing -----------------------------------------------------------------------------

    def update(self, ids: Any, attributes: Any) -> None:
        """Change attributes of rows that are there; their vectors stay as they are, to the bit.

        The attributes are given as for `add`, one row per id. Columns that are not given keep their values, and None
        makes a value null. It is one version: a reader sees either all of the change or nothing of it.

        Raises
        ------
        UnknownIdError, DuplicateIdError
            The index lacks an id, or one is given twice. Nothing is changed.
        ShapeError, DtypeError, FilterError
            The attributes do not fit the ids or the index's columns. Nothing is changed.

        Examples
        --------
        >>> index = annvq.build(np.eye(3), "flat", ids=["a", "b", "c"], attributes={"page": [1, 2, 3]})
        >>> index.update(["b"], {"page": [7]})
        >>> index.get(["b"])["page"].to_pylist()
        [7]

        """
        self.rows.update(ids, attributes)
        self._forget()

    def remove(self, ids: Any = None, *, filter: Any = None, missing: str = "error") -> int:
        """Remove rows, and return how many there were.

        Parameters
        ----------
        ids
            The ids of the rows.
        filter
            Which rows to remove, as for `search`; together with ``ids``, only those of these that pass.
        missing
            "error" raises UnknownIdError for ids that the index does not hold, and nothing is removed; "ignore" passes
            over them.

        Raises
        ------
        UnknownIdError, FilterError
            As above, or the filter is not valid.
        ParameterError
            Neither ids nor a filter is given.

        Examples
        --------
        >>> index = annvq.build(np.eye(3), "flat", ids=["a", "b", "c"], attributes={"page": [1, 2, 3]})
        >>> index.remove(["b"])
        1
        >>> index.remove(filter="page >= 3")
        1
        >>> index.ids
        array(['a'], dtype=object)

        """
        removed = self.rows.remove(ids, filter, missing)
        self._forget()
        return removed

    def compact(self) -> None:
        """Merge all segments into one and drop the rows that were removed; ids and results stay the same."""
        self.rows.compact()
        self._forget()

    def _forget(self) -> None:
        """Forget what was remembered of segments, which have changed."""

    # -- keeping ------------------------------------------------------------------------------

    def copy(self) -> Self:
        """Return an index in memory that holds the same rows and changes by itself.

        Rows are shared, not copied. Those of an index that was opened stay mapped; their files are read and checked
        first (CorruptIndexError).
        """
        return self.over(self.rows.copy())

    def over(self, rows: VersionedRows) -> Self:
        """Return an index over other rows, on the same device, as packages that build on annvq make them."""
        return type(self)(rows)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index to a folder, all or nothing; an index that is already there is replaced."""
        self.rows.save(path)

    def verify(self) -> None:
        """Read every byte of the index's files and check it; CorruptIndexError names the section that is damaged."""
        self.rows.verify()

    def is_current(self) -> bool:
        """Return whether the folder still holds the version that this object shows; True for an index in memory.

        It is False once a writer has committed another version. StorageError or CorruptIndexError is raised if the
        folder cannot be read.
        """
        return self.rows.is_current()

    def refresh(self) -> bool:
        """Show the folder's current version, and return whether it differs from the one that was shown.

        This is for readers: an index in memory, or open for writing, always shows the current version. Searches that
        are under way end with the version that they began with. What `tune` found on this object stays in force, unless
        another index was saved to the folder, which comes with settings of its own. If the folder cannot be read, or
        holds an index of another kind, an error is raised and the object shows what it showed before.
        """
        return self.rows.refresh()

    def close(self) -> None:
        """Release files, memory and lock; every later call except repr raises StateError. Closing twice is allowed.

        Mapped files are released when the last search that is under way has ended. If the operating system reports an
        error, StorageError is raised and the index is closed all the same.
        """
        self.rows.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        with suppress(*[] if kind is None else [StorageError]):  # the first error is the one to report
            self.close()

    def to_bytes(self) -> bytes:
        """Return the whole index as bytes, which ``from_bytes`` makes an index of again: annvq's format, no code."""
        return self.rows.to_bytes()

    def __reduce__(self) -> tuple:
        """Ship an index in memory as its bytes, and one that was opened as path, version and depth of search.

        The latter is opened for reading where it arrives (see `VersionedRows.reopen`); StateError is raised there if
        the folder has another version by then, because answers would be others than here. `copy.copy` and
        `copy.deepcopy` do the same.
        """
        if self.rows.path is None:
            return _unpickled, (type(self), self.to_bytes())
        return _reopened, (type(self), *self.rows.sent())


def _unpickled(kind: type[BaseIndex], content: bytes) -> BaseIndex:
    return kind(VersionedRows.from_bytes(content))


def _reopened(kind: type[BaseIndex], *sent: Any) -> BaseIndex:
    """Open what was pickled; parameters and errors are those of `VersionedRows.reopen`."""
    rows = VersionedRows.reopen(*sent)
    try:
        return kind(rows)
    except BaseException:
        rows.close()
        raise
