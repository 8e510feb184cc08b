"""Documents that a step looks at for its queries: found by the live index, by the teacher, or drawn at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import annvq
from annvq.arguments import as_count
from annvq.errors import ParameterError


@dataclass(frozen=True)
class Proposals:
    """How many documents are proposed per query.

    Parameters
    ----------
    live
        Number from the live index's best: candidates that rank high now.
    teacher
        Number from the original embeddings' best.
    random
        Number drawn from all documents.
    shown
        Number of the live index's and of the teacher's that are used per step, drawn at random; None: all. Ranks are
        still those among all of them.

    Raises
    ------
    ParameterError
        A number is outside its range, or no documents are proposed at all.

    """

    live: int = 0
    teacher: int = 0
    random: int = 0
    shown: int | None = None

    def __post_init__(self) -> None:
        counts = [as_count(name, getattr(self, name), least=0) for name in ("live", "teacher", "random")]
        if not any(counts):
            raise ParameterError(f"proposals must not all be 0: {self}")
        if self.shown is not None:
            as_count("shown", self.shown)


class Teacher:
    """The original embeddings' best documents of queries, found exactly when they are first asked for."""

    def __init__(self, documents: np.ndarray, queries: np.ndarray, depth: int, threads: int) -> None:
        self._index = annvq.build(documents, "flat", metric="ip", threads=threads)
        self._queries = queries
        self._rows = np.full((len(queries), min(depth, len(documents))), -1, np.int64)
        self._threads = threads

    def best(self, queries: np.ndarray) -> np.ndarray:
        """Return the rows (len(queries), depth) of the best documents of some queries (int64), best first."""
        missing = queries[self._rows[queries, 0] < 0] if self._rows.shape[1] else queries[:0]
        if len(missing):
            k = self._rows.shape[1]
            self._rows[missing] = self._index.search(self._queries[missing], k=k, threads=self._threads).ids
        return self._rows[queries]


def drawn(rows: np.ndarray, count: int | None, rng: np.random.Generator) -> np.ndarray:
    """Return ``count`` of every row's entries (nq, k) in a random order, or all if there are no more than that."""
    if count is None or rows.shape[1] <= count:
        return rows
    return np.take_along_axis(rows, rng.random(rows.shape).argsort(axis=1)[:, :count], axis=1)
