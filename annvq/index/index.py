"""The index that users hold: search, change, save."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq import vectors as door
from annvq.arguments import as_count, as_number, as_path
from annvq.arrays import offsets_of
from annvq.errors import DuplicateIdError, ParameterError, StateError, StorageError, UnknownIdError
from annvq.hits import Hits, RangeHits
from annvq.index.recipe import Recipe
from annvq.index.rows.attributes import new_attributes
from annvq.index.rows.filters import Filter
from annvq.index.rows.ids import IdColumn, as_ids
from annvq.index.rows.segment import Segment
from annvq.index.rows.snapshot import Snapshot
from annvq.index.search.depth import Depth
from annvq.index.search.prepared import PreparedFilter, narrowed
from annvq.index.search.rangesearch import range_search
from annvq.index.search.stages import search
from annvq.index.search.tune import TuneReport, tune
from annvq.index.search.view import View
from annvq.index.tokens import TokenRows
from annvq.index.trained import Trained
from annvq.index.versions import commit, figures, persist
from annvq.index.versions.commit import Version
from annvq.index.versions.export import record_batches
from annvq.index.versions.merge import merge
from annvq.index.versions.writer import SegmentWriter
from annvq.kernels import threads as pool
from annvq.storage import Store

if TYPE_CHECKING:
    import pyarrow as pa


class Index:
    """Vectors under ids, searched by inner product, cosine or squared L2.

    Made by `annvq.build` and `annvq.open`. Searching is safe from any number of threads, also while
    one thread changes the index: a search sees the version that was current when it began.
    """

    def __init__(self, version: Version, store: Store | None = None, tuned: Depth | None = None) -> None:
        """Take a version, and the store it stands in; ``tuned``: a reader's own depth of search."""
        self._now = version if tuned is None else replace(version, depth=tuned)
        self._store = store
        self._tuned = tuned
        self._closed = False
        self._changing = threading.RLock()
        _ALL.add(self)

    # -- what it is ---------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of vectors that are not removed."""
        return self._now.snapshot.live_count

    @property
    def dim(self) -> int:
        """Dimension d of the vectors."""
        return self._now.trained.dim

    @property
    def metric(self) -> str:
        """Metric: "ip", "l2" or "cosine"."""
        return self._now.trained.metric

    @property
    def recipe(self) -> Recipe:
        """The recipe with every number given."""
        return self._now.trained.recipe

    @property
    def version(self) -> int:
        """Version, one more after every change; that of the folder, where the index is of one."""
        return self._now.number

    @property
    def nprobe(self) -> int:
        """Lists that a search looks into by default."""
        return self._now.depth.nprobe

    @property
    def rerank(self) -> int:
        """Candidates that a search rescores by default."""
        return self._now.depth.rerank

    def __repr__(self) -> str:
        if self._closed:
            return "Index(closed)"
        return f"Index(n={len(self)}, dim={self.dim}, metric={self.metric!r}, recipe={self.recipe.name!r})"

    def stats(self) -> dict[str, Any]:
        """Return figures about the index.

        ``bytes_per_vector`` counts what stands for a vector: codes, constants, refine store. ``bytes`` says what else
        there is: ids, positions, centroids and codebooks, attributes; its codes hold lists padded to blocks of 32.
        """
        return figures.of(self._now, None if self._store is None else str(self._store.path))

    # -- searching ----------------------------------------------------------------------------

    def search(
        self,
        queries: Any,
        k: int = 10,
        *,
        nprobe: int | None = None,
        rerank: int | None = None,
        filter: Any = None,
        threads: int | None = None,
    ) -> Hits:
        """Return the k best of every query.

        Parameters
        ----------
        queries
            (nq, d), or (d,) for one; what `annvq.build` takes as vectors.
        k
            At least 1; where fewer rows exist, places are filled with id -1 (None) and score -inf. At
            most 16,777,216, or the number of vectors where that is more.
        nprobe
            Lists to look into, at least 1; above nlist, all are. Default: the recipe's, or what `tune`
            found. More are looked into while these hold fewer rows that may be returned than candidates are
            wanted: ``rerank`` of them, without a refine store about k.
        rerank
            Candidates that the refine store rescores, at least k. Default: the recipe's, or what `tune`
            found, and at least 2 k.
        filter
            Only these rows: ids, a boolean mask over the rows in the order of insertion, or a
            ``pyarrow.compute`` expression over the attributes; or any of these from `prepare_filter`. Applied
            in the scan: k hits come back when k rows pass, and those that every row passes are the same as
            without a filter. Ids that the index does not hold let nothing pass, without an error, for lists of
            what a user may see name more than one index holds. Null in an expression, or in a mask of Arrow, pandas or
            polars, is false; None in a list is refused.
            FilterError for what is none of these, a mask of another length, and as many integers as there
            are rows that are all 0 or 1, which may as well be a mask.
        threads
            Default: all CPUs of the process for a batch; the result does not depend on it.

        """
        self._check_open()
        now = self._now
        view = now.view if filter is None else self._narrowed(now.view, filter)
        if view.fused is not None:
            hits = view.fused.search_one(queries, k, nprobe, rerank, now.depth, threads)
            if hits is not None:
                return hits
        snapshot = view.snapshot
        matrix = self._queries(now, queries)
        depth = self._depth_for(now, nprobe, rerank)
        k = as_count("k", k, most=max(_MOST_PLACES, snapshot.live_count))
        allowed = snapshot.searchable_count
        found = min(k, allowed)
        candidates = max(depth.rerank, 2 * k) if rerank is None else depth.rerank
        depth = Depth(depth.nprobe, min(candidates, allowed))  # pools are as large as they are asked to be
        workers = pool.resolve(threads)
        scores, rows = search(view, matrix, found, depth, workers)
        return _padded(Hits(snapshot.take_ids(rows), scores), k)

    def range_search(self, queries: Any, radius: float, *, nprobe: int | None = None, filter: Any = None) -> RangeHits:
        """Return everything within a radius, among the rows of the probed lists.

        ``radius`` is the least inner product or cosine, or for "l2" the largest squared distance; it
        belongs to the result. Scores are the best that the index can make (refine store, else codes).
        """
        self._check_open()
        now = self._now
        view = now.view
        matrix = self._queries(now, queries)
        depth = self._depth_for(now, nprobe, None)
        least = as_number("radius", radius) * (-1 if now.trained.l2 else 1)
        if filter is not None:
            view = self._narrowed(view, filter)
        found = [range_search(view, matrix[q : q + 1], least, depth.nprobe) for q in range(len(matrix))]
        offsets = offsets_of([len(scores) for scores, _ in found])
        scores = np.concatenate([np.empty(0, np.float32), *(scores for scores, _ in found)])
        rows = np.concatenate([np.empty(0, np.int64), *(rows for _, rows in found)])
        return RangeHits(offsets, view.snapshot.take_ids(rows), scores)

    def prepare_filter(self, filter: Any) -> PreparedFilter:
        """Return a filter made ready once, for many searches: given to them as ``filter``, it costs nothing more.

        ``filter`` is as for `search` (FilterError). After a change of the index ids and expressions are applied to
        the rows that there are then; a mask only holds as long as no row is added or removed (FilterError).
        """
        self._check_open()
        return filter if isinstance(filter, PreparedFilter) else PreparedFilter(filter, self._now.view)

    def tune(self, queries: Any, k: int = 10, recall: float = 0.95, *, threads: int | None = None) -> TuneReport:
        """Set nprobe and rerank to the fastest that reach ``recall`` at k on these queries.

        Measured against exhaustive search with the best scores that the index has. The setting is stored: in memory,
        and on disk where the index is open for writing. On an index that is open for reading it is this object's own,
        and the version stays. StateError for an index of documents.
        """
        self._check_open()
        self._check_single()
        now = self._now
        matrix = self._queries(now, queries)
        if len(matrix) == 0 or now.snapshot.live_count == 0:
            raise ParameterError(f"tuning needs queries and vectors, got {len(matrix)} and {now.snapshot.live_count}")
        k, recall = as_count("k", k), as_number("recall", recall, above=0, most=1)
        report = tune(now.trained, now.snapshot, matrix, k, recall, pool.resolve(threads))
        self._set_depth(Depth(report.chosen.nprobe, report.chosen.rerank))
        return report

    def reconstruct(self, ids: Any) -> np.ndarray:
        """Return the vectors of ``ids`` as the index holds them, (len(ids), d) float32 (UnknownIdError)."""
        self._check_open()
        now = self._now
        trained, snapshot = now.trained, now.snapshot
        rows = self._known_rows(snapshot, ids)
        vectors = np.empty((len(rows), trained.dim), np.float32)
        for segment in snapshot.segments:
            inside = np.flatnonzero((rows >= segment.base) & (rows < segment.base + segment.n))
            if len(inside):
                vectors[inside] = trained.decode(segment, rows[inside] - segment.base)
        return vectors

    def to_arrow(self, *, filter: Any = None, vectors: bool = True) -> pa.RecordBatchReader:
        """Return all rows, in the order of insertion, as Arrow record batches that are made one at a time.

        Columns: id, vector (float32 as `reconstruct` returns it; left out where ``vectors`` is False) and attributes.
        ``filter`` is as for `search`. The rows are those of now, whatever changes while they are read. StateError
        where an attribute is called "id" or "vector", and for vectors of an index of documents.
        """
        self._check_open()
        if vectors:
            self._check_single()
        now = self._now
        view = now.view if filter is None else self._narrowed(now.view, filter)
        return record_batches(now.trained, view.snapshot, vectors=vectors)

    # -- changing -----------------------------------------------------------------------------

    def add(self, vectors: Any, ids: Any = None, attributes: Any = None, *, threads: int | None = None) -> None:
        """Add vectors (n, d), coded as the others are; on an index opened "rw" they are on disk when it returns.

        ``ids`` of the index's kind, not yet in it (DuplicateIdError); by default those that come with the vectors in a
        table, as at build, else integers after the largest.
        ``attributes`` as at build: columns that are left out are null, new ones are taken on, and were null before;
        a value of another type than its column is a DtypeError.
        """
        with self._changing:
            self._check_writable()
            self._check_single()
            matrix = door.for_metric(door.as_matrix(vectors, dim=self.dim, name="vectors"), self.metric)
            self._insert(matrix, None, door.ids_beside(vectors) if ids is None else ids, attributes, threads)

    def remove(self, ids: Any) -> None:
        """Remove ids; UnknownIdError, and nothing removed, where one is not in the index."""
        with self._changing:
            self._check_writable()
            rows = self._known_rows(self._now.snapshot, ids)
            if len(rows) == 0:
                return
            segments = []
            for segment in self._now.snapshot.segments:
                inside = rows[(rows >= segment.base) & (rows < segment.base + segment.n)] - segment.base
                segments.append(segment.without(inside) if len(inside) else segment)
            self._change(snapshot=Snapshot.of(segments))

    def compact(self) -> None:
        """Merge all segments into one and drop removed rows; ids and results stay as they are."""
        with self._changing:
            self._check_writable()
            segments = list(self._now.snapshot.segments)
            if not segments or (len(segments) == 1 and not len(segments[0].live)):
                return
            commit.check(self._store, segments)
            # One without rows stays: it knows the kind of ids and the attributes' columns.
            self._change(snapshot=Snapshot.of([merge(self._now.trained, segments)]))

    # -- keeping ------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index to a folder, all or nothing; an index already there is replaced."""
        with self._changing:
            self._check_open()
            if self._store is not None and self._store.path.resolve() == as_path(path).resolve():
                self._check_writable()  # it is on disk already, after every change
                return
            self._check_files()
            with Store.create(path) as store:
                commit.write(store, self._now, moved=True)

    def verify(self) -> None:
        """Read every byte of the index's files; CorruptIndexError names the section that is wrong."""
        self._check_open()
        store, segments = self._store, self._now.snapshot.segments
        if store is not None:
            store.verify()
        for segment in segments:
            persist.verify_segment(segment)
        persist.verify_together(segments)

    def is_current(self) -> bool:
        """Return whether the folder still holds the version that is shown; always, where there is no folder.

        False after a writer's commit in the meantime. StorageError, CorruptIndexError: the folder cannot be read.
        """
        self._check_open()
        return self._store is None or self._store.is_current()

    def refresh(self) -> bool:
        """Take the current version of the folder; return whether it is another than was shown.

        For readers. A search that is under way ends with the version that it began with. The depth that `tune` found
        on this object stays, unless another index was saved to the folder: that one comes with its own. An index in
        memory, or open for writing, shows the current version as it is. StorageError, CorruptIndexError where the
        folder cannot be read: what was shown stays.
        """
        return self._refresh(lambda trained: None)

    def close(self) -> None:
        """Let go of files, memory and lock; every later call is a StateError, but repr. Closing twice is fine.

        Mapped files are let go of when the last search that is under way has ended. StorageError where the system
        reports one; the index is closed all the same.
        """
        with self._changing:  # a change that is under way is finished: it holds the lock of the folder
            self._closed, self._now = True, _CLOSED
            if self._store is not None:
                self._store.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        with suppress(*[] if kind is None else [StorageError]):  # what went wrong first is what is told
            self.close()

    def __reduce__(self) -> tuple:
        """Ship an opened index as path, version and depth of search: it is opened there for reading (see `reopen`).

        So do `copy.copy` and `copy.deepcopy`. StateError for an index in memory, and, there, where the folder has
        another version by then: answers would be others than here.
        """
        self._check_open()
        if self._store is None:
            raise StateError("an index in memory is not copied or sent to another process: save it and open it")
        from annvq.index.opening import reopen

        return reopen, (str(self._store.path), self._store.uuid, self._store.version, self._tuned)

    # -- inside -------------------------------------------------------------------------------

    def _change(self, **changes: Any) -> None:
        """Make a new version current, on disk first where the index is open for writing."""
        version = replace(self._now, number=self._now.number + 1, **changes)
        if self._store is not None and self._store.mode == "rw":
            try:
                version = commit.write(self._store, version, moved=False)
            except BaseException:
                if self._store.version != self._now.number:  # interrupted after the point of commit
                    self._now = commit.read(self._store)
                raise
        self._now = version

    def _set_depth(self, depth: Depth) -> None:
        """Make a depth of search the default, on disk where the index is open for writing."""
        with self._changing:
            self._check_open()
            if self._store is None or self._store.mode == "rw":
                self._change(depth=depth)
            else:
                self._tuned, self._now = depth, replace(self._now, depth=depth)

    def _refresh(self, check: Callable[[Trained], object]) -> bool:
        """Take the folder's version if ``check`` raises no error of its trained parts."""
        with self._changing:
            self._check_open()
            held = self._store
            if held is None or held.is_current():
                return False
            if held.mode == "rw":
                raise StateError(f"{held.path} has changed, though it is open for writing: close it and open it again")
            store, version = commit.open_version(held.path, "r")
            check(version.trained)
            if store.uuid != held.uuid:
                self._tuned = None
            self._store, self._now = store, replace(version, depth=self._tuned or version.depth)
            return True

    def _check_open(self) -> None:
        if self._closed:
            raise StateError("the index is closed")

    def _check_writable(self) -> None:
        self._check_open()
        if self._store is not None and self._store.mode != "rw":
            raise StateError("the index is open for reading: annvq.open(path, mode='rw') to change it")

    def _insert(
        self, matrix: np.ndarray, tokens: TokenRows | None, ids: Any, attributes: Any, threads: int | None
    ) -> None:
        """Add checked vectors (n, d), of documents whose own vectors are coded."""
        column = self._new_ids(ids, len(matrix))
        table = new_attributes(attributes, len(matrix), self._now.snapshot.schema)
        if len(matrix) == 0:
            return
        writer = SegmentWriter(self._now.trained, len(matrix), pool.resolve(threads))
        writer.add(matrix, tokens)
        segments = self._merge_small([*self._now.snapshot.segments, writer.take(column, table)])
        self._change(snapshot=Snapshot.of(segments), next_id=next_id(column, self._now.next_id))

    def _merge_small(self, segments: list[Segment]) -> list[Segment]:
        """Merge the newest segments while one is less than twice as long as the next: log n segments stay."""
        while len(segments) > 1 and segments[-2].n < 2 * segments[-1].n and segments[-2].n < _LARGE:
            commit.check(self._store, segments[-2:])
            segments = [*segments[:-2], merge(self._now.trained, segments[-2:])]
        return segments

    def _check_files(self) -> None:
        """Check the checksums of all that is about to be written elsewhere (CorruptIndexError)."""
        commit.check(self._store, self._now.snapshot.segments, trained_name=self._now.trained_name)

    def _queries(self, now: Version, queries: Any) -> np.ndarray:
        matrix = door.as_matrix(queries, dim=now.trained.dim, name="queries")
        return door.for_metric(matrix, now.trained.metric, "queries")

    def _check_single(self) -> None:
        if self._now.trained.tokens is not None:  # its rows stand for documents
            raise StateError("this index is of documents: open it with annvq.multivector.MultiVectorIndex")

    def _depth_for(self, now: Version, nprobe: int | None, rerank: int | None) -> Depth:
        default = now.depth
        if nprobe is None and rerank is None:
            return default
        nprobe = default.nprobe if nprobe is None else min(as_count("nprobe", nprobe), now.trained.nlist)
        rerank = default.rerank if rerank is None else as_count("rerank", rerank)
        return Depth(nprobe, rerank)

    def _narrowed(self, view: View, given: Any) -> View:
        """Return the view with only the rows that pass the filter."""
        if isinstance(given, PreparedFilter):
            return given.on(view)
        return narrowed(view, Filter.parse(given, view.snapshot))

    def _known_rows(self, snapshot: Snapshot, ids: Any) -> np.ndarray:
        column = IdColumn.of(ids)
        rows = snapshot.find(column)
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise UnknownIdError(f"the index does not hold id {column.shown(missing[0])}{more}")
        return rows

    def _new_ids(self, ids: Any, n: int) -> IdColumn:
        segments = self._now.snapshot.segments
        column = as_ids(ids, n, self._now.next_id, kind=segments[0].ids.kind if segments else None)
        held = np.flatnonzero(self._now.snapshot.find(column) >= 0)
        if len(held):
            more = f" and {len(held) - 1} more" if len(held) > 1 else ""
            raise DuplicateIdError(f"the index already holds id {column.shown(held[0])}{more}; remove it first")
        return column


