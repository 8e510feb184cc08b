"""The index that users hold: search, change, save."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq import vectors as door
from annvq.arguments import as_count, as_number
from annvq.arrays import offsets_of
from annvq.errors import ParameterError, StateError, StorageError
from annvq.hits import Hits, RangeHits
from annvq.index.recipe import Recipe
from annvq.index.search.params import SearchParams, checked
from annvq.index.search.prepared import PreparedFilter
from annvq.index.search.rangesearch import range_search
from annvq.index.search.stages import search
from annvq.index.search.tune import TuneReport, tune
from annvq.index.trained import Trained
from annvq.index.versions import figures
from annvq.index.versions.export import record_batches
from annvq.index.versions.versioned import VersionedRows
from annvq.kernels import threads as pool

if TYPE_CHECKING:
    import pyarrow as pa


class Index:
    """Vectors under ids, searched by inner product, cosine or squared L2.

    Made by `annvq.build` and `annvq.open`. Searching is safe from any number of threads, also while
    one thread changes the index: a search sees the version that was current when it began. ``rows``, the versions
    beneath, are for packages that build on annvq, and may change.
    """

    def __init__(self, rows: VersionedRows) -> None:
        """Take rows whose vectors stand for themselves."""
        self.rows = rows

    # -- what it is ---------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of vectors that are not removed."""
        return self.rows.current.snapshot.live_count

    @property
    def dim(self) -> int:
        """Dimension d of the vectors."""
        return self.rows.current.trained.dim

    @property
    def metric(self) -> str:
        """Metric: "ip", "l2" or "cosine"."""
        return self.rows.current.trained.metric

    @property
    def recipe(self) -> Recipe:
        """The recipe with every number given."""
        return self.rows.current.trained.recipe

    @property
    def version(self) -> int:
        """Version, one more after every change; that of the folder, where the index is of one."""
        return self.rows.current.number

    @property
    def nprobe(self) -> int:
        """Lists that a search looks into by default."""
        return self.rows.current.depth.nprobe

    @property
    def rerank(self) -> int:
        """Candidates that a search rescores by default."""
        return self.rows.current.depth.rerank

    def __repr__(self) -> str:
        if self.rows.closed:
            return "Index(closed)"
        return f"Index(n={len(self)}, dim={self.dim}, metric={self.metric!r}, recipe={self.recipe.name!r})"

    def stats(self) -> dict[str, Any]:
        """Return figures about the index.

        ``bytes_per_vector`` counts what stands for a vector: codes, constants, refine store. ``bytes`` says what else
        there is: ids, positions, centroids and codebooks, attributes; its codes hold lists padded to blocks of 32.
        """
        return figures.of(self.rows.current, self.rows.path)

    # -- searching ----------------------------------------------------------------------------

    def search(
        self,
        queries: Any,
        k: int = 10,
        *,
        params: SearchParams | None = None,
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
        params
            How far this search goes, such as what `tune` found on another index (`TuneReport.params`). Default: the
            recipe's, or what `tune` found on this one.
        nprobe
            Lists to look into, at least 1, instead of those of ``params``; above nlist, all are. More are looked into
            while these hold fewer rows that may be returned than candidates are wanted: ``rerank`` of them, without a
            refine store about k.
        rerank
            Candidates that the refine store rescores, at least k, instead of those of ``params`` and 2 k, whichever is
            more.
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
        now = self.rows.current
        view = now.view if filter is None else now.narrowed(filter)
        default = now.depth if params is None else checked(params)
        if view.fused is not None:
            hits = view.fused.search_one(queries, k, nprobe, rerank, default, threads)
            if hits is not None:
                return hits
        snapshot = view.snapshot
        matrix = _queries(now.trained, queries)
        depth = now.depth_for(nprobe, rerank, default)
        k = as_count("k", k, most=max(_MOST_PLACES, snapshot.live_count))
        allowed = snapshot.searchable_count
        found = min(k, allowed)
        candidates = max(depth.rerank, 2 * k) if rerank is None else depth.rerank
        depth = SearchParams(depth.nprobe, min(candidates, allowed))  # pools are as large as they are asked to be
        workers = pool.resolve(threads)
        scores, rows = search(view, matrix, found, depth, workers)
        return _padded(Hits(snapshot.take_ids(rows), scores), k)

    def range_search(self, queries: Any, radius: float, *, nprobe: int | None = None, filter: Any = None) -> RangeHits:
        """Return everything within a radius, among the rows of the probed lists.

        ``radius`` is the least inner product or cosine, or for "l2" the largest squared distance; it
        belongs to the result. Scores are the best that the index can make (refine store, else codes).
        """
        now = self.rows.current
        matrix = _queries(now.trained, queries)
        depth = now.depth_for(nprobe, None)
        least = as_number("radius", radius) * (-1 if now.trained.l2 else 1)
        view = now.narrowed(filter)
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
        view = self.rows.current.view
        return filter if isinstance(filter, PreparedFilter) else PreparedFilter(filter, view)

    def tune(self, queries: Any, k: int = 10, recall: float = 0.95, *, threads: int | None = None) -> TuneReport:
        """Set nprobe and rerank to the fastest that reach ``recall`` at k on these queries.

        Measured against exhaustive search with the best scores that the index has. The setting is stored: in memory,
        and on disk where the index is open for writing. On an index that is open for reading it is this object's own,
        and the version stays. StateError for an index of documents.
        """
        self._check_single()
        now = self.rows.current
        matrix = _queries(now.trained, queries)
        if len(matrix) == 0 or now.snapshot.live_count == 0:
            raise ParameterError(f"tuning needs queries and vectors, got {len(matrix)} and {now.snapshot.live_count}")
        k, recall = as_count("k", k), as_number("recall", recall, above=0, most=1)
        report = tune(now.trained, now.snapshot, matrix, k, recall, pool.resolve(threads))
        self.rows.set_depth(report.params)
        return report

    def reconstruct(self, ids: Any) -> np.ndarray:
        """Return the vectors of ``ids`` as the index holds them, (len(ids), d) float32 (UnknownIdError)."""
        now = self.rows.current
        trained, snapshot = now.trained, now.snapshot
        rows = snapshot.rows_of(ids)
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
        now = self.rows.current
        if vectors:
            self._check_single()
        view = now.narrowed(filter)
        return record_batches(now.trained, view.snapshot, vectors=vectors)

    # -- changing -----------------------------------------------------------------------------

    def add(self, vectors: Any, ids: Any = None, attributes: Any = None, *, threads: int | None = None) -> None:
        """Add vectors (n, d), coded as the others are; on an index opened "rw" they are on disk when it returns.

        ``ids`` of the index's kind, not yet in it (DuplicateIdError); by default those that come with the vectors in a
        table, as at build, else integers after the largest.
        ``attributes`` as at build: columns that are left out are null, new ones are taken on, and were null before;
        a value of another type than its column is a DtypeError.
        """
        with self.rows.changing():
            self._check_single()
            matrix = door.for_metric(door.as_matrix(vectors, dim=self.dim, name="vectors"), self.metric)
            given = door.ids_beside(vectors) if ids is None else ids
            self.rows.insert(matrix, None, given, attributes, threads)

    def remove(self, ids: Any) -> None:
        """Remove ids; UnknownIdError, and nothing removed, where one is not in the index."""
        self.rows.remove(ids)

    def compact(self) -> None:
        """Merge all segments into one and drop removed rows; ids and results stay as they are."""
        self.rows.compact()

    # -- keeping ------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index to a folder, all or nothing; an index already there is replaced."""
        self.rows.save(path)

    def verify(self) -> None:
        """Read every byte of the index's files; CorruptIndexError names the section that is wrong."""
        self.rows.verify()

    def is_current(self) -> bool:
        """Return whether the folder still holds the version that is shown; always, where there is no folder.

        False after a writer's commit in the meantime. StorageError, CorruptIndexError: the folder cannot be read.
        """
        return self.rows.is_current()

    def refresh(self) -> bool:
        """Take the current version of the folder; return whether it is another than was shown.

        For readers. A search that is under way ends with the version that it began with. The depth that `tune` found
        on this object stays, unless another index was saved to the folder: that one comes with its own. An index in
        memory, or open for writing, shows the current version as it is. StorageError, CorruptIndexError where the
        folder cannot be read: what was shown stays.
        """
        return self.rows.refresh()

    def close(self) -> None:
        """Let go of files, memory and lock; every later call is a StateError, but repr. Closing twice is fine.

        Mapped files are let go of when the last search that is under way has ended. StorageError where the system
        reports one; the index is closed all the same.
        """
        self.rows.close()

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
        return reopen, self.rows.sent()

    # -- inside -------------------------------------------------------------------------------

    def _check_single(self) -> None:
        if self.rows.current.trained.tokens is not None:  # its rows stand for documents
            raise StateError("this index is of documents: open it with annvq.multivector.MultiVectorIndex")


def reopen(*sent: Any) -> Index:
    """Open what was pickled; parameters and errors are those of `VersionedRows.reopen`."""
    return Index(VersionedRows.reopen(*sent))


_MOST_PLACES = 1 << 24  # of a query's hits, where the index holds fewer vectors


def _queries(trained: Trained, queries: Any) -> np.ndarray:
    matrix = door.as_matrix(queries, dim=trained.dim, name="queries")
    return door.for_metric(matrix, trained.metric, "queries")


def _padded(hits: Hits, k: int) -> Hits:
    nq, found = hits.scores.shape
    if found == k:
        return hits
    missing = None if hits.ids.dtype == object else -1
    ids = np.full((nq, k), missing, hits.ids.dtype)
    scores = np.full((nq, k), -np.inf, np.float32)
    ids[:, :found], scores[:, :found] = hits.ids, hits.scores
    return Hits(ids, scores)
