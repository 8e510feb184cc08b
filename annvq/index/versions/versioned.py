"""Rows in versions, the basis of every kind of index, whatever its rows mean."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from annvq.arguments import as_path
from annvq.errors import DuplicateIdError, ParameterError, StateError, StorageError
from annvq.index.rows.attributes import new_attributes, replaced
from annvq.index.rows.extension import ExtensionRows
from annvq.index.rows.ids import IdColumn, as_ids
from annvq.index.rows.segment import Segment
from annvq.index.rows.snapshot import Snapshot
from annvq.index.search.params import SearchParams
from annvq.index.trained import Trained
from annvq.index.versions import commit, persist
from annvq.index.versions.commit import Version
from annvq.index.versions.merge import gathered, merge
from annvq.index.versions.writer import SegmentWriter, make_segment
from annvq.kernels import threads as pool
from annvq.storage import MemoryStore, Store


class VersionedRows:
    """Coded rows with ids, in memory or in a folder; every change makes a new version current.

    `annvq.Index` wraps this class; packages of higher layers build on it in the same way.
    Any number of threads may read while one changes the rows: a reader takes ``current`` once, and uses that version
    from beginning to end. After the rows are closed, every use of ``current`` raises StateError.
    """

    def __init__(self, version: Version, store: Store | None = None, tuned: SearchParams | None = None) -> None:
        """Take a version and the store that holds it; ``tuned`` is a reader's own depth of search."""
        self.current = version if tuned is None else replace(version, depth=tuned)
        self.closed = False
        self._store = store
        self._tuned = tuned
        self._is_copy = False  # changes are made in memory, and the folder stays as it is
        self._lock = threading.RLock()
        _ALL.add(self)

    # -- where they come from -----------------------------------------------------------------

    @classmethod
    def build(
        cls,
        trained: Trained,
        encode: Callable[[Store | None], list[Segment]],
        folder: Path | None,
        depth: SearchParams | None = None,
    ) -> VersionedRows:
        """Make the first version from the segments that ``encode`` returns (and, for a folder, stages in the store).

        On any error the folder is left as it was.
        """
        store = None if folder is None else Store.create(folder)
        try:
            version = Version.first(trained, encode(store), depth)
            return cls(version if store is None else commit.write(store, version, moved=False), store)
        except BaseException:
            if store is not None:
                with suppress(StorageError):  # the first error is the one to report
                    store.close()
            raise

    @classmethod
    def from_codes(
        cls,
        trained: Trained,
        labels: np.ndarray,
        arrays: dict[str, np.ndarray],
        ids: IdColumn | None = None,
        nprobe: int | None = None,
    ) -> VersionedRows:
        """Make rows in memory from codes that exist already, without encoding anything.

        Parameters
        ----------
        trained
            The trained parts that the codes were made with.
        labels
            (n,) int64, every row's list.
        arrays
            What `Trained.encode` returns for n rows; constants that are left out are computed.
        ids
            By default 0 to n - 1.
        nprobe
            Number of lists that a search scans; by default the recipe's.

        """
        n, segments, depth = len(labels), [], None if nprobe is None else SearchParams(nprobe, 0)
        if n:
            arrays = trained.codes.completed(arrays, labels)
            column = as_ids(None, n, 0) if ids is None else ids
            segments.append(make_segment(trained, labels, [arrays], column, np.arange(n, dtype=np.uint32), None))
        return cls(Version.first(trained, segments, depth))

    @classmethod
    def open(cls, path: str | os.PathLike[str], mode: str = "r", *, verify: bool = False) -> VersionedRows:
        """Open a saved index's folder; parameters and errors are those of `annvq.open`."""
        if mode not in ("r", "rw", "copy"):
            raise ParameterError(f"mode {mode!r}: expected 'r', 'rw' or 'copy'")
        store, version = commit.open_version(as_path(path), "r" if mode == "copy" else mode)
        rows = cls(version, store)
        rows._is_copy = mode == "copy"
        if verify:
            try:
                rows.verify()
            except BaseException:
                rows.close()
                raise
        return rows

    @classmethod
    def reopen(cls, path: str, uuid: str, number: int, tuned: SearchParams | None) -> VersionedRows:
        """Open a folder for reading as it was when `sent` was called, with what that object was tuned to.

        Raises
        ------
        StateError
            The folder holds another version, or another index.
        StorageError, CorruptIndexError
            The folder holds no version that can be read.

        """
        store, version = commit.open_version(as_path(path), "r")
        if (store.uuid, store.version) != (uuid, number):
            now = f"version {store.version}" if store.uuid == uuid else "another index"
            raise StateError(
                f"{path}: version {number} was sent here, the folder now holds {now}: "
                "send the path, and open it with annvq.open, where any version will do"
            )
        return cls(version, store, tuned)

    def copy(self) -> VersionedRows:
        """Return rows in memory that are the same and change by themselves (CorruptIndexError: files are checked)."""
        with self._lock:
            self.check_open()
            self.check_files()
            return VersionedRows(commit.moved_to_memory(self.current))

    def to_bytes(self) -> bytes:
        """Return the current version as bytes (CorruptIndexError: files are checked first)."""
        with self._lock:
            self.check_open()
            self.check_files()
            store = MemoryStore()
            commit.write(store, self.current, moved=True)
            return store.to_bytes()

    @classmethod
    def from_bytes(cls, content: bytes) -> VersionedRows:
        """Return the rows, in memory, that `to_bytes` wrote; errors are those of `annvq.from_bytes`."""
        return cls(commit.moved_to_memory(commit.read(MemoryStore.from_bytes(content))))

    def sent(self) -> tuple[str, str, int, SearchParams | None]:
        """Return what `reopen` takes in another process (StateError if there is no folder)."""
        self.check_open()
        if self._store is None or self._is_copy:
            raise StateError("an index in memory is sent as its bytes")
        return str(self._store.path), self._store.uuid, self._store.version, self._tuned

    # -- state --------------------------------------------------------------------------------

    @property
    def path(self) -> Path | None:
        """The folder, or None if the rows, or their changes, are only in memory."""
        return None if self._store is None or self._is_copy else self._store.path

    def check_open(self) -> None:
        """Raise StateError if the rows are closed."""
        if self.closed:
            raise StateError("the index is closed")

    def check_writable(self) -> None:
        """Raise StateError if the rows are closed, or open for reading."""
        self.check_open()
        if self._store is not None and self._store.mode != "rw" and not self._is_copy:
            raise StateError(
                "the index is open for reading: annvq.open(path, mode='rw') to change it, or mode='copy' to change it "
                "in memory alone"
            )

    def check_plain(self) -> None:
        """Raise StateError if rows have more than vectors (`annvq.index.rows.extension`); it says who takes these."""
        extension = self.current.trained.extension
        if extension is not None:
            raise StateError(extension.refusal)

    def check_files(self) -> None:
        """Check the checksums of all that is about to be written elsewhere (CorruptIndexError)."""
        now = self.current
        commit.check(self._store, now.snapshot.segments, trained_name=now.trained_name)

    # -- changing -----------------------------------------------------------------------------

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Keep other threads from changing the rows meanwhile (StateError if they cannot be changed)."""
        with self._lock:
            self.check_writable()
            yield

    def change(self, **changes: Any) -> None:
        """Make a new version current, first on disk if the rows are open for writing."""
        version = replace(self.current, number=self.current.number + 1, **changes)
        if self._store is not None and self._store.mode == "rw":
            try:
                version = commit.write(self._store, version, moved=False)
            except BaseException:
                if self._store.version != self.current.number:  # interrupted after the point of commit
                    self.current = commit.read(self._store)
                raise
        self.current = version

    def set_depth(self, depth: SearchParams) -> None:
        """Make a depth of search the default, also on disk if the rows are open for writing."""
        with self._lock:
            self.check_open()
            if self._store is None or self._store.mode == "rw" or self._is_copy:
                self.change(depth=depth)
            else:
                self._tuned, self.current = depth, replace(self.current, depth=depth)

    def insert(
        self,
        vectors: np.ndarray,
        beside: ExtensionRows | None,
        ids: Any,
        attributes: Any,
        threads: int | None,
        *,
        replacing: bool = False,
    ) -> None:
        """Add rows of checked vectors (n, d) float32; ``beside`` is what their extension keeps of them.

        ``ids``, ``attributes`` and errors are those of `annvq.Index.add`; with ``replacing``, those of
        `annvq.Index.upsert`.
        """
        with self.changing():
            now = self.current
            column = self._new_ids(ids, len(vectors), replacing=replacing)
            table = new_attributes(attributes, len(vectors), now.snapshot.schema)
            if len(vectors) == 0:
                return
            writer = SegmentWriter(now.trained, pool.resolve(threads))
            writer.add(vectors, beside)
            held = now.snapshot.find(column) if replacing else np.empty(0, np.int64)
            rest = _without(now.snapshot, held[held >= 0])
            segments = self._merge_small([*rest, writer.take(column, table)])
            self.change(snapshot=Snapshot.of(segments), next_id=column.next_free(now.next_id))

    def update(self, ids: Any, attributes: Any) -> None:
        """Give rows other attributes; parameters and errors are those of `annvq.Index.update`."""
        with self.changing():
            now = self.current
            column = IdColumn.of(ids)
            column.check_unique()
            rows = now.snapshot.rows_of(column)
            given = new_attributes(attributes, len(rows), now.snapshot.schema)
            if len(rows) == 0 or given is None:
                return
            parts, order = [], []
            for segment in now.snapshot.segments:
                inside = np.flatnonzero((rows >= segment.base) & (rows < segment.base + segment.n))
                if len(inside):
                    parts.append((segment, rows[inside] - segment.base))
                    order.append(inside)
            commit.check(self._store, [segment for segment, _ in parts])
            places = np.concatenate(order)
            held = now.snapshot.attributes(rows[places], now.snapshot.columns())
            table = replaced(held, given.take(places))
            changed = gathered(now.trained, parts, table, places)
            self.change(snapshot=Snapshot.of(self._merge_small([*_without(now.snapshot, rows), changed])))

    def remove(self, ids: Any = None, filter: Any = None, missing: str = "error") -> int:
        """Remove rows; parameters, result and errors are those of `annvq.Index.remove`."""
        if ids is None and filter is None:
            raise ParameterError("remove: expected ids, a filter or both")
        with self.changing():
            rows = np.unique(self.current.rows_matching(ids, filter, missing))
            if len(rows):
                self.change(snapshot=Snapshot.of(_without(self.current.snapshot, rows)))
            return len(rows)

    def take_over(self, other: VersionedRows) -> None:
        """Make what ``other`` holds in memory the next version of these rows, in the place of all that they hold."""
        with self.changing():
            version = commit.moved_to_memory(other.current)
            self.change(
                trained=version.trained, snapshot=version.snapshot, depth=version.depth, next_id=version.next_id,
                trained_name=None,
            )  # fmt: skip

    def compact(self) -> None:
        """Merge all segments into one and drop removed rows; ids and results stay the same."""
        with self.changing():
            segments = list(self.current.snapshot.segments)
            if not segments or (len(segments) == 1 and not len(segments[0].live)):
                return
            commit.check(self._store, segments)
            # A segment without rows stays, because it holds the kind of ids and the attributes' columns.
            self.change(snapshot=Snapshot.of([merge(self.current.trained, segments)]))

    def _merge_small(self, segments: list[Segment]) -> list[Segment]:
        """Merge the newest segments while one is less than twice as long as the next, so that log n segments remain."""
        while len(segments) > 1 and segments[-2].live_count < 2 * segments[-1].live_count and segments[-2].n < _LARGE:
            commit.check(self._store, segments[-2:])
            segments = [*segments[:-2], merge(self.current.trained, segments[-2:])]
        return segments

    def _new_ids(self, ids: Any, n: int, *, replacing: bool) -> IdColumn:
        snapshot = self.current.snapshot
        kind = snapshot.segments[0].ids.kind if snapshot.segments else None
        if replacing and ids is None:
            raise ParameterError("upsert: ids must be given, because they say which vectors are replaced")
        column = as_ids(ids, n, self.current.next_id, kind=kind)
        if replacing:
            return column
        held = np.flatnonzero(snapshot.find(column) >= 0)
        if len(held):
            more = f" and {len(held) - 1} more" if len(held) > 1 else ""
            raise DuplicateIdError(
                f"the index already holds id {column.shown(held[0])}{more}; remove it first, or upsert"
            )
        return column

    # -- keeping ------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the rows to a folder, all or nothing; an index that is there is replaced."""
        with self._lock:
            self.check_open()
            if self.path is not None and self.path.resolve() == as_path(path).resolve():
                self.check_writable()  # it is on disk already, after every change
                return
            self.check_files()
            with Store.create(path) as store:
                commit.write(store, self.current, moved=True)

    def verify(self) -> None:
        """Read every byte of the files; CorruptIndexError names the section that is wrong."""
        self.check_open()
        store, now = self._store, self.current
        if store is not None:
            store.verify()
        segments = now.snapshot.segments
        for segment in segments:
            persist.verify_segment(segment, now.trained)
        persist.verify_together(segments)

    def is_current(self) -> bool:
        """Return whether the folder still holds the current version; without a folder this is always true."""
        self.check_open()
        return self._store is None or self._is_copy or self._store.is_current()

    def refresh(self, check: Callable[[Trained], object] = lambda trained: None) -> bool:
        """Take the folder's version if ``check`` raises no error for its trained parts; see `annvq.Index.refresh`."""
        with self._lock:
            self.check_open()
            held = self._store
            if held is None or self._is_copy or held.is_current():
                return False
            if held.mode == "rw":
                raise StateError(f"{held.path} has changed, though it is open for writing: close it and open it again")
            store, version = commit.open_version(held.path, "r")
            check(version.trained)
            if store.uuid != held.uuid:
                self._tuned = None
            self._store, self.current = store, replace(version, depth=self._tuned or version.depth)
            return True

    def close(self) -> None:
        """Release files, memory and lock; closing twice is fine (StorageError if the system reports an error)."""
        with self._lock:  # lets a change in progress finish, for it holds the folder's lock
            self.closed, self.current = True, _CLOSED
            if self._store is not None:
                self._store.close()


def _without(snapshot: Snapshot, rows: np.ndarray) -> list[Segment]:
    """Return the segments of a snapshot with index-wide rows (int64) removed."""
    segments = []
    for segment in snapshot.segments:
        inside = rows[(rows >= segment.base) & (rows < segment.base + segment.n)] - segment.base
        segments.append(segment.without(inside) if len(inside) else segment)
    return segments


class _Closed:
    """Takes the place of the version when the rows are closed: nothing stays mapped, and every use is an error."""

    def __getattr__(self, name: str) -> Any:
        raise StateError("the index is closed")


_CLOSED: Any = _Closed()
_ALL: weakref.WeakSet[VersionedRows] = weakref.WeakSet()
_LARGE = 1 << 20  # rows; longer segments are merged only by `compact`


def _forget_changes() -> None:
    """Reset the locks in a forked child, where threads that were changing rows do not exist."""
    for rows in list(_ALL):
        rows._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_changes)
