"""The index that users hold: search, change, save."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from annvq import vectors as door
from annvq.arguments import as_count, as_number
from annvq.arrays import offsets_of
from annvq.errors import ParameterError
from annvq.hits import Hits, RangeHits
from annvq.index.base import BaseIndex
from annvq.index.rows.snapshot import Snapshot
from annvq.index.search.explain import Explanation, Trace
from annvq.index.search.params import SearchParams, checked
from annvq.index.search.rangesearch import range_search
from annvq.index.search.stages import search
from annvq.index.search.tune import TuneReport, tune
from annvq.index.search.view import View
from annvq.index.versions import figures
from annvq.index.versions.commit import Version
from annvq.index.versions.export import VectorColumn, single_vectors
from annvq.kernels import threads as pool


class Index(BaseIndex):
    """Vectors with ids, searched by inner product, cosine or squared Euclidean distance.

    `annvq.build` and `annvq.open` return indexes.

    Examples
    --------
    >>> vectors = np.random.default_rng(0).normal(size=(1000, 32))
    >>> index = annvq.build(vectors, "flat", metric="l2")
    >>> index.remove([3])
    1
    >>> len(index), 3 in index
    (999, False)

    """

    # -- what it is ---------------------------------------------------------------------------

    @property
    def dim(self) -> int:
        """Dimension d of the vectors; for "hamming", the number of their bits."""
        return self.rows.current.trained.dim

    @property
    def metric(self) -> str:
        """Metric: "ip", "l2", "cosine" or "hamming"."""
        return self.rows.current.trained.metric

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
        columns: Any = None,
        offset: int = 0,
        explain: bool = False,
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
            Only these rows: a condition on the attributes as a dict, such as ``{"lang": "de", "page": {"$gte": 3}}``,
            as a text, such as ``"lang == 'de' and page >= 3"``, or as a ``pyarrow.compute`` expression; ids; a boolean
            mask over the rows in the order of insertion; or any of these from `prepare_filter`. k hits come back when
            k rows pass. Where few pass, all of these are scored instead of scanning lists; otherwise the more lists
            are looked into, and the more candidates rescored, the fewer rows pass, so that recall is not lower than
            without a filter. Hits of a filter
            that every row passes are the same as without one. Ids that the index does not hold let nothing pass,
            without an error, for lists of what a user may see name more than one index holds. Null in an expression,
            or in a mask of Arrow, pandas or polars, is false; None in a list is refused.
        columns
            Names of attributes that come with the hits (`Hits.attributes`); by default none.
        offset
            How many of the best hits to pass over: the second page of ten is ``k=10, offset=10``.
        explain
            Whether ``hits.explain`` says what the search did: strategy, lists, rows, seconds
            (`annvq.index.search.explain.Explanation`).
        threads
            Default: all CPUs of the process for a batch; the result does not depend on it.

        Raises
        ------
        ShapeError, DtypeError, NonFiniteError, ZeroVectorError
            The queries are not finite vectors of the index's dimension, or one that is zero has no cosine.
        FilterError
            The filter is none of these, a condition that does not fit the attributes, a mask of another length, or as
            many integers as there are rows that are all 0 or 1, which may as well be a mask.
        ParameterError
            The index has no such column, or another argument is not one that is accepted.

        Examples
        --------
        >>> vectors = np.random.default_rng(0).normal(size=(1000, 32))
        >>> index = annvq.build(vectors, "flat", metric="l2", attributes={"page": np.arange(1000) % 5})
        >>> hits = index.search(vectors[:2], k=3, filter="page >= 1", columns=["page"])
        >>> hits.ids
        array([[631, 109, 581],
               [  1, 949, 826]])
        >>> hits.attributes["page"].to_pylist()
        [1, 4, 1, 1, 4, 1]

        """
        traces = [Trace()] if explain else None
        now = self.rows.current
        view = now.view if filter is None else now.narrowed(filter)
        default = now.depth if params is None else checked(params)
        if traces is not None:
            traces[0].ends("filter")
        elif self._in_one_call and columns is None and not offset and view.fused is not None:
            hits = view.fused.search_few(queries, k, nprobe, rerank, default, threads)
            if hits is not None:
                return hits
        matrix = now.trained.accept(queries, "queries")
        k, offset, found, depth = settled_search(now, view, k, offset, nprobe, rerank, default)
        scores, rows = self._search(now, view, matrix, found, depth, pool.resolve(threads), traces)
        hits = shown(view.snapshot, scores, rows, k, offset, now.trained.metric, columns)
        if traces is not None:
            hits.explain = Explanation.of(view.strategy, traces, len(matrix))
        return hits

    def range_search(self, queries: Any, radius: float, *, nprobe: int | None = None, filter: Any = None) -> RangeHits:
        """Return all rows within a radius, among those of the lists that are probed.

        Parameters
        ----------
        queries
            (nq, d), or (d,) for one; what `search` takes.
        radius
            The smallest inner product or cosine that counts or, for "l2" and "hamming", the largest squared Euclidean
            or Hamming distance; rows exactly at the radius are returned.
        nprobe
            Lists to look into, at least 1; above nlist, all are. Default: as many as `search` looks into.
        filter
            Only these rows, as for `search`.

        Returns
        -------
        RangeHits
            The scores are the most precise that the index can compute: from the refine store where there is one, and
            from the codes otherwise.

        Raises
        ------
        ShapeError, DtypeError, NonFiniteError, ZeroVectorError, FilterError
            The queries or the filter do not fit the index, as for `search`.
        ParameterError
            The radius is not a finite number, or ``nprobe`` is below 1.

        Examples
        --------
        >>> index = annvq.build([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]], "flat", metric="l2")
        >>> offsets, ids, scores = index.range_search([[0.0, 0.0], [9.0, 9.0]], radius=25.0)
        >>> offsets
        array([0, 2, 3])
        >>> ids[offsets[0] : offsets[1]]  # of the first query
        array([0, 1])

        """
        now = self.rows.current
        matrix = now.trained.accept(queries, "queries")
        depth = now.depth_for(nprobe, None)
        least = as_number("radius", radius) * (-1 if now.trained.l2 else 1)
        view = now.narrowed(filter)
        found = [self._range_search(now, view, matrix[q : q + 1], least, depth.nprobe) for q in range(len(matrix))]
        offsets = offsets_of([len(scores) for scores, _ in found])
        scores = np.concatenate([np.empty(0, np.float32), *(scores for scores, _ in found)])
        rows = np.concatenate([np.empty(0, np.int64), *(rows for _, rows in found)])
        return RangeHits(offsets, view.snapshot.take_ids(rows), scores)

    _in_one_call = True  # where a kernel does a whole search (`annvq.index.search.fused`)

    def _search(
        self, now: Version, view: View, queries: np.ndarray, k: int, depth: SearchParams, threads: int,
        traces: list[Trace] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Search a view of a version, as `annvq.index.search.stages.search` does."""
        return search(view, queries, k, depth, threads, traces=traces)

    def _range_search(
        self, now: Version, view: View, query: np.ndarray, least: float, nprobe: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Search within a radius, as `annvq.index.search.rangesearch.range_search` does."""
        return range_search(view, query, least, nprobe)

    def to(self, device: Any, *, device_bytes: int | None = None, split: str = "replicas") -> Index:
        """Return the index on another device: on a GPU, searches return the same hits and scores, to the bit.

        Codes are copied to the GPU's memory, and refine rows too if they fit; otherwise these are copied to page-locked
        memory of the host, from where the GPU reads those that it needs. The index that is returned shares the rows of
        this one: what is added or removed through either is seen by both, and only new segments are copied.

        Parameters
        ----------
        device
            "cuda", "cuda:1" for the second GPU, a torch.device, a list of these for several GPUs, or "cpu".
        device_bytes
            The most bytes of a GPU's memory that the index may take, searches included; by default all that is free.
        split
            What each of several GPUs holds: with "replicas" the whole index, and batches of queries are shared among
            the GPUs; with "lists" some of the lists, and every query is searched by all.

        Raises
        ------
        MissingExtraError
            torch or Triton is not installed: ``pip install 'annvq[gpu]'``.
        DeviceError
            There is no such GPU, it or its driver is too old, or the index has codes that are searched on the CPU only.
        DeviceMemoryError
            Even the codes do not fit; the message says how many rows would.
        ParameterError
            An argument is not one that is accepted.

        Examples
        --------
        >>> index = annvq.build(np.eye(4), "flat")
        >>> index.to("cpu")
        Index(n=4, dim=4, metric='ip', recipe='flat')

        """
        if str(device) == "cpu":
            refuse_for_cpu(device_bytes, split)
            return self if type(self) is Index else Index(self.rows)
        return importlib.import_module("annvq.gpu.index").GpuIndex(self.rows, device, device_bytes, split)

    def tune(self, queries: Any = None, k: int = 10, recall: float = 0.95, *, threads: int | None = None) -> TuneReport:
        """Find the fastest nprobe and rerank that reach a recall on some queries, and make them the default.

        The setting is stored in memory and, if the index is open for writing, on disk. On an index that is open for
        reading it belongs to this object alone, and the version stays the same.

        Parameters
        ----------
        queries
            (nq, d), nq >= 1; what `search` takes. None takes 500 rows of the index in their place, none of which counts
            among its own neighbours. Real queries are better: if they are unlike the rows, less of their neighbours is
            found than the report says.
        k
            The number of neighbours that count, at least 1.
        recall
            The share of them to be found, above 0 and at most 1. It is measured against exhaustive search with the most
            precise scores that the index has.
        threads
            Default: all CPUs of the process.

        Returns
        -------
        TuneReport
            What was chosen, its recall and speed, and all that was measured. If no setting reaches the recall, the one
            that comes nearest is chosen.

        Raises
        ------
        ParameterError
            There are no queries, or no more than k vectors, or a number is not one that is accepted.
        ShapeError, DtypeError, NonFiniteError, ZeroVectorError
            The queries do not fit the index.

        Examples
        --------
        >>> vectors = np.random.default_rng(0).normal(size=(1000, 32))
        >>> index = annvq.build(vectors, "IVF16,Flat", metric="l2")
        >>> report = index.tune(vectors[:50], k=5, recall=0.9)
        >>> report.reached, report.params.nprobe == index.nprobe
        (True, True)

        """
        self.rows.check_plain()
        now = self.rows.current
        own = None
        if queries is None:
            own = now.snapshot.searchable_rows()
            own = own[np.linspace(0, len(own) - 1, min(_STAND_INS, len(own))).astype(np.int64)]
            queries = _decoded(now, own)
        matrix = now.trained.accept(queries, "queries")
        if len(matrix) == 0 or now.snapshot.live_count == 0:
            raise ParameterError(f"tuning needs queries and vectors, got {len(matrix)} and {now.snapshot.live_count}")
        k, recall = as_count("k", k), as_number("recall", recall, above=0, most=1)

        def find(some: np.ndarray, k: int, depth: SearchParams, threads: int) -> np.ndarray:
            return self._search(now, now.view, some, k, depth, threads)[1]

        report = tune(now.trained, now.snapshot, matrix, k, recall, pool.resolve(threads), find, own)
        self.rows.set_depth(report.params)
        return report

    def reconstruct(self, ids: Any) -> np.ndarray:
        """Return the decoded vectors (len(ids), d) float32 of these ids; an unknown id raises UnknownIdError.

        Those of an index for "hamming" are packed bits, (len(ids), d / 8) uint8.

        Examples
        --------
        >>> index = annvq.build(np.eye(3), "flat", ids=["a", "b", "c"])
        >>> index.reconstruct(["c", "a"])
        array([[0., 0., 1.],
               [1., 0., 0.]], dtype=float32)

        """
        now = self.rows.current
        return _decoded(now, now.snapshot.rows_of(ids))

    def _vector_column(self, now: Version) -> VectorColumn:
        self.rows.check_plain()
        return single_vectors(now.trained)

    # -- changing -----------------------------------------------------------------------------

    def add(self, vectors: Any, ids: Any = None, attributes: Any = None, *, threads: int | None = None) -> None:
        """Add vectors; on an index that was opened "rw", they are on disk when the call returns.

        Parameters
        ----------
        vectors
            (n, d), what `annvq.build` takes except for batches.
        ids
            n unique ids, of the type of those of the index, and new to it. Default: those that come with the vectors in
            a table, as for `annvq.build`, and otherwise the integers after the largest one.
        attributes
            The same as for `annvq.build`. Columns that are left out become null; new columns are accepted, and are null
            for all earlier rows.
        threads
            Default: all CPUs of the process; the result does not depend on it.

        Raises
        ------
        DuplicateIdError
            The index holds an id already, or one is given twice. Nothing is added.
        ShapeError, DtypeError, NonFiniteError, ZeroVectorError
            Vectors, ids or attributes do not fit the index, such as a value whose type differs from that of its column.
            Nothing is added.
        StateError
            The index is open for reading.

        Examples
        --------
        >>> index = annvq.build(np.eye(3), "flat", ids=["a", "b", "c"])
        >>> index.add(2 * np.eye(3)[:1], ids=["d"], attributes={"lang": ["de"]})
        >>> index.search([1.0, 0.0, 0.0], k=2).to_lists()
        [[('d', 2.0), ('a', 1.0)]]

        """
        self._insert(vectors, ids, attributes, threads, replacing=False)

    def upsert(self, vectors: Any, ids: Any = None, attributes: Any = None, *, threads: int | None = None) -> None:
        """Add vectors (n, d), in the place of those that the index holds under the same ids.

        It is one version: a reader, also in another process, sees for each id either the old row or the new one.

        Parameters
        ----------
        vectors, threads
            The same as for `add`.
        ids
            n unique ids, of the type of those of the index. They must be given, or come with the vectors.
        attributes
            The same as for `add`. A row that is replaced loses all of its attributes: those that are not given become
            null.

        Raises
        ------
        DuplicateIdError
            An id is given twice.
        ParameterError
            There are no ids.
        ShapeError, DtypeError, NonFiniteError, ZeroVectorError, StateError
            The same as for `add`; nothing is changed.

        Examples
        --------
        >>> index = annvq.build(np.eye(3), "flat", ids=["a", "b", "c"])
        >>> index.upsert([[0.0, 5.0, 0.0], [0.0, 4.0, 0.0]], ids=["b", "d"])
        >>> index.search([0.0, 1.0, 0.0], k=2).to_lists()
        [[('b', 5.0), ('d', 4.0)]]

        """
        self._insert(vectors, ids, attributes, threads, replacing=True)

    def _insert(self, vectors: Any, ids: Any, attributes: Any, threads: int | None, *, replacing: bool) -> None:
        with self.rows.changing():
            self.rows.check_plain()
            matrix = self.rows.current.trained.accept(vectors)
            given = door.ids_beside(vectors) if ids is None else ids
            self.rows.insert(matrix, None, given, attributes, threads, replacing=replacing)


def refuse_for_cpu(device_bytes: Any, split: Any = "replicas") -> None:
    """Raise ParameterError if the CPU is given what is for GPUs."""
    if device_bytes is not None or split != "replicas":
        given = f"split={split!r}" if device_bytes is None else f"device_bytes={device_bytes!r}"
        raise ParameterError(f"{given} is for GPUs, and the device is 'cpu': leave it out, or name a GPU")


def _decoded(now: Version, rows: np.ndarray) -> np.ndarray:
    """Return the decoded vectors of some rows (int64) of a version, as users give them."""
    vectors = np.empty((len(rows), now.trained.dim), np.float32)
    for segment in now.snapshot.segments:
        inside = np.flatnonzero((rows >= segment.base) & (rows < segment.base + segment.n))
        if len(inside):
            vectors[inside] = now.trained.decode(segment, rows[inside] - segment.base)
    return now.trained.given_back(vectors)


def settled_search(
    now: Version, view: View, k: Any, offset: Any, nprobe: int | None, rerank: int | None, default: SearchParams
) -> tuple[int, int, int, SearchParams]:
    """Return k and offset, checked, how many rows there are to be found, and how far a search goes (ParameterError)."""
    depth = now.depth_for(nprobe, rerank, default)
    most = max(_MOST_PLACES, view.snapshot.live_count)
    k, offset = as_count("k", k, most=most), as_count("offset", offset, least=0, most=most)
    allowed = view.snapshot.searchable_count
    candidates = max(depth.rerank, 2 * (offset + k)) if rerank is None else depth.rerank
    # pools are as large as they are asked to be
    return k, offset, min(offset + k, allowed), SearchParams(depth.nprobe, min(candidates, allowed))


_STAND_INS = 500  # rows that stand in for queries where `Index.tune` is given none
_MOST_PLACES = 1 << 24  # of a query's hits, where the index holds fewer vectors


def shown(
    snapshot: Snapshot, scores: np.ndarray, rows: np.ndarray, k: int, offset: int, metric: str, columns: Any
) -> Hits:
    """Return the hits from place ``offset`` on, ``k`` per query, with some attributes if ``columns`` is not None.

    Scores (nq, found) and index-wide rows (nq, found) may be fewer than ``offset + k``.
    """
    scores, rows = scores[:, offset : offset + k], rows[:, offset : offset + k]
    ids, found = snapshot.take_ids(rows), rows.shape[1]
    if found < k:
        scores = _filled(scores, k, np.float32(-np.inf))
        ids = _filled(ids, k, None if ids.dtype == object else -1)
    hits = Hits(ids, np.ascontiguousarray(scores))
    hits.metric = metric
    if columns is not None:
        every = rows if found == k else _filled(rows, k, -1)
        hits.attributes = snapshot.attributes(every.reshape(-1), snapshot.columns(columns))
    return hits


def _filled(array: np.ndarray, k: int, missing: Any) -> np.ndarray:
    """Return rows (nq, found) with ``missing`` in the places up to k."""
    made = np.full((len(array), k), missing, array.dtype)
    made[:, : array.shape[1]] = array
    return made
