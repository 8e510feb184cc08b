"""The index that users hold: search, change, save."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq import vectors as door
from annvq.arguments import as_count, as_number
from annvq.arrays import offsets_of
from annvq.errors import ParameterError, StorageError
from annvq.hits import Hits, RangeHits
from annvq.index.recipe import Recipe
from annvq.index.search.params import SearchParams, checked
from annvq.index.search.prepared import PreparedFilter
from annvq.index.search.rangesearch import range_search
from annvq.index.search.stages import search
from annvq.index.search.tune import TuneReport, tune
from annvq.index.versions import figures
from annvq.index.versions.export import record_batches, single_vectors
from annvq.index.versions.versioned import VersionedRows
from annvq.kernels import threads as pool

if TYPE_CHECKING:
    import pyarrow as pa


class Index:
    """Vectors with ids, searched by inner product, cosine or squared Euclidean distance.

    `annvq.build` and `annvq.open` return indexes. Any number of threads may search an index, even while one of them
    changes it: a search sees the version that was current when it began. The attribute ``rows`` (the versions beneath)
    is meant for packages that build on annvq, and may change.
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
        """The number of the version, which grows by one with every change; for an index on disk, the folder's."""
        return self.rows.current.number

    @property
    def nprobe(self) -> int:
        """The number of lists that a search scans by default."""
        return self.rows.current.depth.nprobe

    @property
    def rerank(self) -> int:
        """The number of candidates that a search scores again by default."""
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
        matrix = now.trained.accept(queries, "queries")
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
        """Return all rows within a radius, among those of the lists that are probed.

        The radius is the smallest inner product or cosine that counts or, for "l2", the largest squared distance; rows
        exactly at the radius are returned. Scores are the most precise that the index can compute: from the refine
        store where there is one, and from the codes otherwise.
        """
        now = self.rows.current
        matrix = now.trained.accept(queries, "queries")
        depth = now.depth_for(nprobe, None)
        least = as_number("radius", radius) * (-1 if now.trained.l2 else 1)
        view = now.narrowed(filter)
        found = [range_search(view, matrix[q : q + 1], least, depth.nprobe) for q in range(len(matrix))]
        offsets = offsets_of([len(scores) for scores, _ in found])
        scores = np.concatenate([np.empty(0, np.float32), *(scores for scores, _ in found)])
        rows = np.concatenate([np.empty(0, np.int64), *(rows for _, rows in found)])
        return RangeHits(offsets, view.snapshot.take_ids(rows), scores)

    def prepare_filter(self, filter: Any) -> PreparedFilter:
        """Prepare a filter once for many searches, each of which takes the result as ``filter`` at almost no cost.

        The parameter is the same as for `search` (FilterError). After the index changes, ids and expressions are
        applied to the rows that are there then; a mask is valid only until a row is added or removed (FilterError).
        """
        view = self.rows.current.view
        return filter if isinstance(filter, PreparedFilter) else PreparedFilter(filter, view)

    def tune(self, queries: Any, k: int = 10, recall: float = 0.95, *, threads: int | None = None) -> TuneReport:
        """Find the fastest nprobe and rerank that reach ``recall`` at k on these queries, and make them the default.

        Recall is measured against exhaustive search with the most precise scores that the index has. The setting is
        stored in memory and, if the index is open for writing, on disk. On an index that is open for reading it belongs
        to this object alone, and the version stays the same. An index of documents raises StateError.
        """
        self.rows.check_plain()
        now = self.rows.current
        matrix = now.trained.accept(queries, "queries")
        if len(matrix) == 0 or now.snapshot.live_count == 0:
            raise ParameterError(f"tuning needs queries and vectors, got {len(matrix)} and {now.snapshot.live_count}")
        k, recall = as_count("k", k), as_number("recall", recall, above=0, most=1)
        report = tune(now.trained, now.snapshot, matrix, k, recall, pool.resolve(threads))
        self.rows.set_depth(report.params)
        return report

    def reconstruct(self, ids: Any) -> np.ndarray:
        """Return the decoded vectors (len(ids), d) float32 of these ids; an unknown id raises UnknownIdError."""
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

        The columns are id, vector (float32, as `reconstruct` returns it; left out if ``vectors`` is False) and the
        attributes. The filter is the same as for `search`. The rows are those of the present version, whatever changes
        while they are read. StateError is raised if an attribute is called "id" or "vector", and for the vectors of an
        index of documents.
        """
        now = self.rows.current
        if vectors:
            self.rows.check_plain()
        view = now.narrowed(filter)
        return record_batches(view.snapshot, single_vectors(now.trained) if vectors else None)

    # -- changing -----------------------------------------------------------------------------

    def add(self, vectors: Any, ids: Any = None, attributes: Any = None, *, threads: int | None = None) -> None:
        """Add vectors (n, d); on an index that was opened "rw", they are on disk when the call returns.

        The ids are of the same type as those of the index, and new to it (DuplicateIdError). By default they are those
        that come with the vectors in a table, as for `annvq.build`, and otherwise the integers after the largest one.
        Attributes are given as for `annvq.build`. Columns that are left out become null; new columns are accepted, and
        are null for all earlier rows. A value whose type differs from that of its column raises DtypeError.
        """
        with self.rows.changing():
            self.rows.check_plain()
            matrix = self.rows.current.trained.accept(vectors)
            given = door.ids_beside(vectors) if ids is None else ids
            self.rows.insert(matrix, None, given, attributes, threads)

    def remove(self, ids: Any) -> None:
        """Remove vectors by their ids; if the index lacks one, UnknownIdError is raised and nothing is removed."""
        self.rows.remove(ids)

    def compact(self) -> None:
        """Merge all segments into one and drop the rows that were removed; ids and results stay the same."""
        self.rows.compact()

    # -- keeping ------------------------------------------------------------------------------

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
        another index was saved to the folder, which comes with settings of its own. If the folder cannot be read,
        StorageError or CorruptIndexError is raised and the object shows what it showed before.
        """
        return self.rows.refresh()

    def close(self) -> None:
        """Release files, memory and lock; every later call except repr raises StateError. Closing twice is allowed.

        Mapped files are released when the last search that is under way has ended. If the operating system reports an
        error, StorageError is raised and the index is closed all the same.
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


def reopen(*sent: Any) -> Index:
    """Open what was pickled; parameters and errors are those of `VersionedRows.reopen`."""
    return Index(VersionedRows.reopen(*sent))


_MOST_PLACES = 1 << 24  # of a query's hits, where the index holds fewer vectors


def _padded(hits: Hits, k: int) -> Hits:
    nq, found = hits.scores.shape
    if found == k:
        return hits
    missing = None if hits.ids.dtype == object else -1
    ids = np.full((nq, k), missing, hits.ids.dtype)
    scores = np.full((nq, k), -np.inf, np.float32)
    ids[:, :found], scores[:, :found] = hits.ids, hits.scores
    return Hits(ids, scores)
