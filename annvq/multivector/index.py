"""The index of documents of several vectors each: candidates first, Chamfer similarity of these."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from annvq.arguments import as_count, as_number
from annvq.arrays import offsets_of
from annvq.errors import CorruptIndexError, ParameterError, StateError, StorageError
from annvq.hits import Hits
from annvq.index.recipe import Recipe
from annvq.index.rows.snapshot import Snapshot
from annvq.index.search import tune as tuning
from annvq.index.search.params import SearchParams, checked
from annvq.index.search.prepared import PreparedFilter
from annvq.index.search.tune import Measured, TuneReport
from annvq.index.search.view import View
from annvq.index.tokens import Prepared
from annvq.index.trained import Trained
from annvq.index.versions import figures
from annvq.index.versions.commit import Version
from annvq.index.versions.versioned import VersionedRows
from annvq.kernels import threads as pool
from annvq.multivector.build import build
from annvq.multivector.candidates import Finder
from annvq.multivector.fde import FixedDimensionalEncoder
from annvq.multivector.ragged import Ragged
from annvq.multivector.recipe import CANDIDATES, MultiVectorRecipe
from annvq.progress import Progress

_NARROWED = 2  # of candidates one in so many stays when centroids have ordered them
_LEAST = 4  # times k, of them
_MOST_CANDIDATES = 1 << 14  # that tuning looks at


Score = Callable[[Prepared, dict[str, np.ndarray], np.ndarray], np.ndarray]


class MultiVectorIndex:
    """Documents of several vectors under ids, searched by Chamfer similarity.

    Made by `MultiVectorIndex.build` and `MultiVectorIndex.open`. A search finds candidates, by default with one
    vector that stands for a document's (`FixedDimensionalEncoder`) in an ordinary index, and scores these by the
    documents' own vectors, which are kept, coded, in the same segments. Safe for threads as `annvq.Index` is; so is
    what it says of ``rows``.
    """

    def __init__(self, rows: VersionedRows) -> None:
        """Take rows that stand for documents (StateError, CorruptIndexError where they do not)."""
        self.rows = rows
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
            lists of lists, or flat (n, d) with ``offsets``. An iterator yields batches of such, is read once and
            never held as a whole.
        recipe
            Name (`annvq.multivector.recipe.names`), path, or `MultiVectorRecipe`.
        offsets
            (m + 1,) integers for flat ``documents``.
        ids, attributes, progress
            As for `annvq.build`, of m documents.
        seed
            Of what is learned; at least 0. That of the encoder is the recipe's.
        threads
            Default: all CPUs of the process.
        path
            Write segments to this folder as they are made and return the index opened there, mode "rw"; memory stays
            bounded by a segment and the sample.

        Raises
        ------
        ShapeError, DtypeError, NonFiniteError, DuplicateIdError, RecipeError, ParameterError
            Input that cannot be indexed; nothing is left behind then.

        """
        return cls(
            build(
                documents, recipe, offsets=offsets, ids=ids, attributes=attributes, seed=seed, threads=threads,
                progress=progress, path=path,
            )
        )  # fmt: skip

    @classmethod
    def open(cls, path: str | os.PathLike[str], mode: str = "r", *, verify: bool = False) -> MultiVectorIndex:
        """Open a saved index of documents, memory-mapped; parameters and errors as for `annvq.open`."""
        return _of(VersionedRows.open(path, mode, verify=verify))

    # -- what it is ---------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of documents that are not removed."""
        return self.rows.current.snapshot.live_count

    @property
    def dim(self) -> int:
        """Dimension d of documents' vectors."""
        return self._current()[1].tokens.dim

    @property
    def encoder(self) -> FixedDimensionalEncoder:
        """What makes one vector of a document's or a query's vectors."""
        return self._current()[1].encoder

    @property
    def recipe(self) -> Recipe:
        """The recipe of the index of encodings, under the name of the whole."""
        return self.rows.current.trained.recipe

    @property
    def version(self) -> int:
        """Version, one more after every change."""
        return self.rows.current.number

    @property
    def candidates(self) -> int:
        """Documents that a search scores by default."""
        return self.rows.current.depth.rerank

    @property
    def nprobe(self) -> int:
        """Lists that a search for candidates looks into by default."""
        return self.rows.current.depth.nprobe

    def __repr__(self) -> str:
        if self.rows.closed:
            return "MultiVectorIndex(closed)"
        return f"MultiVectorIndex(n={len(self)}, dim={self.dim}, recipe={self.recipe.name!r})"

    def stats(self) -> dict[str, Any]:
        """Return figures about the index; ``bytes_per_document`` by part, ids and what is shared included."""
        now, finder = self._current()
        stats = figures.of(now, self.rows.path)
        rows = max(1, stats["n"] + stats["deleted"])
        held = sum(int(segment.arrays["tokens.offsets"][-1]) for segment in now.snapshot.segments)
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
        threads: int | None = None,
    ) -> Hits:
        """Return the k documents of largest Chamfer similarity to every query, as far as the index keeps vectors.

        Parameters
        ----------
        queries
            nq sets of vectors, none empty, as `Ragged.of` takes them, or one as an array (t, d).
        k
            At least 1; where fewer documents exist, places are filled with id -1 (None) and score -inf.
        params
            How far this search goes, as for `annvq.Index.search`; candidates are its ``rerank``.
        candidates
            Documents that are scored by their vectors, at least k. Default: those of ``params``, else the recipe's or
            what `tune` found, and at least 2 k. Where vectors are product codes, centroids alone choose half of them
            first, at least 4 k.
        nprobe
            Lists of encodings to look for candidates in; for candidates by centroids, centroids a query vector. More
            are looked into while these have fewer candidates.
        filter
            Only these documents: as for `annvq.Index.search`, also from `prepare_filter`.
        threads
            Default: all CPUs of the process; the result does not depend on it.

        """
        k = as_count("k", k, most=max(1 << 24, len(self)))
        finder, view, sets, depth = self._asked(queries, k, candidates, nprobe, filter, params)
        scores, rows = _search(finder, view, sets, k, depth, pool.resolve(threads))
        return Hits(view.snapshot.take_ids(rows), scores)

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
        """Return the ids of the documents that `search` would score, an array for every query.

        Best first, where they are not simply all documents.
        """
        k = as_count("k", k, most=max(1 << 24, len(self)))
        finder, view, sets, depth = self._asked(queries, k, candidates, nprobe, filter)
        _, found = _found(finder, view, sets, k, depth, pool.resolve(threads))
        return [view.snapshot.take_ids(rows) for rows in found]

    def prepare_filter(self, filter: Any) -> PreparedFilter:
        """Return a filter made ready once, for many searches; everything as for `annvq.Index.prepare_filter`."""
        view = self.rows.current.view
        return filter if isinstance(filter, PreparedFilter) else PreparedFilter(filter, view)

    def tune(self, queries: Any, k: int = 10, recall: float = 0.95, *, threads: int | None = None) -> TuneReport:
        """Set nprobe and candidates to the fastest that reach ``recall`` of exact Chamfer similarity's top k.

        Exact is: every document scored by the vectors that the index keeps. The setting is stored as
        `annvq.Index.tune` does; in the report ``rerank`` are candidates.
        """
        now, finder = self._current()
        k, recall = as_count("k", k), as_number("recall", recall, above=0, most=1)
        sets = _queries(finder, queries)
        if len(sets) == 0 or len(self) <= k:
            raise ParameterError(f"tuning needs queries and more than k documents, got {len(sets)} and {len(self)}")
        view, workers = now.view, pool.resolve(threads)
        every = Finder(now.trained, finder.encoder, "all")
        prepared = [finder.tokens.prepare(one) for one in sets]
        whole = every.find(view, sets, prepared, SearchParams(1, 1), k, workers)
        _, truth = _rescored(finder, view.snapshot, prepared, whole, k, workers, narrow=False)
        most = min(_MOST_CANDIDATES, len(self))
        measured, probes = [], [1]
        if finder.by in ("encoding", "centroids"):
            all_probes = now.trained.nlist if finder.by == "encoding" else len(prepared[0].centroid_scores)
            probes = sorted({min(1 << step, all_probes) for step in range(all_probes.bit_length() + 1)})
        for nprobe in probes:
            found = finder.find(view, sets, prepared, SearchParams(nprobe, most), k, workers)
            wanted = most if finder.by == "all" else _least_candidates(found, truth, recall, k, most)
            measured.append(_measured(finder, view, SearchParams(nprobe, wanted), sets, truth, k, workers))
            while measured[-1].recall < recall and wanted < most:  # what narrowing lost takes more of them
                wanted = min(most, int(1.5 * wanted) + 1)
                measured.append(_measured(finder, view, SearchParams(nprobe, wanted), sets, truth, k, workers))
        good = [one for one in measured if one.recall >= recall] or [max(measured, key=lambda one: one.recall)]
        chosen = max(good, key=lambda one: one.qps)
        self.rows.set_depth(SearchParams(chosen.nprobe, chosen.rerank))
        return TuneReport(chosen, chosen.recall >= recall, recall, k, len(sets), "tokens", tuple(measured))

    def reconstruct(self, ids: Any) -> Ragged:
        """Return the vectors of documents ``ids`` as the index keeps them, float32 (UnknownIdError)."""
        now, finder = self._current()
        snapshot, dim = now.snapshot, finder.tokens.dim
        rows = snapshot.rows_of(ids)
        parts: list[np.ndarray] = [np.empty((0, dim), np.float32)] * len(rows)
        for segment in snapshot.segments:
            inside = np.flatnonzero((rows >= segment.base) & (rows < segment.base + segment.n))
            tokens = finder.tokens.unpack(segment.arrays, rows[inside] - segment.base)
            decoded = finder.tokens.decode(tokens)
            for place, begin, end in zip(inside, tokens.offsets[:-1], tokens.offsets[1:], strict=True):
                parts[place] = decoded[begin:end]
        vectors = np.concatenate([np.empty((0, dim), np.float32), *parts])
        return Ragged(vectors, offsets_of(np.array([len(part) for part in parts], np.int64)))

    # -- changing -----------------------------------------------------------------------------

    def add(self, documents: Any, ids: Any = None, attributes: Any = None, *, threads: int | None = None) -> None:
        """Add documents, sets of vectors of which none is empty; everything else as for `annvq.Index.add`."""
        workers = pool.resolve(threads)
        with self.rows.changing():
            sets = Ragged.of(documents, dim=self.dim).without_empty("documents").floats()
            _, finder = self._current()
            vectors = finder.encoder.encode_documents(sets, threads=workers)
            tokens = finder.tokens.encode(sets.vectors, sets.offsets, workers)
            self.rows.insert(vectors, tokens, ids, attributes, threads)
            self._forget()

    def remove(self, ids: Any) -> None:
        """Remove documents; UnknownIdError, and nothing removed, where one is not in the index."""
        self.rows.remove(ids)
        self._forget()

    def compact(self) -> None:
        """Merge all segments into one and drop removed documents; ids and results stay as they are."""
        self.rows.compact()
        self._forget()

    def _forget(self) -> None:
        """Begin anew with what finding candidates keeps of segments."""
        _, finder = self._current()
        self._finder = Finder(finder.trained, finder.encoder, finder.by)

    # -- keeping ------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index to a folder, all or nothing; an index already there is replaced."""
        self.rows.save(path)

    def verify(self) -> None:
        """Read every byte of the index's files; CorruptIndexError names the section that is wrong."""
        self.rows.verify()

    def is_current(self) -> bool:
        """Return whether the folder still holds the version that is shown; see `annvq.Index.is_current`."""
        return self.rows.is_current()

    def refresh(self) -> bool:
        """Take the current version of the folder; return whether it is another than was shown.

        As `annvq.Index.refresh`. StateError where an index of single vectors was saved there: what was shown stays.
        """
        return self.rows.refresh(_finder_of)

    def close(self) -> None:
        """Let go of files, memory and lock; see `annvq.Index.close`."""
        try:
            self.rows.close()
        finally:
            self._finder = None

    def __enter__(self) -> MultiVectorIndex:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        with suppress(*[] if kind is None else [StorageError]):  # what went wrong first is what is told
            self.close()

    def __reduce__(self) -> tuple:
        """Ship an opened index as path, version and depth of search; see `annvq.Index.__reduce__`."""
        return _reopen, self.rows.sent()

    # -- inside -------------------------------------------------------------------------------

    def _current(self) -> tuple[Version, Finder]:
        """Return a version and what finds candidates in it: a search uses these two from beginning to end."""
        now, finder = self.rows.current, self._finder
        if finder is None or finder.trained is not now.trained:  # another one was taken from the folder
            finder = self._finder = _finder_of(now.trained)
        return now, finder

    def _asked(
        self,
        queries: Any,
        k: int,
        candidates: int | None,
        nprobe: int | None,
        filter: Any,
        params: SearchParams | None = None,
    ) -> tuple[Finder, View, Ragged, SearchParams]:
        """Return finder, documents that may be returned, queries and depth of a search, checked."""
        now, finder = self._current()
        view = now.narrowed(filter)
        default = now.depth if params is None else checked(params)
        if candidates is None:
            candidates = max(default.rerank, 2 * k)
        wanted = as_count("candidates", candidates)
        depth = now.depth_for(None if finder.by == "centroids" else nprobe, wanted, default)
        if finder.by == "centroids":  # there are more of these than lists of encodings
            depth = replace(depth, nprobe=default.nprobe if nprobe is None else as_count("nprobe", nprobe))
        return finder, view, _queries(finder, queries), depth