class _Closed:
    """In the place of the version when the index is closed: nothing stays mapped, every use is an error."""

    def __getattr__(self, name: str) -> Any:
        raise StateError("the index is closed")


_CLOSED: Any = _Closed()
_ALL: weakref.WeakSet[Index] = weakref.WeakSet()


def _forget_changes() -> None:
    """In a forked child: threads that were changing an index are not there to finish."""
    for index in list(_ALL):
        index._changing = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_changes)


_LARGE = 1 << 20  # rows; longer segments are merged only by `compact`
_MOST_PLACES = 1 << 24  # of a query's hits, where the index holds fewer vectors


def next_id(column: IdColumn, least: int) -> int:
    """Return the first integer after ``least`` - 1 and after all ids of a column."""
    if column.kind != "int" or len(column) == 0:
        return least
    return max(least, int(column.order_keys().max()) + 1)


def _padded(hits: Hits, k: int) -> Hits:
    nq, found = hits.scores.shape
    if found == k:
        return hits
    missing = None if hits.ids.dtype == object else -1
    ids = np.full((nq, k), missing, hits.ids.dtype)
    scores = np.full((nq, k), -np.inf, np.float32)
    ids[:, :found], scores[:, :found] = hits.ids, hits.scores
    return Hits(ids, scores)
