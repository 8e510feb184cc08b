"""A search: candidates by encodings, single vectors or centroids, or all documents, and the best of these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from annvq.arrays import offsets_of
from annvq.index.rows.segment import Segment
from annvq.index.rows.snapshot import Snapshot
from annvq.index.search.params import SearchParams
from annvq.index.search.stages import search
from annvq.index.search.view import View
from annvq.index.trained import Trained
from annvq.kernels import threads as pool
from annvq.kernels.scan.topk import best_of_columns
from annvq.kernels.vectors import gemm
from annvq.multivector.fde import FixedDimensionalEncoder
from annvq.multivector.ragged import Ragged
from annvq.multivector.tokens import LABELS, OFFSETS, Prepared, TokenStore

_BLOCK = 1 << 15  # documents' vectors that are decoded at a time
_TOGETHER = 512  # query vectors that these are scored against at a time
_NONE = np.empty(0, np.int64)
_NARROWED = 2  # of candidates one in so many stays when centroids have ordered them
_LEAST = 4  # times k, of them

Score = Callable[[Prepared, dict[str, np.ndarray], np.ndarray], np.ndarray]


def narrowed_to(k: int, candidates: int) -> int:
    """Return how many candidates centroids alone choose for the best k."""
    return max(_LEAST * k, candidates // _NARROWED)


@dataclass
class Finder:
    """Finds candidates among the documents of an index, in one of the ways of `annvq.multivector.recipe.CANDIDATES`."""

    trained: Trained
    encoder: FixedDimensionalEncoder
    by: str
    _lists: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=dict)

    @property
    def tokens(self) -> TokenStore:
        """The store of the documents' own vectors."""
        assert isinstance(self.trained.extension, TokenStore)
        return self.trained.extension

    def find(
        self, view: View, queries: Ragged, prepared: list[Prepared], depth: SearchParams, least: int, threads: int
    ) -> list[np.ndarray]:
        """Return the rows of every query's candidates, best first, int64.

        Parameters
        ----------
        view
            The view of the index; the rows that its segments allow may be returned.
        queries, prepared
            nq sets of float32 vectors, none empty, and each of them as the token store prepares it.
        depth
            ``rerank`` is the number of candidates, ``nprobe`` that of lists of encodings, or of centroids per vector;
            more of these are looked into if they hold fewer candidates.
        least
            The number of candidates that every query gets, at most ``rerank`` and the number that may be returned.
        threads
            At least 1.

        """
        snapshot = view.snapshot
        if self.by == "all":
            rows = np.concatenate([_NONE, *(segment.allowed() + segment.base for segment in snapshot.segments)])
            return [rows] * len(queries)
        if self.by == "encoding":
            vectors = self.encoder.encode_queries(queries, threads=threads)
            wanted = min(depth.rerank, snapshot.searchable_count)
            _, found = search(view, vectors, wanted, replace(depth, rerank=wanted), threads)
            return list(found)
        if self.by == "centroids":
            return pool.run(lambda one: self._by_centroids(snapshot, one, depth), prepared, threads)
        found = self._by_tokens(snapshot, queries, depth.rerank, self.by == "distinct-tokens", threads)
        short = np.flatnonzero([len(rows) < least for rows in found])
        if len(short):  # the hits were of too few documents
            more = self._by_tokens(snapshot, queries[short], least, True, threads)
            for q, rows in zip(short, more, strict=True):
                found[q] = np.concatenate([found[q], rows[~np.isin(rows, found[q])]])[:least]
        return found

    def of_all(self) -> Finder:
        """Return what takes all documents for candidates."""
        return Finder(self.trained, self.encoder, "all")

    # -- searching --------------------------------------------------------------------------------

    def prepare(self, queries: Ragged) -> list[Prepared]:
        """Return queries, sets of float32 vectors, as the token store scores documents against them."""
        return [self.tokens.prepare(one) for one in queries]

    def search(
        self, view: View, queries: Ragged, k: int, depth: SearchParams, threads: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return scores and rows of the best k documents of every query, as `rescored` does."""
        prepared, found = self.found(view, queries, k, depth, threads)
        narrow = self.by != "all" and self.tokens.spec.kind == "pq"
        return self.rescored(view.snapshot, prepared, found, k, threads, narrow=narrow)

    def found(
        self, view: View, queries: Ragged, k: int, depth: SearchParams, threads: int
    ) -> tuple[list[Prepared], list[np.ndarray]]:
        """Return the queries prepared for scoring, and the rows of their candidates, at least ``k``."""
        allowed, prepared = view.snapshot.searchable_count, self.prepare(queries)
        if allowed == 0 or len(queries) == 0:
            return prepared, [np.empty(0, np.int64)] * len(queries)
        least, depth = min(k, allowed), replace(depth, rerank=max(depth.rerank, k))
        return prepared, self.find(view, queries, prepared, depth, least, threads)

    def rescored(
        self,
        snapshot: Snapshot,
        prepared: list[Prepared],
        found: list[np.ndarray],
        k: int,
        threads: int,
        *,
        narrow: bool,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the best k of every query's candidates, ties by id; missing places hold the score -inf and the row -1.

        ``narrow`` says whether centroids alone first choose half of the candidates.
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
            least = narrowed_to(k, len(rows))
            if narrow and len(rows) > least:
                _, rows = ranked(self.tokens.score_roughly, q, rows, least)
            scores, rows = ranked(self.tokens.score, q, rows, k)
            best[q, : len(rows)], best_rows[q, : len(rows)] = scores, rows

        pool.run(run, range(len(found)), threads)
        return best, best_rows

    # -- single vectors -------------------------------------------------------------------------

    def _by_tokens(
        self, snapshot: Snapshot, queries: Ragged, wanted: int, distinct: bool, threads: int
    ) -> list[np.ndarray]:
        """Search all documents' vectors exhaustively for every query vector.

        A query's candidates are its vectors' first hits, their second hits and so on, until there are ``wanted`` hits,
        several of which may be of one document, or as many different documents (``distinct``). Equal hits are in the
        order of their documents' ids.
        """
        groups = np.split(np.arange(len(queries)), np.flatnonzero(np.diff(queries.offsets[1:] // _TOGETHER)) + 1)
        parts = [self._by_some_tokens(snapshot, queries[some], wanted, distinct, threads) for some in groups]
        return [found for part in parts for found in part]

    def _by_some_tokens(
        self, snapshot: Snapshot, queries: Ragged, wanted: int, distinct: bool, threads: int
    ) -> list[np.ndarray]:
        panels = gemm.pack(queries.vectors)
        total = len(queries.vectors)
        best = np.full((0, total), -np.inf, np.float32)
        rows = np.full((0, total), -1, np.int64)
        for segment in snapshot.segments:
            for documents in _blocks(segment):
                tokens = self.tokens.unpack(segment.arrays, documents)
                scores = gemm.products(self.tokens.decode(tokens), panels, total, threads=threads)
                owners = np.repeat(documents, np.diff(tokens.offsets)) + segment.base
                if distinct:
                    scores = np.maximum.reduceat(scores, tokens.offsets[:-1], axis=0)
                    owners = documents + segment.base
                best = np.concatenate([best, scores])
                rows = np.concatenate([rows, np.broadcast_to(owners[:, None], scores.shape)])
                if len(best) > wanted:
                    kept = best_of_columns(best, snapshot.keys[rows], wanted)
                    best, rows = np.take_along_axis(best, kept, 0), np.take_along_axis(rows, kept, 0)
        order = np.lexsort((snapshot.keys[rows], -best), axis=0)
        rows = np.take_along_axis(rows, order, 0)
        found = []
        for begin, end in zip(queries.offsets[:-1], queries.offsets[1:], strict=True):
            hits = rows[:, begin:end].reshape(-1)  # all first hits, then all second hits
            hits = hits if distinct else hits[:wanted]
            _, first = np.unique(hits, return_index=True)
            found.append(hits[np.sort(first)][:wanted])
        return found

    # -- centroids ------------------------------------------------------------------------------

    def _by_centroids(self, snapshot: Snapshot, query: Prepared, depth: SearchParams) -> np.ndarray:
        """Score the documents in the nearest centroids' lists by centroids alone (Santhanam et al. 2022, "PLAID")."""
        probes = min(depth.nprobe, len(query.centroid_scores))
        found = self._in_lists(snapshot, query, probes)
        wanted = min(depth.rerank, snapshot.searchable_count)
        while len(found) < wanted and probes < len(query.centroid_scores):
            probes = min(2 * probes, len(query.centroid_scores))
            found = self._in_lists(snapshot, query, probes)
        return found[: depth.rerank]

    def _in_lists(self, snapshot: Snapshot, query: Prepared, probes: int) -> np.ndarray:
        """Return the rows of all documents in the lists of a query's vectors' ``probes`` best centroids, best first."""
        scores = query.centroid_scores
        near = np.unique(best_of_columns(scores, np.arange(len(scores))[:, None], probes))
        rows, approximate = [_NONE], [np.empty(0, np.float32)]
        for segment in snapshot.segments:
            starts, documents = self._lists_of(segment)
            found = np.unique(np.concatenate([documents[starts[c] : starts[c + 1]] for c in near])).astype(np.int64)
            if len(segment.allow):
                found = found[segment.allow[found] == 1]
            rows.append(found + segment.base)
            approximate.append(self.tokens.score_roughly(query, segment.arrays, found))
        joined, of_all = np.concatenate(rows), np.concatenate(approximate)
        return joined[np.lexsort((snapshot.keys[joined], -of_all))]

    def _lists_of(self, segment: Segment) -> tuple[np.ndarray, np.ndarray]:
        """Return the documents of every centroid: starts (c + 1,) int64 and row numbers of the segment."""
        labels = segment.arrays[LABELS]
        held = self._lists.get(id(labels))
        if held is None:
            owners = np.repeat(np.arange(segment.n, dtype=np.uint32), np.diff(segment.arrays[OFFSETS]))
            assert self.tokens.centroids is not None
            kept = np.minimum(labels, len(self.tokens.centroids) - 1)  # the file may have changed since it was opened
            counts = np.bincount(kept, minlength=len(self.tokens.centroids))
            starts = offsets_of(counts)
            held = (labels, starts, owners[np.argsort(kept, kind="stable")])
            self._lists[id(labels)] = held
        return held[1:]


def _blocks(segment: Segment) -> list[np.ndarray]:
    """Cut a segment's allowed rows into runs of about `_BLOCK` vectors."""
    rows = segment.allowed()
    if len(rows) == 0:
        return []
    ends = np.cumsum(np.diff(segment.arrays[OFFSETS])[rows])
    cuts = np.flatnonzero(np.diff(ends // _BLOCK)) + 1
    return np.split(rows, cuts)
