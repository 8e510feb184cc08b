"""The index of documents of several vectors each: candidates first, Chamfer similarity of these."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.arguments import as_count, as_number
from annvq.arrays import offsets_of
from annvq.errors import CorruptIndexError, ParameterError, StateError
from annvq.hits import Hits
from annvq.index.base import BaseIndex
from annvq.index.index import refuse_for_cpu, shown
from annvq.index.rows.segment import Segment
from annvq.index.rows.snapshot import Snapshot
from annvq.index.search import tune as tuning
from annvq.index.search.params import SearchParams, checked
from annvq.index.search.tune import Measured, TuneReport
from annvq.index.search.view import View
from annvq.index.trained import Trained
from annvq.index.versions import figures
from annvq.index.versions.commit import Version
from annvq.index.versions.export import VectorColumn
from annvq.index.versions.versioned import VersionedRows
from annvq.kernels import threads as pool
from annvq.multivector.build import build
from annvq.multivector.candidates import Finder
from annvq.multivector.fde import FixedDimensionalEncoder
from annvq.multivector.ragged import Ragged
from annvq.multivector.recipe import CANDIDATES, MultiVectorRecipe
from annvq.multivector.tokens import OFFSETS, TokenStore
from annvq.progress import Progress

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_CANDIDATES = 1 << 14  # that tuning looks at


class MultiVectorIndex(BaseIndex):
    """Documents of several vectors under ids, searched by Chamfer similarity.

    `MultiVectorIndex.build` and `MultiVectorIndex.open` return such indexes. A search first finds candidates, by
    default in an ordinary index of one vector per document (`FixedDimensionalEncoder`), and then scores them by the
    documents' own vectors, which are kept, coded, in the same segments.

    Examples
    --------
    >>> documents = np.random.default_rng(0).normal(size=(100, 4, 16))  # or a list of arrays (t, 16)
    >>> index = annvq.multivector.MultiVectorIndex.build(documents, "chamfer-exact")
    >>> index.search(documents[7, :2], k=1).ids
    array([[7]])

    """

    def __init__(self, rows: VersionedRows) -> None:
        """Take rows that stand for documents; if they do not, StateError or CorruptIndexError is raised."""
        super().__init__(rows)
        self._finder: Finder | None = _finder_of(rows.current.trained)

    @classmethod
    def build(
        cls,
        documents: Any,
        recipe: MultiVectorRecipe | str | os.PathLike[str] = "muvera",
        *,
        offsets: Any = None,
        ids: Any = None,
        attributes: Any = None,
        seed: int = 0,
        threads: int | None = None,
        progress: bool | Callable[[int, int | None], object] | Progress = False,
        path: str | os.PathLike[str] | None = None,
    ) -> MultiVectorIndex:
        """Build an index from documents of several vectors each.

        Parameters
        ----------
        documents
            Sets of vectors, none empty, as `Ragged.of` takes them: a list of arrays (t, d), an array (m, t, d), Arrow
            lists of lists, or flat (n, d) with ``offsets``. An iterator yields batches of these; it is read once and
            never held in memory as a whole.
        recipe
            A name (`annvq.multivector.recipe.names`), the path of a TOML file, or a `MultiVectorRecipe`.
        offsets
            (m + 1,) integers for flat ``documents``.
        ids, attributes, progress
            The same as for `annvq.build`, for m documents.
        seed
            The seed of everything that is learned, at least 0. The encoder has its own, which the recipe gives.
        threads
            Default: all CPUs of the process.
        path
            A folder to which segments are written as they are made. The index that is returned is opened there in mode
            "rw", and the build needs memory for a segment and the sample only.

        Raises
        ------
        ShapeError, DtypeError, NonFiniteError, DuplicateIdError, RecipeError, ParameterError
            The input cannot be indexed; nothing is left behind.

        Examples
        --------
        >>> documents = [np.eye(4)[:2], np.eye(4)[1:]]
        >>> index = annvq.multivector.MultiVectorIndex.build(documents, "chamfer-exact", ids=["a", "b"])
        >>> index.search([np.eye(4)[2:]], k=2).to_lists()
        [[('b', 2.0), ('a', 0.0)]]

        """
        return cls(
            build(
                documents, recipe, offsets=offsets, ids=ids, attributes=attributes, seed=seed, threads=threads,
                progress=progress, path=path,
            )
        )  # fmt: skip

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        mode: str = "r",
        *,
        verify: bool = False,
        device: Any = "cpu",
        device_bytes: int | None = None,
    ) -> MultiVectorIndex:
        """Open a saved index of documents, memory-mapped.

        Parameters
        ----------
        path, mode, verify
            The same as for `annvq.open`.
        device, device_bytes
            Where searches run, as for `to`.

        Raises
        ------
        StateError
            The folder holds an index of single vectors: `annvq.open` takes it.
        StorageError, CorruptIndexError, VersionError, LockedError, ParameterError
            The same as for `annvq.open`.
        MissingExtraError, DeviceError, DeviceMemoryError
            The index cannot be moved to the device, as for `to`.

        """
        index = _of(VersionedRows.open(path, mode, verify=verify))
        try:
            return index.to(device, device_bytes=device_bytes)
        except BaseException:
            index.close()
            raise

    @classmethod
    def from_bytes(cls, content: bytes) -> MultiVectorIndex:
        """Return the index in memory that `to_bytes` wrote; errors are those of `annvq.from_bytes`."""
        return _of(VersionedRows.from_bytes(content))

    # -- what it is ---------------------------------------------------------------------------

    @property
    def dim(self) -> int:
        """Dimension d of the documents' vectors."""
        return self._current()[1].tokens.dim

    @property
    def encoder(self) -> FixedDimensionalEncoder:
        """The encoder that turns the vectors of a document or a query into one."""
        return self._current()[1].encoder

    @property
    def candidates(self) -> int:
        """The number of documents that a search scores by default."""
        return self.rows.current.depth.rerank

    def __repr__(self) -> str:
        if self.rows.closed:
            return "MultiVectorIndex(closed)"
        return f"MultiVectorIndex(n={len(self)}, dim={self.dim}, recipe={self.recipe.name!r})"

    def stats(self) -> dict[str, Any]:
        """Return figures about the index; ``bytes_per_document``, by part, includes ids and what documents share."""
        now, finder = self._current()
        stats = figures.of(now, self.rows.path)
        rows = max(1, stats["n"] + stats["deleted"])
        held = sum(int(segment.arrays[OFFSETS][-1]) for segment in now.snapshot.segments)
        del stats["bytes_per_vector"], stats["compression"], stats["rerank"]
        stats |= {
            "dim": finder.tokens.dim,
            "encoding_dim": finder.encoder.output_dim,
            "tokens": held,
            "candidates_by": finder.by,
            "candidates": self.candidates,
            "bytes_per_document": {part: size / rows for part, size in stats["bytes"].items()},
        }
        return stats

    # -- searching ----------------------------------------------------------------------------

    def search(
        self,
        queries: Any,
        k: int = 10,
        *,
        params: SearchParams | None = None,
        candidates: int | None = None,
        nprobe: int | None = None,
        filter: Any = None,
        columns: Any = None,
        offset: int = 0,
        threads: int | None = None,
    ) -> Hits:
        """Return the k documents most similar to every query, by Chamfer similarity of the vectors as they are kept.

        Parameters
        ----------
        queries
            nq sets of vectors, none empty, as `Ragged.of` takes them, or one as an array (t, d).
        k
            At least 1; if fewer documents exist, the remaining places hold the id -1 (None) and the score -inf.
        params
            How far this search goes, as for `annvq.Index.search`; its ``rerank`` is the number of candidates.
        candidates
            The number of documents that are scored by their vectors, at least k. Default: that of ``params`` or,
            without them, the recipe's or what `tune` found, and at least 2 k. If vectors are kept as product codes,
            centroids alone first choose half of the candidates, at least 4 k.
        nprobe
            The number of lists of encodings that are scanned for candidates; if candidates are found by centroids, the
            number of centroids per query vector. The search goes on to more of them if these hold too few candidates.
        filter
            Which documents may be returned, as for `annvq.Index.search`; `prepare_filter` prepares one.
        columns, offset
            Attributes that come with the hits, and how many of the best hits to pass over, as for
            `annvq.Index.search`.
        threads
            Default: all CPUs of the process; the result does not depend on it.

        Raises
        ------
        ShapeError, DtypeError, NonFiniteError
            The queries are not sets of finite vectors of the index's dimension.
        FilterError, ParameterError
            The filter, or another argument, is not one that is accepted.

        """
        most = max(1 << 24, len(self))
        k, offset = as_count("k", k, most=most), as_count("offset", offset, least=0, most=most)
        wanted = min(offset + k, max(1, len(self)))
        finder, view, sets, depth = self._asked(queries, wanted, candidates, nprobe, filter, params)
        scores, rows = finder.search(view, sets, wanted, depth, pool.resolve(threads))
        return shown(view.snapshot, scores, rows, k, offset, "ip", columns)

    def to(self, device: Any, *, device_bytes: int | None = None) -> MultiVectorIndex:
        """Return the index on another device: on a GPU, searches return the same hits and scores, to the bit.

        Encodings and documents' vectors are copied to the GPU's memory, or the latter to page-locked memory of the
        host, from where the GPU reads those that it needs, if they do not fit. The rows of this index are shared:
        what is added or removed through either is seen by both, and only new segments are copied.

        Parameters
        ----------
        device
            "cuda", "cuda:1" for the second GPU, a torch.device, or "cpu".
        device_bytes
            The most bytes of the GPU's memory that documents may take; by default all that is free.

        Raises
        ------
        MissingExtraError
            torch or Triton is not installed: ``pip install 'annvq[gpu]'``.
        DeviceError
            There is no such GPU, it or its driver is too old, or the index finds candidates, or scores documents, in a
            way that is for the CPU only.
        DeviceMemoryError
            Even the codes of the encodings do not fit.
        ParameterError
            An argument is not one that is accepted.

        """
        if str(device) == "cpu":
            refuse_for_cpu(device_bytes)
            return self if type(self) is MultiVectorIndex else MultiVectorIndex(self.rows)
        return importlib.import_module("annvq.multivector.device").GpuMultiVectorIndex(self.rows, device, device_bytes)

    def find_candidates(
        self,
        queries: Any,
        candidates: int | None = None,
        *,
        k: int = 10,
        nprobe: int | None = None,
        filter: Any = None,
        threads: int | None = None,
    ) -> list[np.ndarray]:
        """Return the ids of the documents that `search` would score.

        Parameters
        ----------
        queries, candidates, k, nprobe, filter, threads
            The same as for `search`.

        Returns
        -------
        list of np.ndarray
            One array of ids per query, ordered from the best to the worst unless they are simply all documents.

        Raises
        ------
        ShapeError, DtypeError, NonFiniteError, FilterError, ParameterError
            The same as for `search`.

        """
        k = as_count("k", k, most=max(1 << 24, len(self)))
        finder, view, sets, depth = self._asked(queries, k, candidates, nprobe, filter)
        _, found = finder.found(view, sets, k, depth, pool.resolve(threads))
        return [view.snapshot.take_ids(rows) for rows in found]

    def tune(self, queries: Any, k: int = 10, recall: float = 0.95, *, threads: int | None = None) -> TuneReport:
        """Find the fastest nprobe and candidates that reach a recall on some queries, and make them the default.

        The setting is stored as by `annvq.Index.tune`.

        Parameters
        ----------
        queries
            nq sets of vectors, nq >= 1, as for `search`.
        k
            The number of documents that count, at least 1.
        recall
            The share of them to be found, above 0 and at most 1. It is measured against a search that scores every
            document by the vectors that the index keeps.
        threads
            Default: all CPUs of the process.

        Returns
        -------
        TuneReport
            The same as for `annvq.Index.tune`; ``rerank`` is the number of candidates.

        Raises
        ------
        ParameterError
            There are no queries, or no more than k documents, or a number is not one that is accepted.
        ShapeError, DtypeError, NonFiniteError
            The queries do not fit the index.

        """
        now, finder = self._searching()
        k, recall = as_count("k", k), as_number("recall", recall, above=0, most=1)
        sets = _queries(finder, queries)
        if len(sets) == 0 or len(self) <= k:
            raise ParameterError(f"tuning needs queries and more than k documents, got {len(sets)} and {len(self)}")
        view, workers = now.view, pool.resolve(threads)
        every, prepared = finder.of_all(), finder.prepare(sets)
        whole = every.find(view, sets, prepared, SearchParams(1, 1), k, workers)
        _, truth = finder.rescored(view.snapshot, prepared, whole, k, workers, narrow=False)
        most = min(_MOST_CANDIDATES, len(self))
        measured, probes = [], [1]
        if finder.by in ("encoding", "centroids"):
            all_probes = now.trained.nlist if finder.by == "encoding" else len(prepared[0].centroid_scores)
            probes = sorted({min(1 << step, all_probes) for step in range(all_probes.bit_length() + 1)})
        for nprobe in probes:
            found = finder.find(view, sets, prepared, SearchParams(nprobe, most), k, workers)
            wanted = most if finder.by == "all" else _least_candidates(found, truth, recall, k, most)
            measured.append(_measured(finder, view, SearchParams(nprobe, wanted), sets, truth, k, workers))
            while measured[-1].recall < recall and wanted < most:  # more candidates make up for what narrowing lost
                wanted = min(most, int(1.5 * wanted) + 1)
                measured.append(_measured(finder, view, SearchParams(nprobe, wanted), sets, truth, k, workers))
        good = [one for one in measured if one.recall >= recall] or [max(measured, key=lambda one: one.recall)]
        chosen = max(good, key=lambda one: one.qps)
        self.rows.set_depth(SearchParams(chosen.nprobe, chosen.rerank))
        return TuneReport(chosen, chosen.recall >= recall, recall, k, len(sets), "tokens", tuple(measured))

    def reconstruct(self, ids: Any) -> Ragged:
        """Return the vectors of documents as the index keeps them, in float32; an unknown id raises UnknownIdError."""
        now, _ = self._current()
        return self._decoded(now.snapshot, now.snapshot.rows_of(ids))

    def _decoded(self, snapshot: Snapshot, rows: np.ndarray) -> Ragged:
        _, finder = self._current()
        dim = finder.tokens.dim
        parts: list[np.ndarray] = [np.empty((0, dim), np.float32)] * len(rows)
        for segment in snapshot.segments:
            inside = np.flatnonzero((rows >= segment.base) & (rows < segment.base + segment.n))
            tokens = finder.tokens.unpack(segment.arrays, rows[inside] - segment.base)
            decoded = finder.tokens.decode(tokens)
            for place, begin, end in zip(inside, tokens.offsets[:-1], tokens.offsets[1:], strict=True):
                parts[place] = decoded[begin:end]
        vectors = np.concatenate([np.empty((0, dim), np.float32), *parts])
        return Ragged(vectors, offsets_of(np.array([len(part) for part in parts], np.int64)))

    def _vector_column(self, now: Version) -> VectorColumn:
        return _vector_column(self._current()[1].tokens, now.snapshot)

    # -- changing -----------------------------------------------------------------------------

    def add(self, documents: Any, ids: Any = None, attributes: Any = None, *, threads: int | None = None) -> None:
        """Add documents; on an index that was opened "rw", they are on disk when the call returns.

        Parameters
        ----------
        documents
            m sets of vectors, none empty, as `Ragged.of` takes them.
        ids, attributes, threads
            The same as for `annvq.Index.add`, for m documents.

        Raises
        ------
        ShapeError, DtypeError, NonFiniteError, DuplicateIdError, StateError
            The same as for `annvq.Index.add`; nothing is added.

        """
        self._insert(documents, ids, attributes, threads, replacing=False)

    def upsert(self, documents: Any, ids: Any, attributes: Any = None, *, threads: int | None = None) -> None:
        """Add documents in the place of those that the index holds under the same ids, as one version.

        Parameters
        ----------
        documents
            m sets of vectors, none empty, as `Ragged.of` takes them.
        ids, attributes, threads
            The same as for `annvq.Index.upsert`, for m documents.

        Raises
        ------
        ShapeError, DtypeError, NonFiniteError, DuplicateIdError, ParameterError, StateError
            The same as for `annvq.Index.upsert`; nothing is changed.

        """
        self._insert(documents, ids, attributes, threads, replacing=True)

    def _insert(self, documents: Any, ids: Any, attributes: Any, threads: int | None, *, replacing: bool) -> None:
        workers = pool.resolve(threads)
        with self.rows.changing():
            sets = Ragged.of(documents, dim=self.dim).without_empty("documents").floats()
            _, finder = self._current()
            vectors = finder.encoder.encode_documents(sets, threads=workers)
            tokens = finder.tokens.encode(sets.vectors, sets.offsets, workers)
            self.rows.insert(vectors, tokens, ids, attributes, threads, replacing=replacing)
            self._forget()

    def _forget(self) -> None:
        """Forget what the search for candidates remembers of segments."""
        _, finder = self._current()
        self._finder = Finder(finder.trained, finder.encoder, finder.by)

    def refresh(self) -> bool:
        """Show the folder's current version, as `annvq.Index.refresh` does; StateError if it is of single vectors."""
        return self.rows.refresh(_finder_of)

    def close(self) -> None:
        """Release files, memory and lock; see `annvq.Index.close`."""
        try:
            super().close()
        finally:
            self._finder = None

    # -- inside -------------------------------------------------------------------------------

    def _current(self) -> tuple[Version, Finder]:
        """Return a version and the finder of its candidates; a search uses these two from beginning to end."""
        now, finder = self.rows.current, self._finder
        if finder is None or finder.trained is not now.trained:  # another one was taken from the folder
            finder = self._finder = _finder_of(now.trained)
        return now, finder

    def _searching(self) -> tuple[Version, Finder]:
        """Return what `_current` does, ready to be searched; all that is no search needs only `_current`."""
        return self._current()

    def _asked(
        self,
        queries: Any,
        k: int,
        candidates: int | None,
        nprobe: int | None,
        filter: Any,
        params: SearchParams | None = None,
    ) -> tuple[Finder, View, Ragged, SearchParams]:
        """Return the finder, the documents that may be returned, and the checked queries and depth of a search."""
        now, finder = self._searching()
        view = now.narrowed(filter)
        default = now.depth if params is None else checked(params)
        if candidates is None:
            candidates = max(default.rerank, 2 * k)
        wanted = as_count("candidates", candidates)
        depth = now.depth_for(None if finder.by == "centroids" else nprobe, wanted, default)
        if finder.by == "centroids":  # there are more of these than lists of encodings
            depth = replace(depth, nprobe=default.nprobe if nprobe is None else as_count("nprobe", nprobe))
        return finder, view, _queries(finder, queries), depth