def _of(rows: VersionedRows) -> MultiVectorIndex:
    """Return opened rows as documents; they are closed where they are none."""
    try:
        return MultiVectorIndex(rows)
    except BaseException:
        rows.close()
        raise


def _reopen(*sent: Any) -> MultiVectorIndex:
    """Open what was pickled; parameters and errors are those of `VersionedRows.reopen`."""
    return _of(VersionedRows.reopen(*sent))


def _finder_of(trained: Trained) -> Finder:
    """Return what finds candidates; StateError, CorruptIndexError where an index's rows are no documents."""
    tokens = trained.tokens
    if tokens is None:
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


def _found(
    finder: Finder, view: View, sets: Ragged, k: int, depth: SearchParams, threads: int
) -> tuple[list[Prepared], list[np.ndarray]]:
    """Return the queries prepared for scoring, and the rows of their candidates, at least ``k``."""
    allowed = view.snapshot.searchable_count
    prepared = [finder.tokens.prepare(one) for one in sets]
    if allowed == 0 or len(sets) == 0:
        return prepared, [np.empty(0, np.int64)] * len(sets)
    least, depth = min(k, allowed), replace(depth, rerank=max(depth.rerank, k))
    return prepared, finder.find(view, sets, prepared, depth, least, threads)


def _search(
    finder: Finder, view: View, sets: Ragged, k: int, depth: SearchParams, threads: int
) -> tuple[np.ndarray, np.ndarray]:
    prepared, found = _found(finder, view, sets, k, depth, threads)
    narrow = finder.by != "all" and finder.tokens.spec.kind == "pq"
    return _rescored(finder, view.snapshot, prepared, found, k, threads, narrow=narrow)