def _vector_column(tokens: TokenStore, snapshot: Snapshot) -> VectorColumn:
    """Return the column "vectors" of exported documents: lists of vectors."""
    import pyarrow as pa

    def decode(segment: Segment, rows: np.ndarray) -> pa.Array:
        unpacked = tokens.unpack(segment.arrays, rows)
        flat = np.ascontiguousarray(tokens.decode(unpacked), dtype=np.float32).reshape(-1)
        vectors = pa.FixedSizeListArray.from_arrays(flat, tokens.dim)
        return pa.ListArray.from_arrays(unpacked.offsets.astype(np.int32), vectors)

    held = sum(int(segment.arrays[OFFSETS][-1]) for segment in snapshot.segments)
    row_bytes = 4 * tokens.dim * (1 + held // max(1, sum(segment.n for segment in snapshot.segments)))
    field = pa.field("vectors", pa.list_(pa.list_(pa.float32(), tokens.dim)))
    return VectorColumn(field, decode, row_bytes)


def _of(rows: VersionedRows) -> MultiVectorIndex:
    """Return opened rows as an index of documents; if they are of no documents, they are closed."""
    try:
        return MultiVectorIndex(rows)
    except BaseException:
        rows.close()
        raise


def _finder_of(trained: Trained) -> Finder:
    """Return the finder of candidates; StateError or CorruptIndexError if an index's rows are not documents."""
    tokens = trained.extension
    if not isinstance(tokens, TokenStore):
        raise StateError("rows of this index are single vectors: open it with annvq.open")
    try:
        encoder = FixedDimensionalEncoder(dim=tokens.dim, **tokens.settings["encoder"])
        by = tokens.settings["candidates_by"]
    except (KeyError, TypeError, ParameterError) as error:
        raise CorruptIndexError(f"the index's encoder cannot be read: {error!r}") from error
    if encoder.output_dim != trained.dim or by not in CANDIDATES:
        raise CorruptIndexError(f"encodings of {encoder.output_dim} numbers, candidates by {by!r} do not fit")
    return Finder(trained, encoder, by)


def _queries(finder: Finder, queries: Any) -> Ragged:
    if getattr(queries, "ndim", None) == 2:
        queries = queries[None]
    return Ragged.of(queries, dim=finder.tokens.dim, name="queries").without_empty("queries").floats()


def _measured(
    finder: Finder, view: View, depth: SearchParams, sets: Ragged, truth: np.ndarray, k: int, threads: int
) -> Measured:
    _, rows = finder.search(view, sets, k, depth, threads)
    some = [Ragged(one, np.array([0, len(one)])) for one in sets][:64]
    seconds = tuning.best_of(lambda: [finder.search(view, s, k, depth, 1) for s in some])
    return Measured(depth.nprobe, depth.rerank, tuning.recall_of(rows, truth), len(some) / seconds)


def _least_candidates(found: list[np.ndarray], truth: np.ndarray, recall: float, k: int, most: int) -> int:
    """Return how many candidates must be scored for ``recall`` of the true rows (nq, k); ``most`` if none suffice."""
    places = np.full(truth.shape, most)
    for q, rows in enumerate(found):
        order = np.argsort(rows)
        at = np.minimum(np.searchsorted(rows, truth[q], sorter=order), len(rows) - 1)
        hit = rows[order[at]] == truth[q] if len(rows) else np.zeros(k, bool)
        places[q, hit] = order[at][hit]
    wanted = np.sort(places.reshape(-1))[max(0, int(np.ceil(recall * truth.size)) - 1)]
    return int(min(most, max(k, wanted + 1)))