def _rescored(
    finder: Finder,
    snapshot: Snapshot,
    prepared: list[Prepared],
    found: list[np.ndarray],
    k: int,
    threads: int,
    *,
    narrow: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best k of every query's candidates, ties by id; missing places -inf and row -1.

    ``narrow``: whether centroids alone choose half of the candidates first.
    """
    best = np.full((len(found), k), -np.inf, np.float32)
    best_rows = np.full((len(found), k), -1, np.int64)

    def ranked(score: Score, q: int, rows: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
        scores = np.empty(len(rows), np.float32)
        for segment in snapshot.segments:
            inside = np.flatnonzero((rows >= segment.base) & (rows < segment.base + segment.n))
            if len(inside):
                scores[inside] = score(prepared[q], segment.arrays, rows[inside] - segment.base)
        order = np.lexsort((snapshot.keys[rows], -scores))[:most]
        return scores[order], rows[order]

    def run(q: int) -> None:
        rows = found[q]
        least = max(_LEAST * k, len(rows) // _NARROWED)
        if narrow and len(rows) > least:
            _, rows = ranked(finder.tokens.score_roughly, q, rows, least)
        scores, rows = ranked(finder.tokens.score, q, rows, k)
        best[q, : len(rows)], best_rows[q, : len(rows)] = scores, rows

    pool.run(run, range(len(found)), threads)
    return best, best_rows


def _measured(
    finder: Finder, view: View, depth: SearchParams, sets: Ragged, truth: np.ndarray, k: int, threads: int
) -> Measured:
    _, rows = _search(finder, view, sets, k, depth, threads)
    some = [Ragged(one, np.array([0, len(one)])) for one in sets][:64]
    seconds = tuning.best_of(lambda: [_search(finder, view, s, k, depth, 1) for s in some])
    return Measured(depth.nprobe, depth.rerank, tuning.recall_of(rows, truth), len(some) / seconds)


def _least_candidates(found: list[np.ndarray], truth: np.ndarray, recall: float, k: int, most: int) -> int:
    """Return how many of the candidates must be scored for ``recall`` of the true rows (nq, k); ``most`` where none."""
    places = np.full(truth.shape, most)
    for q, rows in enumerate(found):
        order = np.argsort(rows)
        at = np.minimum(np.searchsorted(rows, truth[q], sorter=order), len(rows) - 1)
        hit = rows[order[at]] == truth[q] if len(rows) else np.zeros(k, bool)
        places[q, hit] = order[at][hit]
    wanted = np.sort(places.reshape(-1))[max(0, int(np.ceil(recall * truth.size)) - 1)]
    return int(min(most, max(k, wanted + 1)))
